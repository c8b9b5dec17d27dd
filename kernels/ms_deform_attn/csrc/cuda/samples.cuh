// SPDX-License-Identifier: Apache-2.0
//
// Where to sample and with which weight: given as such (PlainSamples), or as the network's offsets and logits
// (FusedSamples). k numbers the samples of all groups, as their tensors hold them.
#pragma once

#include "../ms_deform_attn_math.h"
#include "geometry.cuh"
#include "places.cuh"

namespace ms_deform_attn::cuda {

// All lanes of a group get the result. All lanes of the warp take part, which also makes them wait for each other.
template <int kCount, typename A>
__device__ __forceinline__ A sum_over_lanes(A number) {
#pragma unroll
  for (int step = kCount / 2; step > 0; step /= 2) number += __shfl_xor_sync(0xffffffffu, number, step);
  return number;
}

// The sums over a group's 4 or 8 lanes of four numbers each. A lane gets one of them, that of its own number's last two
// bits. Twice it passes on half of what it has and adds to the rest: fewer instructions than four sums for all lanes.
template <int kCount, typename A>
__device__ __forceinline__ A sum_of_four(const A (&numbers)[4], int lane) {
  const bool upper = lane & 2, odd = lane & 1;
  const A kept[2] = {upper ? numbers[2] : numbers[0], upper ? numbers[3] : numbers[1]};
  const A given[2] = {upper ? numbers[0] : numbers[2], upper ? numbers[1] : numbers[3]};
  const A even_sum = kept[0] + __shfl_xor_sync(0xffffffffu, given[0], 2);
  const A odd_sum = kept[1] + __shfl_xor_sync(0xffffffffu, given[1], 2);
  A sum = (odd ? odd_sum : even_sum) + __shfl_xor_sync(0xffffffffu, odd ? even_sum : odd_sum, 1);
  if (kCount == 8) sum += __shfl_xor_sync(0xffffffffu, sum, 4);
  return sum;
}

template <int kCount, typename A>
__device__ __forceinline__ A largest_over_lanes(A number) {
#pragma unroll
  for (int step = kCount / 2; step > 0; step /= 2) {
    const A other = __shfl_xor_sync(0xffffffffu, number, step);
    number = other > number ? other : number;
  }
  return number;
}

template <typename P, typename A>
struct PlainSamples {
  static constexpr bool kFused = false;
  const P* __restrict__ points;   // sampling locations (b q m l p 2), 1 being the far edge of the map
  const P* __restrict__ weights;  // (b q m l p)

  template <int kCount>
  __device__ __forceinline__ void begin(const Group&, const Geometry&) {}

  __device__ __forceinline__ A weight(int64_t k) const { return widen(weights[k]); }

  // kFast: floats and 16-bit numbers, on levels of at most 2^24 pixels along each axis.
  template <bool kFast>
  __device__ __forceinline__ Cell<A> cell(int64_t k, int64_t, const Map& map) const {
    const Pair<P> location = reinterpret_cast<const Pair<P>*>(points)[k];
    const A x = widen(location.x), y = widen(location.y);
    if constexpr (kFast) {
      if (!MS_DEFORM_ATTN_DOUBLE_PLACES) {
        return locate_from_outside(product_of(x, map.width) + 0.5f, product_of(y, map.height) + 0.5f, map);
      }
    }
    return locate<A>(double(x) * map.width - 0.5, double(y) * map.height - 0.5, map.width, map.height);
  }

  // How far a step of 1 in `points` moves the place.
  __device__ __forceinline__ Pair<A> step(const Map& map) const { return {A(map.width), A(map.height)}; }
};

template <typename P, typename A>
struct FusedSamples {
  static constexpr bool kFused = true;
  const P* __restrict__ points;            // offsets in pixels (b q m l p 2)
  const P* __restrict__ weights;           // logits (b q m l p), whose softmax over l and p are the weights
  const A* __restrict__ reference_points;  // (b q l 2), 1 being the far edge of the map
  A largest, scale;

