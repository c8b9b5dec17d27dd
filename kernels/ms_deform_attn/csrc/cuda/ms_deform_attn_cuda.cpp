// SPDX-License-Identifier: Apache-2.0
//
// The operators on CUDA: checks and memory. Against torch's stable interface, and without a symbol that a torch for
// CPUs lacks: one library serves both, and is built with either. launch.cu, which has no torch, starts the kernels.

#include "ms_deform_attn_cuda.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/ops.h>

#include "../checks.h"
#include "call.h"

// Only a torch for CUDA has it. Weak, so that a library with this reference can be loaded without.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index,
                                                                                   void** ret_stream);

namespace ms_deform_attn::cuda {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kMostBlocks = 0x7fffffff;

void run(const Call& call, bool backward, int32_t device_index) {
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream != nullptr, "ms_deform_attn: this torch has no CUDA.");
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device_index, &stream));
  const char* failure = run_on_stream(call, backward, stream);
  STD_TORCH_CHECK(failure == nullptr, "ms_deform_attn: the CUDA kernel failed to start: ", failure, ".");
}

Number number_of(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Half:
      return Number::kHalf;
    case ScalarType::BFloat16:
      return Number::kBFloat16;
    case ScalarType::Double:
      return Number::kDouble;
    default:
      return Number::kFloat;
  }
}

// Contiguous tensors may still begin in the middle of a vector.
Tensor aligned(const Tensor& tensor) {
  return reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 16 ? torch::stable::clone(tensor) : tensor;
}

// The arguments, checked, and kept alive as long as a call needs their memory.
struct Arguments {
  Tensor value, positions, weights, reference;
  Call call{};

  explicit Arguments(const Inputs& inputs)
      : value(aligned(inputs.value)), positions(aligned(inputs.positions)), weights(aligned(inputs.weights)) {
    check(inputs);
    if (inputs.reference) reference = aligned(*inputs.reference);
    call.value_type = number_of(value);
    call.parameter_type = number_of(positions);
    call.fused = inputs.reference != nullptr;
    // Whether they are in the same order too is for the caller to know: it decides about speed only.
    call.queries_are_pixels = positions.size(1) == value.size(1);
    call.batch_size = value.size(0);
    call.geometry = make_geometry(inputs.spatial_shapes.data(), int(positions.size(3)), int(positions.size(4)),
                                  positions.size(1), int(value.size(2)), int(value.size(3)));
    call.value = value.const_data_ptr();
    call.points = positions.const_data_ptr();
    call.weights = weights.const_data_ptr();
    if (inputs.reference) call.reference_points = reference.const_data_ptr();
  }

  static void check(const Inputs& inputs) {
    check_inputs(inputs);
    const int64_t row = inputs.value.size(2) * inputs.value.size(3);
    STD_TORCH_CHECK(row <= kMostBlocks && inputs.positions.size(1) <= kMostBlocks - kLargestTile,
                    "the compiled operator counts queries and the channels of all heads in 32 bits, got ",
                    describe(inputs), ".");
  }
};

Tensor run_forward(const Inputs& inputs) {
  Arguments arguments(inputs);
  const Tensor& value = arguments.value;
  const torch::stable::accelerator::DeviceGuard guard(value.get_device_index());
  Tensor output =
      torch::stable::new_empty(value, {value.size(0), inputs.positions.size(1), value.size(2) * value.size(3)});
  arguments.call.output = output.mutable_data_ptr();
  if (output.numel() > 0) run(arguments.call, false, value.get_device_index());
  return output;
}

std::tuple<Tensor, Tensor, Tensor> run_backward(const Tensor& grad_output, const Inputs& inputs) {
  Arguments arguments(inputs);
  check_grad_output(grad_output, inputs);
  const Tensor& value = arguments.value;
  const torch::stable::accelerator::DeviceGuard guard(value.get_device_index());
  const Tensor gradient = aligned(grad_output);
  // In 16 bits each of the many additions to a pixel would be rounded.
  const Tensor grad_value = torch::stable::new_zeros(value, value.sizes(), real_type(value));
  const Tensor grad_positions = torch::stable::empty_like(arguments.positions);
  const Tensor grad_weights = torch::stable::empty_like(arguments.weights);
  arguments.call.grad_output = gradient.const_data_ptr();
  arguments.call.grad_value = grad_value.mutable_data_ptr();
  arguments.call.grad_points = grad_positions.mutable_data_ptr();
  arguments.call.grad_weights = grad_weights.mutable_data_ptr();
  if (gradient.numel() > 0) run(arguments.call, true, value.get_device_index());
  return {torch::stable::to(grad_value, value.scalar_type()), grad_positions, grad_weights};
}

}  // namespace
}  // namespace ms_deform_attn::cuda

using ms_deform_attn::Inputs;
using torch::stable::Tensor;

Tensor ms_deform_attn_cuda(const Tensor& value, std::vector<int64_t> spatial_shapes, const Tensor& sampling_locations,
                           const Tensor& attention_weights) {
  return ms_deform_attn::cuda::run_forward({value, spatial_shapes, nullptr, sampling_locations, attention_weights});
}

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward_cuda(const Tensor& grad_output, const Tensor& value,
                                                                std::vector<int64_t> spatial_shapes,
                                                                const Tensor& sampling_locations,
                                                                const Tensor& attention_weights) {
  return ms_deform_attn::cuda::run_backward(
      grad_output, {value, spatial_shapes, nullptr, sampling_locations, attention_weights});
}

Tensor ms_deform_attn_fused_cuda(const Tensor& value, std::vector<int64_t> spatial_shapes,
                                 const Tensor& reference_points, const Tensor& sampling_offsets,
                                 const Tensor& attention_logits) {
  return ms_deform_attn::cuda::run_forward(
      {value, spatial_shapes, &reference_points, sampling_offsets, attention_logits});
}

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_fused_backward_cuda(const Tensor& grad_output, const Tensor& value,
                                                                      std::vector<int64_t> spatial_shapes,
                                                                      const Tensor& reference_points,
                                                                      const Tensor& sampling_offsets,
                                                                      const Tensor& attention_logits) {
  return ms_deform_attn::cuda::run_backward(
      grad_output, {value, spatial_shapes, &reference_points, sampling_offsets, attention_logits});
}
