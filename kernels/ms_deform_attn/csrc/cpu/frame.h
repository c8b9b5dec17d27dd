// SPDX-License-Identifier: Apache-2.0
//
// The one place where the plain and the fused form differ: what a sample's place is counted from, and in.
#pragma once

#include "../ms_deform_attn_math.h"
#include "loops.h"

namespace ms_deform_attn {
namespace {

// x = origin_x + scale_x * position, in pixels of the level, and the same for y.
struct Frame {
  double origin_x, origin_y, scale_x, scale_y;
};

template <typename Real>
MS_DEFORM_ATTN_INLINE Frame frame_of(const Problem& problem, int64_t row, int level) {
  const Level& size = problem.levels[level];
  if (!problem.reference) return {-0.5, -0.5, static_cast<double>(size.width), static_cast<double>(size.height)};
  const Real* point = static_cast<const Real*>(problem.reference) + (row * problem.num_levels + level) * 2;
  return {static_cast<double>(point[0]) * size.width - 0.5, static_cast<double>(point[1]) * size.height - 0.5, 1, 1};
}

}  // namespace
}  // namespace ms_deform_attn
