// SPDX-License-Identifier: Apache-2.0
//
// The table of loops for one instruction set: loops_default.cpp, loops_avx2.cpp and loops_avx512.cpp each compile this
// file with their own compiler flags, CPU_CAPABILITY being the name of the set.
//
// Nothing here may have external linkage but the table, and nothing of the C++ standard library is used: the linker
// would keep one of several equal inline functions, perhaps the one that only runs on the newest processors.
#pragma once

#include "backward.h"
#include "forward.h"
#include "loops.h"
#include "softmax.h"

namespace ms_deform_attn {
namespace {

template <typename Value, typename Parameter>
void softmax_rows(const Problem& problem, void* attention, int64_t begin, int64_t end) {
  using Real = typename RealOf<Value>::Type;
  const int num_samples = problem.num_levels * problem.num_points;
  for (int64_t row = begin; row < end; ++row) {
    Real* weights = static_cast<Real*>(attention) + row * num_samples;
    softmax(as_real(static_cast<const Parameter*>(problem.weights) + row * num_samples, num_samples, weights),
            num_samples, weights);
  }
}

template <typename Value, typename Parameter>
void softmax_backward_rows(const Problem& problem, const Gradients& gradients, void* grad_logits, int64_t begin,
                           int64_t end) {
  using Real = typename RealOf<Value>::Type;
  const int num_samples = problem.num_levels * problem.num_points;
  for (int64_t row = begin; row < end; ++row) {
    softmax_backward(static_cast<const Real*>(gradients.attention) + row * num_samples,
                     static_cast<const Real*>(gradients.weights) + row * num_samples, num_samples,
                     static_cast<Parameter*>(grad_logits) + row * num_samples);
  }
}

template <typename Type>
struct TypeTag {
  using Value = Type;
};

// Calls `work` with the C++ types of values and parameters: equal, or float parameters beside bfloat16 values.
template <typename Work>
inline void with_types(const Problem& problem, const Work& work) {
  if (problem.value_type == DataType::kFloat64) {
    work(TypeTag<double>(), TypeTag<double>());
  } else if (problem.value_type == DataType::kFloat32) {
    work(TypeTag<float>(), TypeTag<float>());
  } else if (problem.parameter_type == DataType::kFloat32) {
    work(TypeTag<BFloat16>(), TypeTag<float>());
  } else {
    work(TypeTag<BFloat16>(), TypeTag<BFloat16>());
  }
}

void forward(const Problem& problem, void* output, int64_t begin, int64_t end) {
  with_types(problem, [&](auto value, auto parameter) {
    forward_rows<typename decltype(value)::Value, typename decltype(parameter)::Value>(problem, output, begin, end);
  });
}

void backward(const Problem& problem, const Gradients& gradients, void* scratch, int64_t begin, int64_t end) {
  with_types(problem, [&](auto value, auto parameter) {
    backward_items<typename decltype(value)::Value, typename decltype(parameter)::Value>(problem, gradients, scratch,
                                                                                         begin, end);
  });
}

void softmax_all(const Problem& problem, void* attention, int64_t begin, int64_t end) {
  with_types(problem, [&](auto value, auto parameter) {
    softmax_rows<typename decltype(value)::Value, typename decltype(parameter)::Value>(problem, attention, begin, end);
  });
}

void softmax_backward_all(const Problem& problem, const Gradients& gradients, void* grad_logits, int64_t begin,
                          int64_t end) {
  with_types(problem, [&](auto value, auto parameter) {
    softmax_backward_rows<typename decltype(value)::Value, typename decltype(parameter)::Value>(
        problem, gradients, grad_logits, begin, end);
  });
}

}  // namespace

#define MS_DEFORM_ATTN_CONCATENATE_EXPANDED(a, b) a##b
#define MS_DEFORM_ATTN_CONCATENATE(a, b) MS_DEFORM_ATTN_CONCATENATE_EXPANDED(a, b)
#define MS_DEFORM_ATTN_STRING_EXPANDED(a) #a
#define MS_DEFORM_ATTN_STRING(a) MS_DEFORM_ATTN_STRING_EXPANDED(a)

const Loops MS_DEFORM_ATTN_CONCATENATE(loops_, CPU_CAPABILITY) = {
    MS_DEFORM_ATTN_STRING(CPU_CAPABILITY), forward, backward, backward_scratch_size, softmax_all, softmax_backward_all,
};

}  // namespace ms_deform_attn
