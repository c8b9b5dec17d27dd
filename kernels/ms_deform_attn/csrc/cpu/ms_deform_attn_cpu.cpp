// SPDX-License-Identifier: Apache-2.0
//
// The operators on the CPU: checks, memory and threads. The arithmetic is in the loops.

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <memory>
#include <new>

#include "../../torch-ext/torch_binding.h"
#include "../checks.h"
#include "cpu_capability.h"
#include "loops.h"

namespace ms_deform_attn {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Fewest items worth a thread of their own.
constexpr int64_t kGrainQueries = 16;
constexpr int64_t kGrainRows = 256;

// Side of the squares in which the forward visits the queries of a level.
constexpr int32_t kTile = 16;

constexpr size_t kCacheLine = 64;

DataType data_type(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return DataType::kFloat32;
    case ScalarType::BFloat16:
      return DataType::kBFloat16;
    default:
      return DataType::kFloat64;
  }
}

Problem make_problem(const Inputs& inputs) {
  check_inputs(inputs);
  Problem problem{};
  problem.num_pixels = inputs.value.size(1);
  problem.num_heads = inputs.value.size(2);
  problem.head_dim = inputs.value.size(3);
  problem.num_queries = inputs.positions.size(1);
  problem.num_levels = static_cast<int>(inputs.positions.size(3));
  problem.num_points = static_cast<int>(inputs.positions.size(4));
  int32_t first_pixel = 0;
  for (int level = 0; level < problem.num_levels; ++level) {
    const auto height = static_cast<int32_t>(inputs.spatial_shapes[2 * level]);
    const auto width = static_cast<int32_t>(inputs.spatial_shapes[2 * level + 1]);
    problem.levels[level] = {height, width, first_pixel};
    first_pixel += height * width;
  }
  problem.value_type = data_type(inputs.value);
  problem.parameter_type = data_type(inputs.positions);
  problem.value = inputs.value.const_data_ptr();
  problem.reference = inputs.reference ? inputs.reference->const_data_ptr() : nullptr;
  problem.positions = inputs.positions.const_data_ptr();
  problem.weights = inputs.weights.const_data_ptr();
  return problem;
}

// Where every pixel is a query, as in an encoder, queries close to each other sample the same pixels: visiting them in
// squares instead of row by row finds those pixels still in the cache.
std::vector<int32_t> tiled_query_order(const Problem& problem) {
  std::vector<int32_t> order;
  if (problem.num_queries != problem.num_pixels) return order;
  order.reserve(problem.num_queries);
  for (int index = 0; index < problem.num_levels; ++index) {
    const Level& level = problem.levels[index];
    for (int32_t top = 0; top < level.height; top += kTile) {
      for (int32_t left = 0; left < level.width; left += kTile) {
        for (int32_t y = top; y < std::min(top + kTile, level.height); ++y) {
          for (int32_t x = left; x < std::min(left + kTile, level.width); ++x) {
            order.push_back(level.first_pixel + y * level.width + x);
          }
        }
      }
    }
  }
  return order;
}

Tensor run_forward(const Inputs& inputs) {
  Problem problem = make_problem(inputs);
  const int64_t batch_size = inputs.value.size(0);
  Tensor output =
      torch::stable::new_empty(inputs.value, {batch_size, problem.num_queries, problem.num_heads * problem.head_dim});
  const std::vector<int32_t> order = tiled_query_order(problem);
  problem.query_order = order.empty() ? nullptr : order.data();
  const Loops& loops = selected_loops();
  void* data = output.mutable_data_ptr();
  torch::stable::parallel_for(0, batch_size * problem.num_queries, kGrainQueries,
                              [&](int64_t begin, int64_t end) { loops.forward(problem, data, begin, end); });
  return output;
}

struct AlignedDelete {
  void operator()(void* memory) const { ::operator delete(memory, std::align_val_t(kCacheLine)); }
};

