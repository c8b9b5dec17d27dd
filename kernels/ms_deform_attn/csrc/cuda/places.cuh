// SPDX-License-Identifier: Apache-2.0
//
// Places of samples, exact to far less than a float's last bit, for the reason given at `locate`: in double where a GPU
// computes with that fast, as a sum of two floats where it does not. Of a GPU's lanes for float, 1 in 2 computes in
// double in data centres (A100, H100, B200), and 1 in 32 or 64 elsewhere.
#pragma once

#include "call.h"

#ifndef MS_DEFORM_ATTN_DOUBLE_PLACES
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 600 || __CUDA_ARCH__ == 700 || __CUDA_ARCH__ == 800 || \
    __CUDA_ARCH__ == 900 || __CUDA_ARCH__ == 1000
#define MS_DEFORM_ATTN_DOUBLE_PLACES 1
#else
#define MS_DEFORM_ATTN_DOUBLE_PLACES 0
#endif
#endif

namespace ms_deform_attn::cuda {

// The sum of both, of which `high` is the float that is nearest to it. Good for some 48 bits. Numbers that are not
// finite stay so in `high`, and `low` is anything then.
struct TwoFloats {
  float high, low;
};

// The functions with these names are never fused to others by the compiler.
__device__ __forceinline__ TwoFloats sum_of(float a, float b) {
  const float sum = __fadd_rn(a, b);
  const float b_in_sum = __fsub_rn(sum, a);
  return {sum, __fadd_rn(__fsub_rn(a, __fsub_rn(sum, b_in_sum)), __fsub_rn(b, b_in_sum))};
}
__device__ __forceinline__ TwoFloats operator+(TwoFloats number, float other) {
  const TwoFloats sum = sum_of(number.high, other);
  const float low = __fadd_rn(sum.low, number.low);
  const float high = __fadd_rn(sum.high, low);
  return {high, __fsub_rn(low, __fsub_rn(high, sum.high))};
}

// position * length, of which the latter is at most 2^24.
__device__ __forceinline__ TwoFloats product_of(float position, int length) {
  const float product = __fmul_rn(position, float(length));
  return {product, __fmaf_rn(position, float(length), -product)};
}

// One axis of `locate`, for a place counted from one pixel outside.
struct Along {
  bool touches;
  int first;       // pixel of the corner before the sample
  float fraction;  // of the way from there to the next
};
__device__ __forceinline__ Along locate_along(TwoFloats from_outside, int length) {
  const float end = float(length + 1);
  Along along;
  const bool is_before_end = from_outside.high < end || (from_outside.high == end && from_outside.low < 0);
  along.touches = from_outside.high > 0 && is_before_end;
  const float high = along.touches ? from_outside.high : 0, low = along.touches ? from_outside.low : 0;
  // Truncation rounds down. Just below a whole number `high` may be that: then `low` is negative.
  int pixel = int(high);
  float fraction = __fadd_rn(__fsub_rn(high, float(pixel)), low);
  if (fraction < 0) {
    --pixel;
    fraction = __fadd_rn(1, fraction);
  }
  along.first = pixel - 1;
  along.fraction = fraction;
  return along;
}

// `locate` for places counted from one pixel outside: x + 1 and y + 1. The same to the last bits of right and down.
__device__ __forceinline__ Cell<float> locate_from_outside(TwoFloats x, TwoFloats y, const Map& map) {
  const Along across = locate_along(x, map.width), down = locate_along(y, map.height);
  return {across.touches && down.touches, across.first, down.first, across.fraction, down.fraction};
}

}  // namespace ms_deform_attn::cuda
