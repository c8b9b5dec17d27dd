// SPDX-License-Identifier: Apache-2.0
//
// The formulas of multi-scale deformable attention, each once, for every processor.
//
// A sample is one point on one level. Its place is (x, y) in pixels of that level, pixel centres at whole numbers: the
// sampling location times the level's size, minus one half. It is interpolated between four corners, always in this
// order: top left, top right, bottom left, bottom right. Corners outside the level count as zero.
#pragma once

#include <stdint.h>

#if defined(__CUDACC__)
#define MS_DEFORM_ATTN_INLINE __host__ __device__ __forceinline__
#else
#define MS_DEFORM_ATTN_INLINE inline __attribute__((always_inline))
#endif

namespace ms_deform_attn {
// Without external linkage: each instruction set must keep its own copy of these functions, and a linker may merge
// inline functions of the same name, which would run AVX-512 code on a processor without it.
namespace {

constexpr int kMaxLevels = 8;
constexpr int kMaxPoints = 16;
constexpr int kNumCorners = 4;

// The type of all arithmetic on values of a type.
template <typename Value>
struct RealOf {
  using Type = float;
};
template <>
struct RealOf<double> {
  using Type = double;
};

// Where a sample lies between its corners.
template <typename Real>
struct Cell {
  bool touches_level;  // if not, all corners are outside
  int32_t left, top;   // pixel of the top left corner, from -1 (outside) to width - 1, height - 1
  Real right, down;    // how far the sample is from that corner towards the others, 0 to 1
};

// Coordinates are double because a rounding error across a pixel's centre changes which slope a gradient sees: in
// float32, at a width of 333, that happens to a few samples in a million. NaN and infinities touch no level, and
// nothing is converted to an integer before that is known: known of the very number that is converted, because one more
// than the last number below `width` may round to `width` + 1.
template <typename Real>
MS_DEFORM_ATTN_INLINE Cell<Real> locate(double x, double y, int32_t width, int32_t height) {
  Cell<Real> cell;
  // Counted from one pixel further out, so that truncation rounds down.
  const double from_left = x + 1, from_top = y + 1;
  cell.touches_level = from_left > 0 && from_top > 0 && from_left < width + 1 && from_top < height + 1;
  const double column = cell.touches_level ? from_left : 0;
  const double row = cell.touches_level ? from_top : 0;
  cell.left = static_cast<int32_t>(column) - 1;
  cell.top = static_cast<int32_t>(row) - 1;
  cell.right = static_cast<Real>(column - (cell.left + 1));
  cell.down = static_cast<Real>(row - (cell.top + 1));
  return cell;
}

// Share of each corner in a sample of this weight.
template <typename Real>
MS_DEFORM_ATTN_INLINE void corner_weights(Real weight, Real right, Real down, Real (&corners)[kNumCorners]) {
  const Real bottom = weight * down;
  const Real top = weight - bottom;
  corners[1] = top * right;
  corners[0] = top - corners[1];
  corners[3] = bottom * right;
  corners[2] = bottom - corners[3];
}

// A quantity given at the four corners, at the sample, with its slopes per pixel.
template <typename Real>
struct Interpolated {
  Real value, slope_x, slope_y;
};

template <typename Real>
MS_DEFORM_ATTN_INLINE Interpolated<Real> interpolate(Real top_left, Real top_right, Real bottom_left, Real bottom_right,
                                                     Real right, Real down) {
  const Real slope_top = top_right - top_left;
  const Real slope_bottom = bottom_right - bottom_left;
  const Real top = top_left + right * slope_top;
  const Real bottom = bottom_left + right * slope_bottom;
  Interpolated<Real> result;
  result.slope_y = bottom - top;
  result.value = top + down * result.slope_y;
  result.slope_x = slope_top + down * (slope_bottom - slope_top);
  return result;
}

}  // namespace
}  // namespace ms_deform_attn
