// SPDX-License-Identifier: Apache-2.0
//
// Which thread works on what. A query and head is the work of a group of lanes, each with 16 bytes of channels at a
// time; a block is one head of a tile of queries. Axes: b batch, s pixel of all levels, q query, m head.
#pragma once

#include "call.h"
#include "numbers.cuh"

namespace ms_deform_attn::cuda {

// The head width for which everything about channels is known to the compiler.
constexpr int kFastHeadDim = 32;

// Lanes of a group: 32 channels in 16-byte accesses.
template <typename T>
constexpr int kLanes = sizeof(T) == 2 ? 4 : 8;
// Queries in a tile, which is a block: 8 x 8 where memory allows. With doubles, which are for tests, shared memory does
// not; and the backward in float would have too few registers.
template <typename T, bool kForward>
constexpr int kTile = sizeof(T) == 2 || (sizeof(T) == 4 && kForward) ? kLargestTile : kLargestTile / 2;
template <typename T, bool kForward>
constexpr int kThreads = kLanes<T>* kTile<T, kForward>;
// Blocks that an SM shall hold at least, which bounds the registers: half of its 2048 threads in the forward. The
// backward waits for additions in the L2 cache rather than for loads, and needs more registers.
template <typename T, bool kForward>
constexpr int kBlocks = (kForward ? 1024 : 768) / kThreads<T, kForward>;
// Tiles of pixels are 8 wide.
constexpr int kTileWidthBits = 3;

inline Tiles make_tiles(const Geometry& geometry, bool queries_are_pixels, int tile_size) {
  Tiles tiles{};
  tiles.num_maps = queries_are_pixels ? geometry.num_levels : 1;
  tiles.width_bits = kTileWidthBits;
  while (!queries_are_pixels && 1 << tiles.width_bits < tile_size) ++tiles.width_bits;
  const int tile_width = 1 << tiles.width_bits, tile_height = tile_size / tile_width;
  for (int i = 0; i < tiles.num_maps; ++i) {
    const Map map = queries_are_pixels ? geometry.levels[i] : Map{1, geometry.num_queries, 0};
    tiles.maps[i] = map;
    tiles.first[i] = tiles.num_tiles;
    tiles.per_row[i] = (map.width + tile_width - 1) / tile_width;
    tiles.num_tiles += tiles.per_row[i] * ((map.height + tile_height - 1) / tile_height);
  }
  return tiles;
}

// Returns the query, or -1 where the tile reaches beyond the border.
__device__ __forceinline__ int query_in_tile(const Tiles& tiles, int tile, int slot) {
  int i = 0;
  while (i + 1 < tiles.num_maps && tile >= tiles.first[i + 1]) ++i;
  const Map map = tiles.maps[i];
  const int down = (tile - tiles.first[i]) / tiles.per_row[i];
  const int right = (tile - tiles.first[i]) - down * tiles.per_row[i];
  const int row = down * (int(blockDim.y) >> tiles.width_bits) + (slot >> tiles.width_bits);
  const int column = (right << tiles.width_bits) + (slot & ((1 << tiles.width_bits) - 1));
  return row < map.height && column < map.width ? map.start + row * map.width + column : -1;
}

// The work of one group of lanes. A block is (lanes, queries of the tile); batch, tile and head number the blocks, the
// head fastest, so that the blocks at work at one time share a region of one image.
struct Group {
  int lane, slot, head;
  bool alive;  // false beyond the border: such a group does the work of query 0, but samples and writes nothing
  int64_t batch;
  int64_t batch_query;  // b * num_queries + q

  // Computed where they are needed, rather than kept in registers.
  __device__ __forceinline__ int64_t first_channel(int num_heads, int head_dim) const {
    return (batch_query * num_heads + head) * head_dim;
  }
  __device__ __forceinline__ int64_t first_sample(const Geometry& geometry) const {
    return (batch_query * geometry.num_heads + head) * geometry.num_samples;
  }
};

__device__ __forceinline__ Group this_group(const Geometry& geometry) {
  Group group;
  group.lane = int(threadIdx.x);
  group.slot = int(threadIdx.y);
  const unsigned batch_tile = blockIdx.x / unsigned(geometry.num_heads);
  group.head = int(blockIdx.x - batch_tile * unsigned(geometry.num_heads));
  group.batch = batch_tile / unsigned(geometry.tiles.num_tiles);
  const int tile = int(batch_tile - unsigned(group.batch) * unsigned(geometry.tiles.num_tiles));
  const int query = query_in_tile(geometry.tiles, tile, group.slot);
  group.alive = query >= 0;
  group.batch_query = group.batch * geometry.num_queries + (group.alive ? query : 0);
  return group;
}

}  // namespace ms_deform_attn::cuda
