// SPDX-License-Identifier: Apache-2.0
//
// What the operators accept, whatever the device. The Python wrapper makes tensors contiguous and mends dtypes; shapes
// are the caller's.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <sstream>
#include <string>
#include <vector>

#include "ms_deform_attn_math.h"

namespace ms_deform_attn {

// The arguments of either form. Axes: b batch, s pixel of all levels, q query, m head, d channel, l level, p point.
struct Inputs {
  const torch::stable::Tensor& value;          // (b s m d)
  const std::vector<int64_t>& spatial_shapes;  // height, width of each level in turn
  const torch::stable::Tensor* reference;      // (b q l 2), null in the plain form
  const torch::stable::Tensor& positions;      // (b q m l p 2): sampling locations or offsets
  const torch::stable::Tensor& weights;        // (b q m l p): attention weights or logits
};

// The type of all arithmetic.
inline torch::headeronly::ScalarType real_type(const torch::stable::Tensor& value) {
  using torch::headeronly::ScalarType;
  return value.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// For messages: dtype and shape.
inline std::string describe(const torch::stable::Tensor& tensor) {
  std::ostringstream text;
  text << torch::headeronly::toString(tensor.scalar_type()) << " (";
  for (int64_t axis = 0; axis < tensor.dim(); ++axis) text << (axis ? ", " : "") << tensor.size(axis);
  text << ")";
  return text.str();
}

inline std::string describe(const Inputs& inputs) {
  std::ostringstream text;
  text << "value " << describe(inputs.value) << ", spatial_shapes (";
  for (size_t i = 0; i < inputs.spatial_shapes.size(); ++i) text << (i ? ", " : "") << inputs.spatial_shapes[i];
  text << ")";
  if (inputs.reference) text << ", reference_points " << describe(*inputs.reference);
  text << (inputs.reference ? ", sampling_offsets " : ", sampling_locations ") << describe(inputs.positions);
  text << (inputs.reference ? ", attention_logits " : ", attention_weights ") << describe(inputs.weights);
  return text.str();
}

inline void check_shapes(const Inputs& inputs) {
  const auto& [value, spatial_shapes, reference, positions, weights] = inputs;
  STD_TORCH_CHECK(value.dim() == 4 && positions.dim() == 6 && weights.dim() == 5 && positions.size(5) == 2,
                  "expected value (b s m d), sampling points (b q m l p 2) and weights (b q m l p), got ",
                  describe(inputs), ".");
  bool fits = value.size(0) == positions.size(0) && value.size(2) == positions.size(2);
  for (int64_t axis = 0; axis < 5; ++axis) fits = fits && weights.size(axis) == positions.size(axis);
  if (reference) {
    fits = fits && reference->dim() == 4 && reference->size(0) == positions.size(0) &&
           reference->size(1) == positions.size(1) && reference->size(2) == positions.size(3) &&
           reference->size(3) == 2;
  }
  STD_TORCH_CHECK(fits, "the axes b, q, m, l and p must agree, got ", describe(inputs), ".");

  const int64_t num_levels = positions.size(3);
  STD_TORCH_CHECK(static_cast<int64_t>(spatial_shapes.size()) == 2 * num_levels,
                  "spatial_shapes needs a height and a width for each of the ", num_levels, " levels, got ",
                  describe(inputs), ".");
  // Pixels are counted in 32 bits, also within a border of one pixel around each level.
  constexpr int64_t kMostPixels = 0x7fffffff;
  int64_t num_pixels = 0;
  for (int64_t level = 0; level < num_levels; ++level) {
    const int64_t height = spatial_shapes[2 * level], width = spatial_shapes[2 * level + 1];
    STD_TORCH_CHECK(height >= 1 && height < kMostPixels && width >= 1 && width < kMostPixels &&
                        (height + 2) * (width + 2) <= kMostPixels,
                    "the levels must have between 1 and 2^31 pixels, got ", describe(inputs), ".");
    num_pixels += height * width;
  }
  STD_TORCH_CHECK(num_pixels == value.size(1) && num_pixels <= kMostPixels, "the levels' areas add up to ", num_pixels,
                  ", which must be the second axis of value (at most 2^31), got ", describe(inputs), ".");
}

inline void check_types(const Inputs& inputs) {
  using torch::headeronly::ScalarType;
  const ScalarType value = inputs.value.scalar_type(), parameters = inputs.positions.scalar_type();
  STD_TORCH_CHECK(value == ScalarType::Float || value == ScalarType::BFloat16 || value == ScalarType::Double ||
                      (value == ScalarType::Half && !inputs.value.is_cpu()),
                  "value must be float32, bfloat16 or float64 (or float16, on a GPU), got ", describe(inputs), ".");
  STD_TORCH_CHECK(
      inputs.weights.scalar_type() == parameters && (parameters == value || parameters == real_type(inputs.value)),
      "sampling points and weights must have value's dtype, or float32 beside half precision, got ", describe(inputs),
      ".");
  STD_TORCH_CHECK(!inputs.reference || inputs.reference->scalar_type() == real_type(inputs.value),
                  "reference_points must be float32, or float64 beside float64, got ", describe(inputs), ".");
}

inline void check_memory(const Inputs& inputs) {
  const torch::stable::Device device = inputs.value.device();
  bool same_device = inputs.positions.device() == device && inputs.weights.device() == device;
  bool contiguous = inputs.value.is_contiguous() && inputs.positions.is_contiguous() && inputs.weights.is_contiguous();
  if (inputs.reference) {
    same_device = same_device && inputs.reference->device() == device;
    contiguous = contiguous && inputs.reference->is_contiguous();
  }
  STD_TORCH_CHECK(same_device, "all tensors must be on one device; the shapes are ", describe(inputs), ".");
  STD_TORCH_CHECK(contiguous, "all tensors must be contiguous; the shapes are ", describe(inputs), ".");
}

inline void check_limits(const Inputs& inputs) {
  const int64_t head_dim = inputs.value.size(3), levels = inputs.positions.size(3), points = inputs.positions.size(4);
  STD_TORCH_CHECK(head_dim >= 8 && head_dim % 8 == 0,
                  "the compiled operator needs a head width that is a multiple of 8, got ", describe(inputs), ".");
  STD_TORCH_CHECK(levels >= 1 && levels <= kMaxLevels && points >= 1 && points <= kMaxPoints,
                  "the compiled operator takes 1 to ", kMaxLevels, " levels and 1 to ", kMaxPoints, " points, got ",
                  describe(inputs), ".");
}

inline void check_inputs(const Inputs& inputs) {
  check_shapes(inputs);
  check_types(inputs);
  check_memory(inputs);
  check_limits(inputs);
}

inline void check_grad_output(const torch::stable::Tensor& grad_output, const Inputs& inputs) {
  const auto& value = inputs.value;
  STD_TORCH_CHECK(grad_output.dim() == 3 && grad_output.size(0) == value.size(0) &&
                      grad_output.size(1) == inputs.positions.size(1) &&
                      grad_output.size(2) == value.size(2) * value.size(3) &&
                      grad_output.scalar_type() == value.scalar_type() && grad_output.device() == value.device() &&
                      grad_output.is_contiguous(),
                  "grad_output must be contiguous, of value's dtype and device and of shape (b, q, m*d), got ",
                  describe(grad_output), " for ", describe(inputs), ".");
}

}  // namespace ms_deform_attn
