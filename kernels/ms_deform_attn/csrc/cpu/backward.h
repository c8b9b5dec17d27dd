// SPDX-License-Identifier: Apache-2.0
//
// Backward of the sampling, one head on one level at a time. Such an item owns its part of every gradient, so there are
// no atomic additions and the sums have one order.
//
// Its part of the values is first copied to memory of its own, with a border of zeros, and its part of their gradient
// is summed in such a memory too: neighbouring pixels then lie side by side (in the tensors, the other heads lie
// between them, and an eighth of the cache would have to do), no corner is ever outside, and bfloat16 sums are kept in
// float.
#pragma once

#include "channels.h"
#include "frame.h"
#include "loops.h"

namespace ms_deform_attn {
namespace {

constexpr int kBlockQueries = 16;  // so many at once: long enough loops, and time for the next ones' data to arrive
constexpr int kMaxBlockSamples = kBlockQueries * kMaxPoints;

// A level with a border of one pixel around it, one head: (height + 2, width + 2, head_dim).
template <typename Real>
struct PaddedMap {
  Real* data;
  int64_t height, width, head_dim;

  MS_DEFORM_ATTN_INLINE int64_t row_size() const { return (width + 2) * head_dim; }
  MS_DEFORM_ATTN_INLINE int64_t size() const { return (height + 2) * row_size(); }
  MS_DEFORM_ATTN_INLINE Real* inner_row(int64_t y) const { return data + (y + 1) * row_size() + head_dim; }
};

// Floats of one padded map, rounded up to keep the next one aligned.
inline int64_t padded_size(const Level& level, int64_t head_dim) {
  const int64_t size = (level.height + int64_t{2}) * (level.width + int64_t{2}) * head_dim;
  return (size + 15) / 16 * 16;
}

inline int64_t backward_scratch_size(const Problem& problem) {
  int64_t largest = 0;
  for (int level = 0; level < problem.num_levels; ++level) {
    const int64_t size = padded_size(problem.levels[level], problem.head_dim);
    largest = size > largest ? size : largest;
  }
  return 2 * largest * static_cast<int64_t>(problem.value_type == DataType::kFloat64 ? sizeof(double) : sizeof(float));
}

// `pixels` is the item's first pixel in a tensor (b s m d), where pixels are `stride` apart.
template <typename Value, typename Real>
MS_DEFORM_ATTN_SHARED void copy_in(const Value* pixels, int64_t stride, const PaddedMap<Real>& map) {
  memset(map.data, 0, map.row_size() * sizeof(Real));
  memset(map.data + map.size() - map.row_size(), 0, map.row_size() * sizeof(Real));
  for (int64_t y = 0; y < map.height; ++y) {
    Real* row = map.inner_row(y);
    memset(row - map.head_dim, 0, map.head_dim * sizeof(Real));
    for (int64_t x = 0; x < map.width; ++x, pixels += stride, row += map.head_dim) {
      for_channels<Real>(map.head_dim, [&](int64_t channel, auto width) {
        Channels<Real, decltype(width)::kValue>::load(pixels + channel).store(row + channel);
      });
    }
    memset(row, 0, map.head_dim * sizeof(Real));
  }
}

template <typename Value, typename Real>
MS_DEFORM_ATTN_SHARED void copy_out(const PaddedMap<Real>& map, Value* pixels, int64_t stride) {
  for (int64_t y = 0; y < map.height; ++y) {
    const Real* row = map.inner_row(y);
    for (int64_t x = 0; x < map.width; ++x, pixels += stride, row += map.head_dim) {
      for_channels<Real>(map.head_dim, [&](int64_t channel, auto width) {
        Channels<Real, decltype(width)::kValue>::load(row + channel).store(pixels + channel);
      });
    }
  }
}

// The samples of up to kBlockQueries queries on one level: one array for each quantity, p running fastest.
template <typename Real>
struct Block {
  int num_queries, num_points;
  double x[kMaxBlockSamples], y[kMaxBlockSamples];
  double scale_x, scale_y;  // slope of a place against what the caller gave, the same for all samples
  Real weight[kMaxBlockSamples], right[kMaxBlockSamples], down[kMaxBlockSamples];
  int32_t pixel[kMaxBlockSamples];  // of the top left corner, in a padded map
  int32_t touches_level[kMaxBlockSamples];
  Real dots[kNumCorners][kMaxBlockSamples];  // gradient of the output times the value at each corner
};

template <typename Real>
MS_DEFORM_ATTN_SHARED void locate_block(Block<Real>& block, int32_t width, int32_t height) {
  const int num_samples = block.num_queries * block.num_points;
  MS_DEFORM_ATTN_VECTORIZE
  for (int i = 0; i < num_samples; ++i) {
    const Cell<Real> cell = locate<Real>(block.x[i], block.y[i], width, height);
    block.pixel[i] = (cell.top + 1) * (width + 2) + cell.left + 1;
    block.right[i] = cell.right;
    block.down[i] = cell.down;
    block.touches_level[i] = cell.touches_level;
    for (int corner = 0; corner < kNumCorners; ++corner) block.dots[corner][i] = 0;
  }
}

// Adds to `dots` and to the gradient of the values, for kWidth channels. `grad_output` is their gradient at the block's
// first query; queries are `stride` apart.
template <int kWidth, typename Value, typename Real>
MS_DEFORM_ATTN_SHARED void scatter_block(Block<Real>& block, const PaddedMap<Real>& value,
                                         const PaddedMap<Real>& grad_value, const Value* grad_output, int64_t stride,
                                         int64_t channel) {
  using Run = Channels<Real, kWidth>;
  const int64_t head_dim = value.head_dim;
  const int64_t to_corner[kNumCorners] = {0, head_dim, value.row_size(), value.row_size() + head_dim};
  for (int query = 0, i = 0; query < block.num_queries; ++query) {
    const Run grad = Run::load(grad_output + query * stride + channel);
    for (int point = 0; point < block.num_points; ++point, ++i) {
      if (!block.touches_level[i]) continue;
      Real corners[kNumCorners];
      corner_weights(block.weight[i], block.right[i], block.down[i], corners);
      const int64_t top_left = block.pixel[i] * head_dim + channel;
      for (int corner = 0; corner < kNumCorners; ++corner) {
        const int64_t place = top_left + to_corner[corner];
        block.dots[corner][i] += grad.dot(Run::load(value.data + place));
        Run sum = Run::load(grad_value.data + place);
        sum.add_scaled(corners[corner], grad);
        sum.store(grad_value.data + place);
      }
    }
  }
}

// Turns `dots` into the gradients of a sample's weight (left in dots[0]) and of its parameters (dots[1], dots[2]).
template <typename Real>
MS_DEFORM_ATTN_SHARED void finish_block(Block<Real>& block) {
  const int num_samples = block.num_queries * block.num_points;
  const Real scale_x = static_cast<Real>(block.scale_x), scale_y = static_cast<Real>(block.scale_y);
  MS_DEFORM_ATTN_VECTORIZE
  for (int i = 0; i < num_samples; ++i) {
    const Interpolated<Real> sample = interpolate(block.dots[0][i], block.dots[1][i], block.dots[2][i],
                                                  block.dots[3][i], block.right[i], block.down[i]);
    block.dots[0][i] = sample.value;
    block.dots[1][i] = scale_x * block.weight[i] * sample.slope_x;
    block.dots[2][i] = scale_y * block.weight[i] * sample.slope_y;
  }
}

// One head on one level.
template <typename Value, typename Parameter>
class BackwardItem {
 public:
  using Real = typename RealOf<Value>::Type;

