// SPDX-License-Identifier: Apache-2.0
//
// From a call to the kernel for its types and head width. How a kernel is started is the caller's: on a GPU, or in the
// emulator.
#pragma once

#include <algorithm>
#include <type_traits>

#include "ms_deform_attn_kernels.cuh"

namespace ms_deform_attn::cuda {

// What a kernel is started with. A thread block is (lanes, groups), the grid is (blocks, images).
struct Grid {
  int64_t blocks;
  int images, lanes, groups, shared_bytes;
};

template <typename T, bool kForward>
Grid make_grid(const Call& call, Geometry& geometry) {
  static_assert(kLanes<T, kForward> == 4 || kLanes<T, kForward> == 8, "the lanes of a group are 4 or 8");
  static_assert((kGroups<T, kForward> & (kGroups<T, kForward> - 1)) == 0 &&
                    kGroups<T, kForward> >= kHeads<T> << kTileWidthBits,
                "the groups of a block are a power of two, and fill a row of a tile with each head");
  geometry.tiles = make_tiles(geometry, call.queries_are_pixels, kGroups<T, kForward>, kHeads<T>);
  return {int64_t(geometry.tiles.num_tiles) * (geometry.num_heads >> geometry.tiles.head_bits), 0, kLanes<T, kForward>,
          kGroups<T, kForward>, shared_bytes<T, kForward>(geometry, call.fused)};
}

// Whether the kernels for a head width known to the compiler can do it: they count accesses of four numbers in 32 bits,
// also to corners outside, before they leave these out; and they take sides of levels as floats.
inline bool is_fast(const Geometry& geometry) {
  const int64_t accesses = int64_t(geometry.num_pixels) * geometry.num_heads * geometry.head_dim / 4;
  bool fits = geometry.head_dim == kFastHeadDim && accesses <= INT32_MAX / 2;
  for (int level = 0; level < geometry.num_levels; ++level) {
    fits = fits && geometry.levels[level].height < 1 << 24 && geometry.levels[level].width < 1 << 24;
  }
  return fits;
}

template <typename T, typename P, bool kFused>
auto make_samples(const Call& call) {
  using A = computed_t<T>;
  const P* points = static_cast<const P*>(call.points);
  const P* weights = static_cast<const P*>(call.weights);
  if constexpr (kFused) {
    return FusedSamples<P, A>{points, weights, static_cast<const A*>(call.reference_points), A(0), A(0)};
  } else {
    return PlainSamples<P, A>{points, weights};
  }
}

// Launcher: start(kernel, grid, arguments of the kernel...), and kMostImages of a grid. More images take more grids.
template <typename T, typename P, bool kFused, int kHeadDim, typename Launcher>
void launch_kernel(const Call& call, bool backward, const Launcher& launcher) {
  using A = computed_t<T>;
  const auto samples = make_samples<T, P, kFused>(call);
  using Samples = std::remove_const_t<decltype(samples)>;
  const T* value = static_cast<const T*>(call.value);
  Geometry geometry = call.geometry;
  Grid grid = backward ? make_grid<T, false>(call, geometry) : make_grid<T, true>(call, geometry);
  for (; geometry.first_image < call.batch_size; geometry.first_image += Launcher::kMostImages) {
    grid.images = int(std::min(call.batch_size - geometry.first_image, Launcher::kMostImages));
    if (backward) {
      launcher.start(backward_kernel<T, Samples, P, kHeadDim>, grid, static_cast<const T*>(call.grad_output), value,
                     samples, static_cast<A*>(call.grad_value), static_cast<P*>(call.grad_points),
                     static_cast<P*>(call.grad_weights), geometry);
    } else {
      launcher.start(forward_kernel<T, Samples, kHeadDim>, grid, value, samples, static_cast<T*>(call.output),
                     geometry);
    }
  }
}

template <typename T, typename P, typename Launcher>
void launch_types(const Call& call, bool backward, const Launcher& launcher) {
  // Doubles are for tests of gradients: no code is spent on their speed.
  constexpr int kFast = std::is_same_v<T, double> ? 0 : kFastHeadDim;
  const bool fast = kFast && is_fast(call.geometry);
  if (call.fused) {
    fast ? launch_kernel<T, P, true, kFast>(call, backward, launcher)
         : launch_kernel<T, P, true, 0>(call, backward, launcher);
  } else {
    fast ? launch_kernel<T, P, false, kFast>(call, backward, launcher)
         : launch_kernel<T, P, false, 0>(call, backward, launcher);
  }
}

template <typename Launcher>
void launch(const Call& call, bool backward, const Launcher& launcher) {
  const bool mixed = call.parameter_type != call.value_type;
  switch (call.value_type) {
    case Number::kFloat:
      return launch_types<float, float>(call, backward, launcher);
    case Number::kDouble:
      return launch_types<double, double>(call, backward, launcher);
    case Number::kHalf:
      return mixed ? launch_types<__half, float>(call, backward, launcher)
                   : launch_types<__half, __half>(call, backward, launcher);
    case Number::kBFloat16:
      return mixed ? launch_types<__nv_bfloat16, float>(call, backward, launcher)
                   : launch_types<__nv_bfloat16, __nv_bfloat16>(call, backward, launcher);
  }
}

}  // namespace ms_deform_attn::cuda
