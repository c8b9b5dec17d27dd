// SPDX-License-Identifier: Apache-2.0
//
// Softmax over the few samples of a head, forward and backward.
#pragma once

#include <math.h>

#include "channels.h"

namespace ms_deform_attn {
namespace {

// exp(x) for x <= 0, to 2e-7 relative; NaN stays NaN. A polynomial, because calls of expf keep a loop from being
// vectorised, and softmax over 12 samples would cost as much as all the sampling.
MS_DEFORM_ATTN_INLINE float exp_not_positive(float x) {
  constexpr float kSmallest = -87;  // exp of less is below the smallest normal float, and 0 here
  const float clamped = x < kSmallest ? kSmallest : x;
  // exp(x) = 2^n exp(r), |r| <= ln(2) / 2, ln(2) in two parts so that n ln(2) is subtracted exactly (Cody and Waite).
  const float number = clamped * 1.44269504f - 0.5f;
  const int32_t n = static_cast<int32_t>(number == number ? number : 0);
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  // Minimax polynomial of Cephes' expf.
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1;
  // Zeroed by a mask: of a choice between numbers GCC makes a branch, and then no vectors.
  const uint32_t mask = x < kSmallest ? 0 : ~uint32_t{0};
  const uint32_t bits = (static_cast<uint32_t>(n + 127) << 23) & mask;
  float power;
  memcpy(&power, &bits, sizeof power);
  return p * power;
}

MS_DEFORM_ATTN_INLINE double exp_not_positive(double x) { return exp(x); }

// Reduces in four strands, which need not wait for each other.
template <typename Real, typename Combine>
MS_DEFORM_ATTN_INLINE Real reduce(const Real* values, int count, Real start, const Combine& combine) {
  constexpr int kStrands = 4;
  Real strands[kStrands] = {start, start, start, start};
  int i = 0;
  for (; i + kStrands <= count; i += kStrands) {
    for (int strand = 0; strand < kStrands; ++strand) strands[strand] = combine(strands[strand], values[i + strand]);
  }
  for (; i < count; ++i) strands[0] = combine(strands[0], values[i]);
  return combine(combine(strands[0], strands[1]), combine(strands[2], strands[3]));
}

// `logits` and `weights` may be the same memory.
template <typename Real>
MS_DEFORM_ATTN_SHARED void softmax(const Real* logits, int count, Real* weights) {
  const Real largest = reduce(logits, count, logits[0], [](Real a, Real b) { return a > b ? a : b; });
  MS_DEFORM_ATTN_VECTORIZE
  for (int i = 0; i < count; ++i) weights[i] = exp_not_positive(logits[i] - largest);
  const Real scale = 1 / reduce(weights, count, Real{0}, [](Real a, Real b) { return a + b; });
  for (int i = 0; i < count; ++i) weights[i] *= scale;
}

template <typename Parameter, typename Real>
inline void softmax_backward(const Real* __restrict__ weights, const Real* __restrict__ grad_weights, int count,
                             Parameter* __restrict__ grad_logits) {
  Real mean = 0;
  for (int i = 0; i < count; ++i) mean += weights[i] * grad_weights[i];
  for (int i = 0; i < count; ++i) write_real(weights[i] * (grad_weights[i] - mean), grad_logits + i);
}

}  // namespace
}  // namespace ms_deform_attn
