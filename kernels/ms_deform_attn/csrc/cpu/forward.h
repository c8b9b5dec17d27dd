// SPDX-License-Identifier: Apache-2.0
//
// Forward: for each query and head, make the list of pixels to read and their weights, then sum them.
#pragma once

#include "channels.h"
#include "frame.h"
#include "loops.h"
#include "softmax.h"

namespace ms_deform_attn {
namespace {

constexpr int kMaxSamples = kMaxLevels * kMaxPoints;

// Frame and level of each sample of a head, as one array for each quantity, so that loops over samples vectorise.
struct SampleFrames {
  double origin_x[kMaxSamples], origin_y[kMaxSamples], scale_x[kMaxSamples], scale_y[kMaxSamples];
  int32_t width[kMaxSamples], height[kMaxSamples], first_pixel[kMaxSamples];
};

template <typename Real>
MS_DEFORM_ATTN_SHARED void set_frames(const Problem& problem, int64_t row, SampleFrames& frames) {
  for (int level = 0, i = 0; level < problem.num_levels; ++level) {
    const Frame frame = frame_of<Real>(problem, row, level);
    for (int point = 0; point < problem.num_points; ++point, ++i) {
      frames.origin_x[i] = frame.origin_x;
      frames.origin_y[i] = frame.origin_y;
      frames.scale_x[i] = frame.scale_x;
      frames.scale_y[i] = frame.scale_y;
      frames.width[i] = problem.levels[level].width;
      frames.height[i] = problem.levels[level].height;
      frames.first_pixel[i] = problem.levels[level].first_pixel;
    }
  }
}

// Pixels (places on axis s) to read for one query and head, and what to multiply them with.
template <typename Real>
struct Taps {
  int count;
  int32_t pixel[kMaxSamples * kNumCorners];
  Real weight[kMaxSamples * kNumCorners];
};

template <typename Real>
MS_DEFORM_ATTN_SHARED void find_taps(const SampleFrames& frames, const Real* __restrict__ positions,
                                     const Real* __restrict__ weights, int num_samples, Taps<Real>& taps) {
  int32_t pixel[kNumCorners][kMaxSamples];
  int32_t exists[kNumCorners][kMaxSamples];
  Real weight[kNumCorners][kMaxSamples];
  MS_DEFORM_ATTN_VECTORIZE
  for (int i = 0; i < num_samples; ++i) {
    const double x = frames.origin_x[i] + frames.scale_x[i] * positions[2 * i];
    const double y = frames.origin_y[i] + frames.scale_y[i] * positions[2 * i + 1];
    const int32_t width = frames.width[i], height = frames.height[i];
    const Cell<Real> cell = locate<Real>(x, y, width, height);
    Real corners[kNumCorners];
    corner_weights(weights[i], cell.right, cell.down, corners);
    const int32_t top_left = frames.first_pixel[i] + cell.top * width + cell.left;
    const int32_t left = cell.touches_level & (cell.left >= 0), right = cell.touches_level & (cell.left + 1 < width);
    const int32_t top = cell.top >= 0, bottom = cell.top + 1 < height;
    pixel[0][i] = top_left;
    pixel[1][i] = top_left + 1;
    pixel[2][i] = top_left + width;
    pixel[3][i] = top_left + width + 1;
    exists[0][i] = top & left;
    exists[1][i] = top & right;
    exists[2][i] = bottom & left;
    exists[3][i] = bottom & right;
    for (int corner = 0; corner < kNumCorners; ++corner) weight[corner][i] = corners[corner];
  }
  // Write all, keep those that exist: no branch to mispredict.
  int count = 0;
  for (int i = 0; i < num_samples; ++i) {
    for (int corner = 0; corner < kNumCorners; ++corner) {
      taps.pixel[count] = pixel[corner][i];
      taps.weight[count] = weight[corner][i];
      count += exists[corner][i];
    }
  }
  taps.count = count;
}

// Sums the taps of kWidth channels. `map` is the first of them at pixel 0; pixels are `stride` apart.
template <int kWidth, typename Value, typename Real>
MS_DEFORM_ATTN_SHARED void sum_taps(const Taps<Real>& taps, const Value* map, int64_t stride, Value* output) {
  using Run = Channels<Real, kWidth>;
  // All at once: the sum alone would not get far enough ahead of the memory.
  for (int i = 0; i < taps.count; ++i) prefetch<false>(map + taps.pixel[i] * stride, kWidth * sizeof(Value));
  // Two sums, so that additions need not wait for each other; but not where both would not fit into the registers.
  constexpr bool kTwoSums = Run::kVectors <= 4;
  Run sum, other_sum;
  int i = 0;
  if constexpr (kTwoSums) {
    for (; i + 1 < taps.count; i += 2) {
      sum.add_scaled(taps.weight[i], Run::load(map + taps.pixel[i] * stride));
      other_sum.add_scaled(taps.weight[i + 1], Run::load(map + taps.pixel[i + 1] * stride));
    }
  }
  for (; i < taps.count; ++i) sum.add_scaled(taps.weight[i], Run::load(map + taps.pixel[i] * stride));
  sum.add(other_sum);
  sum.store(output);
}

template <typename Real>
struct ForwardBuffers {
  SampleFrames frames;
  Taps<Real> taps;
  Real positions[2 * kMaxSamples];
  Real weights[kMaxSamples];
};

// One query (`row` of axes b q) and head.
template <typename Value, typename Parameter, typename Real>
inline void forward_head(const Problem& problem, int64_t row, int64_t head, ForwardBuffers<Real>& buffers,
                         Value* output) {
  const int num_samples = problem.num_levels * problem.num_points;
  const int64_t first_sample = (row * problem.num_heads + head) * num_samples;
  const Real* positions =
      as_real(static_cast<const Parameter*>(problem.positions) + 2 * first_sample, 2 * num_samples, buffers.positions);
  const Real* weights =
      as_real(static_cast<const Parameter*>(problem.weights) + first_sample, num_samples, buffers.weights);
  if (problem.reference) {
    softmax(weights, num_samples, buffers.weights);
    weights = buffers.weights;
  }
  find_taps(buffers.frames, positions, weights, num_samples, buffers.taps);

  const int64_t head_dim = problem.head_dim, stride = problem.num_heads * head_dim;
  const int64_t first_pixel = row / problem.num_queries * problem.num_pixels;
  const Value* map = static_cast<const Value*>(problem.value) + first_pixel * stride + head * head_dim;
  Value* sum = output + row * stride + head * head_dim;
  for_channels<Real>(head_dim, [&](int64_t channel, auto width) {
    sum_taps<decltype(width)::kValue>(buffers.taps, map + channel, stride, sum + channel);
  });
}

template <typename Value, typename Parameter>
void forward_rows(const Problem& problem, void* output, int64_t begin, int64_t end) {
  using Real = typename RealOf<Value>::Type;
  ForwardBuffers<Real> buffers;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t query = item % problem.num_queries;
    const int64_t row = problem.query_order ? item - query + problem.query_order[query] : item;
    if (item == begin || problem.reference) set_frames<Real>(problem, row, buffers.frames);
    for (int64_t head = 0; head < problem.num_heads; ++head) {
      forward_head<Value, Parameter>(problem, row, head, buffers, static_cast<Value*>(output));
    }
  }
}

}  // namespace
}  // namespace ms_deform_attn
