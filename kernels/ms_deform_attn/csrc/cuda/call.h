// SPDX-License-Identifier: Apache-2.0
//
// What the host code, which knows torch, and the kernels, which know CUDA, agree on. Plain C++.
#pragma once

#include <stdint.h>

#include "../ms_deform_attn_math.h"

namespace ms_deform_attn::cuda {

// Queries of a tile, at most: a thread for each.
constexpr int kLargestTile = 1024;

struct Map {
  int height, width, start;
};

// Queries in tiles, so that the neighbours in a block sample neighbouring pixels and find them in the L1 cache. Where
// queries are the pixels of the levels, a tile is a rectangle of one level; otherwise all queries are one row.
struct Tiles {
  int num_maps, num_tiles;
  int width_bits;  // tiles are 1 << width_bits queries wide
  int head_bits;   // a block has 1 << head_bits heads of its tile
  Map maps[kMaxLevels];
  int first[kMaxLevels];    // number of the first tile of a map
  int per_row[kMaxLevels];  // tiles from the left to the right border
};

struct Geometry {
  int num_levels, num_points, num_samples, num_pixels, num_queries, num_heads, head_dim;
  int level_factor;     // of `level_of`
  int64_t first_image;  // of those that blocks are started for
  Map levels[kMaxLevels];
  Tiles tiles;

  // sample / num_points, for the samples of a query and head. Without a division, which takes some twenty instructions.
  MS_DEFORM_ATTN_INLINE int level_of(int sample) const { return sample * level_factor >> 16; }
};

inline Geometry make_geometry(const int64_t* heights_and_widths, int num_levels, int num_points, int64_t num_queries,
                              int num_heads, int head_dim) {
  Geometry geometry{};
  geometry.num_levels = num_levels;
  geometry.num_points = num_points;
  geometry.num_samples = num_levels * num_points;
  geometry.level_factor = (1 << 16) / num_points + 1;
  geometry.num_queries = int(num_queries);
  geometry.num_heads = num_heads;
  geometry.head_dim = head_dim;
  for (int level = 0; level < num_levels; ++level) {
    Map& map = geometry.levels[level];
    map = {int(heights_and_widths[2 * level]), int(heights_and_widths[2 * level + 1]), geometry.num_pixels};
    geometry.num_pixels += map.height * map.width;
  }
  return geometry;
}

enum class Number { kFloat, kHalf, kBFloat16, kDouble };

// One call of the operator, fused or not, forward or backward. All tensors are dense and aligned to 16 bytes.
struct Call {
  Number value_type;      // of value, output and its gradient
  Number parameter_type;  // of points and weights: the same, or float beside 16-bit values
  bool fused, queries_are_pixels;
  int64_t batch_size;
  Geometry geometry;  // tiles are filled in here
  const void *value, *points, *weights, *reference_points;
  void* output;
  const void* grad_output;
  void *grad_value, *grad_points, *grad_weights;
};

// Runs it on a stream (a cudaStream_t) of the current device. Returns null, or what went wrong.
const char* run_on_stream(const Call& call, bool backward, void* stream);

}  // namespace ms_deform_attn::cuda
