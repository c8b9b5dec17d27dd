// SPDX-License-Identifier: Apache-2.0
//
// The operators' functions on CUDA; arguments and results as in torch-ext/torch_binding.h.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <tuple>
#include <vector>

torch::stable::Tensor ms_deform_attn_cuda(const torch::stable::Tensor& value, std::vector<int64_t> spatial_shapes,
                                          const torch::stable::Tensor& sampling_locations,
                                          const torch::stable::Tensor& attention_weights);

std::tuple<torch::stable::Tensor, torch::stable::Tensor, torch::stable::Tensor> ms_deform_attn_backward_cuda(
    const torch::stable::Tensor& grad_output, const torch::stable::Tensor& value, std::vector<int64_t> spatial_shapes,
    const torch::stable::Tensor& sampling_locations, const torch::stable::Tensor& attention_weights);

torch::stable::Tensor ms_deform_attn_fused_cuda(const torch::stable::Tensor& value, std::vector<int64_t> spatial_shapes,
                                                const torch::stable::Tensor& reference_points,
                                                const torch::stable::Tensor& sampling_offsets,
                                                const torch::stable::Tensor& attention_logits);

std::tuple<torch::stable::Tensor, torch::stable::Tensor, torch::stable::Tensor> ms_deform_attn_fused_backward_cuda(
    const torch::stable::Tensor& grad_output, const torch::stable::Tensor& value, std::vector<int64_t> spatial_shapes,
    const torch::stable::Tensor& reference_points, const torch::stable::Tensor& sampling_offsets,
    const torch::stable::Tensor& attention_logits);