std::tuple<Tensor, Tensor, Tensor> run_backward(const Tensor& grad_output, const Inputs& inputs) {
  const Problem problem = make_problem(inputs);
  check_grad_output(grad_output, inputs);
  const Loops& loops = selected_loops();
  const int64_t batch_size = inputs.value.size(0);
  const int64_t num_rows = batch_size * problem.num_queries * problem.num_heads;
  const ScalarType real = real_type(inputs.value);

  Tensor attention = inputs.weights;
  if (problem.reference) {
    attention = torch::stable::new_empty(inputs.weights, inputs.weights.sizes(), real);
    void* weights = attention.mutable_data_ptr();
    torch::stable::parallel_for(0, num_rows, kGrainRows,
                                [&](int64_t begin, int64_t end) { loops.softmax(problem, weights, begin, end); });
  } else if (attention.scalar_type() != real) {
    attention = torch::stable::to(attention, real);
  }

  Tensor grad_value = torch::stable::empty_like(inputs.value);
  Tensor grad_positions = torch::stable::empty_like(inputs.positions);
  Tensor grad_attention = torch::stable::empty_like(attention);
  const Gradients gradients{grad_output.const_data_ptr(), attention.const_data_ptr(), grad_value.mutable_data_ptr(),
                            grad_positions.mutable_data_ptr(), grad_attention.mutable_data_ptr()};
  const int64_t num_items = batch_size * problem.num_heads * problem.num_levels;
  torch::stable::parallel_for(0, num_items, 1, [&](int64_t begin, int64_t end) {
    const std::unique_ptr<void, AlignedDelete> scratch(
        ::operator new(loops.backward_scratch_size(problem), std::align_val_t(kCacheLine)));
    loops.backward(problem, gradients, scratch.get(), begin, end);
  });

  Tensor grad_weights = grad_attention;
  if (problem.reference) {
    grad_weights = torch::stable::empty_like(inputs.weights);
    void* grad_logits = grad_weights.mutable_data_ptr();
    torch::stable::parallel_for(0, num_rows, kGrainRows, [&](int64_t begin, int64_t end) {
      loops.softmax_backward(problem, gradients, grad_logits, begin, end);
    });
  } else if (grad_weights.scalar_type() != inputs.weights.scalar_type()) {
    grad_weights = torch::stable::to(grad_weights, inputs.weights.scalar_type());
  }
  return {grad_value, grad_positions, grad_weights};
}

}  // namespace
}  // namespace ms_deform_attn

using ms_deform_attn::Inputs;
using torch::stable::Tensor;

Tensor ms_deform_attn_cpu(const Tensor& value, std::vector<int64_t> spatial_shapes, const Tensor& sampling_locations,
                          const Tensor& attention_weights) {
  return ms_deform_attn::run_forward({value, spatial_shapes, nullptr, sampling_locations, attention_weights});
}

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward_cpu(const Tensor& grad_output, const Tensor& value,
                                                               std::vector<int64_t> spatial_shapes,
                                                               const Tensor& sampling_locations,
                                                               const Tensor& attention_weights) {
  return ms_deform_attn::run_backward(grad_output,
                                      {value, spatial_shapes, nullptr, sampling_locations, attention_weights});
}

Tensor ms_deform_attn_fused_cpu(const Tensor& value, std::vector<int64_t> spatial_shapes,
                                const Tensor& reference_points, const Tensor& sampling_offsets,
                                const Tensor& attention_logits) {
  return ms_deform_attn::run_forward({value, spatial_shapes, &reference_points, sampling_offsets, attention_logits});
}

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_fused_backward_cpu(const Tensor& grad_output, const Tensor& value,
                                                                     std::vector<int64_t> spatial_shapes,
                                                                     const Tensor& reference_points,
                                                                     const Tensor& sampling_offsets,
                                                                     const Tensor& attention_logits) {
  return ms_deform_attn::run_backward(grad_output,
                                      {value, spatial_shapes, &reference_points, sampling_offsets, attention_logits});
}