  BackwardItem(const Problem& problem, const Gradients& gradients, void* scratch, int64_t item)
      : problem_(problem),
        gradients_(gradients),
        batch_(item / (problem.num_heads * problem.num_levels)),
        head_(item / problem.num_levels % problem.num_heads),
        level_(static_cast<int>(item % problem.num_levels)),
        size_(problem.levels[level_]),
        value_{static_cast<Real*>(scratch), size_.height, size_.width, problem.head_dim},
        grad_value_{value_.data + padded_size(size_, problem.head_dim), size_.height, size_.width, problem.head_dim} {}

  void run() {
    const int64_t stride = problem_.num_heads * problem_.head_dim;
    const int64_t first = (batch_ * problem_.num_pixels + size_.first_pixel) * stride + head_ * problem_.head_dim;
    copy_in(static_cast<const Value*>(problem_.value) + first, stride, value_);
    memset(grad_value_.data, 0, grad_value_.size() * sizeof(Real));
    for (int64_t query = 0; query < problem_.num_queries; query += kBlockQueries) {
      prefetch_block(query + kBlockQueries);
      run_block(query);
    }
    copy_out(grad_value_, static_cast<Value*>(gradients_.value) + first, stride);
  }

 private:
  int64_t row(int64_t query) const { return batch_ * problem_.num_queries + query; }

