// SPDX-License-Identifier: Apache-2.0
//
// Where to sample and with which weight: given as such (PlainSamples), or as the network's offsets and logits
// (FusedSamples). k numbers the samples of all groups, as their tensors hold them. Places are double, for the reason
// given at `locate`.
#pragma once

#include "../ms_deform_attn_math.h"
#include "geometry.cuh"

namespace ms_deform_attn::cuda {

// All lanes of a group get the result. All lanes of the warp take part, which also makes them wait for each other.
template <int kCount, typename A>
__device__ __forceinline__ A sum_over_lanes(A number) {
#pragma unroll
  for (int step = kCount / 2; step > 0; step /= 2) number += __shfl_xor_sync(0xffffffffu, number, step);
  return number;
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

  __device__ __forceinline__ Pair<double> place(int64_t k, int64_t, const Map& map) const {
    const Pair<P> location = reinterpret_cast<const Pair<P>*>(points)[k];
    return {double(widen(location.x)) * map.width - 0.5, double(widen(location.y)) * map.height - 0.5};
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
    largest = widen(logits[0]);
#pragma unroll 1
    for (int k = group.lane; k < geometry.num_samples; k += kCount) {
      const A logit = widen(logits[k]);
      largest = logit > largest ? logit : largest;
    }
    largest = largest_over_lanes<kCount>(largest);
    A sum = 0;
#pragma unroll 1
    for (int k = group.lane; k < geometry.num_samples; k += kCount) sum += exp(widen(logits[k]) - largest);
    scale = A(1) / sum_over_lanes<kCount>(sum);
  }

  __device__ __forceinline__ A weight(int64_t k) const { return exp(widen(weights[k]) - largest) * scale; }

  // row: (b * num_queries + q) * num_levels + l
  __device__ __forceinline__ Pair<double> place(int64_t k, int64_t row, const Map& map) const {
    const Pair<P> offset = reinterpret_cast<const Pair<P>*>(points)[k];
    const Pair<A> start = reinterpret_cast<const Pair<A>*>(reference_points)[row];
    return {double(start.x) * map.width - 0.5 + double(widen(offset.x)),
            double(start.y) * map.height - 0.5 + double(widen(offset.y))};
  }

  __device__ __forceinline__ Pair<A> step(const Map&) const { return {A(1), A(1)}; }
};

// The corners of a sample as numbers of pixels of all levels, -1 outside.
struct alignas(16) Corners {
  int pixels[kNumCorners];
};

template <typename A>
__device__ __forceinline__ Corners corners_of(const Cell<A>& cell, const Map& map) {
  if (!cell.touches_level) return {{-1, -1, -1, -1}};
  const int pixel = map.start + cell.top * map.width + cell.left;
  const bool has_left = cell.left >= 0, has_right = cell.left + 1 < map.width;
  const bool has_top = cell.top >= 0, has_bottom = cell.top + 1 < map.height;
  return {{has_left && has_top ? pixel : -1, has_right && has_top ? pixel + 1 : -1,
           has_left && has_bottom ? pixel + map.width : -1, has_right && has_bottom ? pixel + map.width + 1 : -1}};
}

}  // namespace ms_deform_attn::cuda
