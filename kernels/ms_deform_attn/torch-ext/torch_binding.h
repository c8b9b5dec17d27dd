// SPDX-License-Identifier: Apache-2.0
//
// The operators' functions. Axes: b batch, s pixel of all levels (row-major, level by level), q query, m head,
// d channel of a head, l level, p point.
//   value              (b s m d)      spatial_shapes      height, width of each level in turn
//   sampling_locations (b q m l p 2)  (x, y) in [0, 1]    attention_weights  (b q m l p)
//   reference_points   (b q l 2)      (x, y) in [0, 1]    sampling_offsets   (b q m l p 2)  pixels of their level
//   attention_logits   (b q m l p)                        output             (b, q, m*d)
// The backward functions return the gradients of value, of the points, and of the weights or logits.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <tuple>
#include <vector>

#if defined(CPU_KERNEL)
torch::stable::Tensor ms_deform_attn_cpu(const torch::stable::Tensor& value, std::vector<int64_t> spatial_shapes,
                                         const torch::stable::Tensor& sampling_locations,
                                         const torch::stable::Tensor& attention_weights);

std::tuple<torch::stable::Tensor, torch::stable::Tensor, torch::stable::Tensor> ms_deform_attn_backward_cpu(
    const torch::stable::Tensor& grad_output, const torch::stable::Tensor& value, std::vector<int64_t> spatial_shapes,
    const torch::stable::Tensor& sampling_locations, const torch::stable::Tensor& attention_weights);

torch::stable::Tensor ms_deform_attn_fused_cpu(const torch::stable::Tensor& value, std::vector<int64_t> spatial_shapes,
                                               const torch::stable::Tensor& reference_points,
                                               const torch::stable::Tensor& sampling_offsets,
                                               const torch::stable::Tensor& attention_logits);

std::tuple<torch::stable::Tensor, torch::stable::Tensor, torch::stable::Tensor> ms_deform_attn_fused_backward_cpu(
    const torch::stable::Tensor& grad_output, const torch::stable::Tensor& value, std::vector<int64_t> spatial_shapes,
    const torch::stable::Tensor& reference_points, const torch::stable::Tensor& sampling_offsets,
    const torch::stable::Tensor& attention_logits);
#endif