  template <int kCount>
  __device__ __forceinline__ void begin(const Group& group, const Geometry& geometry) {
    const P* logits = weights + group.first_sample(geometry);
    const int num_samples = group.is_alive() ? geometry.num_samples : 0;
    largest = num_samples ? widen(logits[0]) : 0;
#pragma unroll 1
    for (int k = group.lane; k < num_samples; k += kCount) {
      const A logit = widen(logits[k]);
      largest = logit > largest ? logit : largest;
    }
    largest = largest_over_lanes<kCount>(largest);
    A sum = 0;
#pragma unroll 1
    for (int k = group.lane; k < num_samples; k += kCount) sum += exp(widen(logits[k]) - largest);
    scale = A(1) / sum_over_lanes<kCount>(sum);
  }

  __device__ __forceinline__ A weight(int64_t k) const { return exp(widen(weights[k]) - largest) * scale; }

  // row: (b * num_queries + q) * num_levels + l
  template <bool kFast>
  __device__ __forceinline__ Cell<A> cell(int64_t k, int64_t row, const Map& map) const {
    const Pair<P> offset = reinterpret_cast<const Pair<P>*>(points)[k];
    const Pair<A> start = reinterpret_cast<const Pair<A>*>(reference_points)[row];
    const A x = widen(offset.x), y = widen(offset.y);
    if constexpr (kFast) {
      if (!MS_DEFORM_ATTN_DOUBLE_PLACES) {
        return locate_from_outside(product_of(start.x, map.width) + 0.5f + x,
                                   product_of(start.y, map.height) + 0.5f + y, map);
      }
    }
    return locate<A>(double(start.x) * map.width - 0.5 + double(x), double(start.y) * map.height - 0.5 + double(y),
                     map.width, map.height);
  }

  __device__ __forceinline__ Pair<A> step(const Map&) const { return {A(1), A(1)}; }
};

// Where the corners of a sample begin in memory: pixels of all levels, times a factor. Negative outside.
struct alignas(16) Offsets {
  int corners[kNumCorners];
};
constexpr Offsets kOutside{{-1, -1, -1, -1}};

template <typename A>
__device__ __forceinline__ Offsets offsets_of(const Cell<A>& cell, const Map& map, int factor) {
  if (!cell.touches_level) return kOutside;
  const int offset = (map.start + cell.top * map.width + cell.left) * factor, down = map.width * factor;
  const bool has_left = cell.left >= 0, has_right = cell.left + 1 < map.width;
  const bool has_top = cell.top >= 0, has_bottom = cell.top + 1 < map.height;
  return {{has_left && has_top ? offset : -1, has_right && has_top ? offset + factor : -1,
           has_left && has_bottom ? offset + down : -1, has_right && has_bottom ? offset + down + factor : -1}};
}

// Moves a sample near a border inside, along one axis, and takes from its weight what falls to corners outside. Returns
// how many pixels the second corner is from the first: 0 where one of them was outside. Then both are the other one,
// with half of its weight each; not all and nothing, because infinity times 0 is no number.
template <typename A>
__device__ __forceinline__ int move_inside(int& first, A& fraction, A& weight, int length) {
  const bool before = first < 0, behind = first + 1 >= length;
  if (!before && !behind) return 1;
  weight *= before ? fraction : 1 - fraction;
  fraction = A(0.5);
  if (before) first = 0;
  return 0;
}

// Offsets of corners that give the same sum as those of `offsets_of`, once cell and weight have been moved inside. None
// of them is outside, or all are.
template <typename A>
__device__ __forceinline__ Offsets offsets_inside(Cell<A>& cell, A& weight, const Map& map, int factor) {
  if (!cell.touches_level) return kOutside;
  const int right = move_inside(cell.left, cell.right, weight, map.width) * factor;
  const int down = move_inside(cell.top, cell.down, weight, map.height) * map.width * factor;
  const int offset = (map.start + cell.top * map.width + cell.left) * factor;
  return {{offset, offset + right, offset + down, offset + down + right}};
}

}  // namespace ms_deform_attn::cuda