  // First sample of a query in tensors (b q m l p).
  int64_t first_sample(int64_t query) const {
    return ((row(query) * problem_.num_heads + head_) * problem_.num_levels + level_) * problem_.num_points;
  }

  // First channel of a query in tensors (b q m*d).
  int64_t first_channel(int64_t query) const { return (row(query) * problem_.num_heads + head_) * problem_.head_dim; }

  int num_in_block(int64_t query) const {
    const int64_t left = problem_.num_queries - query;
    return static_cast<int>(left < kBlockQueries ? left : kBlockQueries);
  }

  // The samples of neighbouring queries are far apart in memory, too far for the processor to see a pattern.
  MS_DEFORM_ATTN_INLINE void prefetch_block(int64_t first_query) const {
    const int64_t num_points = problem_.num_points;
    for (int i = 0; i < num_in_block(first_query); ++i) {
      const int64_t sample = first_sample(first_query + i);
      prefetch<false>(static_cast<const Value*>(gradients_.output) + first_channel(first_query + i),
                      problem_.head_dim * sizeof(Value));
      prefetch<false>(static_cast<const Parameter*>(problem_.positions) + 2 * sample,
                      2 * num_points * sizeof(Parameter));
      prefetch<false>(static_cast<const Real*>(gradients_.attention) + sample, num_points * sizeof(Real));
      prefetch<true>(static_cast<const Parameter*>(gradients_.positions) + 2 * sample,
                     2 * num_points * sizeof(Parameter));
      prefetch<true>(static_cast<const Real*>(gradients_.weights) + sample, num_points * sizeof(Real));
    }
  }

  void run_block(int64_t first_query) {
    read_block(first_query);
    locate_block(block_, size_.width, size_.height);
    const Value* grad_output = static_cast<const Value*>(gradients_.output) + first_channel(first_query);
    for_channels<Real>(problem_.head_dim, [&](int64_t channel, auto width) {
      scatter_block<decltype(width)::kValue>(block_, value_, grad_value_, grad_output,
                                             problem_.num_heads * problem_.head_dim, channel);
    });
    finish_block(block_);
    write_block(first_query);
  }

  void read_block(int64_t first_query) {
    block_.num_queries = num_in_block(first_query);
    block_.num_points = problem_.num_points;
    for (int query = 0, i = 0; query < block_.num_queries; ++query) {
      const int64_t sample = first_sample(first_query + query);
      const Parameter* positions = static_cast<const Parameter*>(problem_.positions) + 2 * sample;
      const Real* attention = static_cast<const Real*>(gradients_.attention) + sample;
      const Frame frame = frame_of<Real>(problem_, row(first_query + query), level_);
      block_.scale_x = frame.scale_x;
      block_.scale_y = frame.scale_y;
      for (int point = 0; point < block_.num_points; ++point, ++i) {
        block_.x[i] = frame.origin_x + frame.scale_x * to_real(positions[2 * point]);
        block_.y[i] = frame.origin_y + frame.scale_y * to_real(positions[2 * point + 1]);
        block_.weight[i] = attention[point];
      }
    }
  }

  void write_block(int64_t first_query) const {
    for (int query = 0, i = 0; query < block_.num_queries; ++query) {
      const int64_t sample = first_sample(first_query + query);
      Parameter* positions = static_cast<Parameter*>(gradients_.positions) + 2 * sample;
      Real* weights = static_cast<Real*>(gradients_.weights) + sample;
      for (int point = 0; point < block_.num_points; ++point, ++i) {
        weights[point] = block_.dots[0][i];
        write_real(block_.dots[1][i], positions + 2 * point);
        write_real(block_.dots[2][i], positions + 2 * point + 1);
      }
    }
  }

  const Problem& problem_;
  const Gradients& gradients_;
  const int64_t batch_, head_;
  const int level_;
  const Level size_;
  const PaddedMap<Real> value_, grad_value_;
  Block<Real> block_;
};

template <typename Value, typename Parameter>
void backward_items(const Problem& problem, const Gradients& gradients, void* scratch, int64_t begin, int64_t end) {
  for (int64_t item = begin; item < end; ++item) {
    BackwardItem<Value, Parameter>(problem, gradients, scratch, item).run();
  }
}

}  // namespace
}  // namespace ms_deform_attn
