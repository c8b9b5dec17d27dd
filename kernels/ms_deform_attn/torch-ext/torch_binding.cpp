// SPDX-License-Identifier: Apache-2.0
//
// Schemas of the operators, and which function serves which device. Autograd and shape functions are in Python.

#include "torch_binding.h"

#include <torch/csrc/stable/library.h>

#include "registration.h"

#if defined(CPU_KERNEL)
#include "../csrc/cpu/cpu_capability.h"
#endif
#if defined(CUDA_KERNEL)
#include "../csrc/cuda/ms_deform_attn_cuda.h"
#endif

STABLE_TORCH_LIBRARY_EXPAND(TORCH_EXTENSION_NAME, ops) {
  ops.def(
      "ms_deform_attn(Tensor value, SymInt[] spatial_shapes, Tensor sampling_locations, Tensor attention_weights)"
      " -> Tensor");
  ops.def(
      "ms_deform_attn_backward(Tensor grad_output, Tensor value, SymInt[] spatial_shapes, Tensor sampling_locations,"
      " Tensor attention_weights) -> (Tensor, Tensor, Tensor)");
  ops.def(
      "ms_deform_attn_fused(Tensor value, SymInt[] spatial_shapes, Tensor reference_points, Tensor sampling_offsets,"
      " Tensor attention_logits) -> Tensor");
  ops.def(
      "ms_deform_attn_fused_backward(Tensor grad_output, Tensor value, SymInt[] spatial_shapes,"
      " Tensor reference_points, Tensor sampling_offsets, Tensor attention_logits) -> (Tensor, Tensor, Tensor)");
#if defined(CPU_KERNEL)
  ops.def("cpu_capability() -> str");
  ops.def("set_cpu_capability(str name) -> ()");
#endif
}

#if defined(CPU_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CPU, ops) {
  ops.impl("ms_deform_attn", TORCH_BOX(&ms_deform_attn_cpu));
  ops.impl("ms_deform_attn_backward", TORCH_BOX(&ms_deform_attn_backward_cpu));
  ops.impl("ms_deform_attn_fused", TORCH_BOX(&ms_deform_attn_fused_cpu));
  ops.impl("ms_deform_attn_fused_backward", TORCH_BOX(&ms_deform_attn_fused_backward_cpu));
}

// Without a tensor among their arguments these two have no device to be chosen by.
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CompositeExplicitAutograd, ops) {
  ops.impl("cpu_capability", TORCH_BOX(&ms_deform_attn::cpu_capability));
  ops.impl("set_cpu_capability", TORCH_BOX(&ms_deform_attn::set_cpu_capability));
}
#endif

#if defined(CUDA_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CUDA, ops) {
  ops.impl("ms_deform_attn", TORCH_BOX(&ms_deform_attn_cuda));
  ops.impl("ms_deform_attn_backward", TORCH_BOX(&ms_deform_attn_backward_cuda));
  ops.impl("ms_deform_attn_fused", TORCH_BOX(&ms_deform_attn_fused_cuda));
  ops.impl("ms_deform_attn_fused_backward", TORCH_BOX(&ms_deform_attn_fused_backward_cuda));
}
#endif

REGISTER_EXTENSION(TORCH_EXTENSION_NAME)
