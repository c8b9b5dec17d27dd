// SPDX-License-Identifier: Apache-2.0
//
// Which thread works on what. A query and head is the work of a group of lanes, each with some of its channels; a block
// is a tile of queries with one head or several. Axes: b batch, s pixel of all levels, q query, m head.
#pragma once

#include "call.h"
#include "numbers.cuh"

// Sizes that only a GPU can decide about, each to be set with -D.
#ifndef MS_DEFORM_ATTN_FORWARD_THREADS  // of a block
#define MS_DEFORM_ATTN_FORWARD_THREADS 256
#endif
#ifndef MS_DEFORM_ATTN_BACKWARD_THREADS
#define MS_DEFORM_ATTN_BACKWARD_THREADS 256
#endif
// Blocks that an SM shall hold at least, which bounds the registers: half of its 2048 threads.
#ifndef MS_DEFORM_ATTN_FORWARD_BLOCKS
#define MS_DEFORM_ATTN_FORWARD_BLOCKS 4
#endif
#ifndef MS_DEFORM_ATTN_BACKWARD_BLOCKS
#define MS_DEFORM_ATTN_BACKWARD_BLOCKS 4
#endif
// Lanes of a group: 4 or 8. So many that the forward moves 32 channels in one access of 16 bytes a lane, the backward in
// one of four numbers.
#ifndef MS_DEFORM_ATTN_FORWARD_LANES
#define MS_DEFORM_ATTN_FORWARD_LANES (sizeof(T) == 2 ? 4 : 8)
#endif
#ifndef MS_DEFORM_ATTN_BACKWARD_LANES
#define MS_DEFORM_ATTN_BACKWARD_LANES 8
#endif
// Heads of a block: 1, 2 or 4. A pixel's 32 channels of one head are 64 bytes in 16 bits, half of a line of the cache.
// Of two groups that read at one time, one reads the lower half and one the upper, lest both want the same banks.
#ifndef MS_DEFORM_ATTN_HEADS
#define MS_DEFORM_ATTN_HEADS (sizeof(T) == 2 ? 2 : 1)
#endif

namespace ms_deform_attn::cuda {

// The head width for which everything about channels is known to the compiler.
constexpr int kFastHeadDim = 32;

template <typename T, bool kForward>
constexpr int kLanes = kForward ? MS_DEFORM_ATTN_FORWARD_LANES : MS_DEFORM_ATTN_BACKWARD_LANES;
template <typename T>
constexpr int kHeads = MS_DEFORM_ATTN_HEADS;
template <bool kForward>
constexpr int kThreads = kForward ? MS_DEFORM_ATTN_FORWARD_THREADS : MS_DEFORM_ATTN_BACKWARD_THREADS;
template <bool kForward>
constexpr int kBlocks = kForward ? MS_DEFORM_ATTN_FORWARD_BLOCKS : MS_DEFORM_ATTN_BACKWARD_BLOCKS;
// Groups of a block: (query, head) with the head first.
template <typename T, bool kForward>
constexpr int kGroups = kThreads<kForward> / kLanes<T, kForward>;
// Tiles of pixels are 8 wide.
constexpr int kTileWidthBits = 3;

inline Tiles make_tiles(const Geometry& geometry, bool queries_are_pixels, int num_groups, int num_heads) {
  Tiles tiles{};
  if (geometry.num_heads % num_heads) num_heads = 1;
  while (1 << tiles.head_bits < num_heads) ++tiles.head_bits;
  const int tile_size = num_groups / num_heads;
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

// Returns the query, negative where the tile reaches beyond the border.
__device__ __forceinline__ int query_in_tile(const Tiles& tiles, int tile, int slot) {
  int i = 0;
  while (i + 1 < tiles.num_maps && tile >= tiles.first[i + 1]) ++i;
  const Map map = tiles.maps[i];
  const int down = (tile - tiles.first[i]) / tiles.per_row[i];
  const int right = (tile - tiles.first[i]) - down * tiles.per_row[i];
  const int row = down * (int(blockDim.y) >> (tiles.width_bits + tiles.head_bits)) + (slot >> tiles.width_bits);
  const int column = (right << tiles.width_bits) + (slot & ((1 << tiles.width_bits) - 1));
  return row < map.height && column < map.width ? map.start + row * map.width + column : -1;
}

// The work of one group of lanes. A block is (lanes, groups), the grid is (tiles and heads, images): the heads number
// the blocks fastest, so that the blocks at work at one time share a region of one image.
struct Group {
  int lane, index, head;
  int64_t image_query;  // b * num_queries + q. Negative beyond the border: the group has no samples and writes nothing

  __device__ __forceinline__ bool is_alive() const { return image_query >= 0; }

  // Computed where they are needed: registers are scarce.
  static __device__ __forceinline__ int64_t image(const Geometry& geometry) {
    return geometry.first_image + int64_t(blockIdx.y);
  }
  __device__ __forceinline__ int64_t first_sample(const Geometry& geometry) const {
    return (image_query * geometry.num_heads + head) * geometry.num_samples;
  }
  __device__ __forceinline__ int64_t first_channel(const Geometry& geometry, int head_dim) const {
    return (image_query * geometry.num_heads + head) * head_dim;
  }
};

__device__ __forceinline__ Group this_group(const Geometry& geometry) {
  const Tiles& tiles = geometry.tiles;
  Group group;
  group.lane = int(threadIdx.x);
  group.index = int(threadIdx.y);
  const unsigned blocks_of_tile = unsigned(geometry.num_heads) >> tiles.head_bits;
  const unsigned tile = blockIdx.x / blocks_of_tile;
  const int first_head = int(blockIdx.x - tile * blocks_of_tile) << tiles.head_bits;
  group.head = first_head + (group.index & ((1 << tiles.head_bits) - 1));
  const int query = query_in_tile(tiles, int(tile), group.index >> tiles.head_bits);
  group.image_query = query < 0 ? -1 : Group::image(geometry) * geometry.num_queries + query;
  return group;
}

}  // namespace ms_deform_attn::cuda
