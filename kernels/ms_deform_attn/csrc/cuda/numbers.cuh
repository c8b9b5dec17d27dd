// SPDX-License-Identifier: Apache-2.0
//
// The number types of tensors, moved 16 bytes at a time and computed with in float (double stays double).
#pragma once

#include <stdint.h>

// A C++ compiler has read emulator/cuda_on_cpu.h instead.
#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#include "../ms_deform_attn_math.h"

namespace ms_deform_attn::cuda {

template <typename T>
using computed_t = typename RealOf<T>::Type;

// How many numbers one 16-byte access moves.
template <typename T>
constexpr int kVector = 16 / sizeof(T);

// What lies next to each other: (x, y), or four numbers that a thread wants at once.
template <typename T>
struct alignas(2 * sizeof(T)) Pair {
  T x, y;
};
template <typename T>
struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) Four {
  T a, b, c, d;
};

__device__ __forceinline__ float widen(float number) { return number; }
__device__ __forceinline__ double widen(double number) { return number; }
__device__ __forceinline__ float widen(__half number) { return __half2float(number); }
__device__ __forceinline__ float widen(__nv_bfloat16 number) { return __bfloat162float(number); }

__device__ __forceinline__ void narrow(float number, float& result) { result = number; }
__device__ __forceinline__ void narrow(double number, double& result) { result = number; }
__device__ __forceinline__ void narrow(float number, __half& result) { result = __float2half_rn(number); }
__device__ __forceinline__ void narrow(float number, __nv_bfloat16& result) { result = __float2bfloat16_rn(number); }

// 16 bytes as they come, and their numbers. Separate, so that many loads can be under way before the first is used.
template <typename T>
__device__ __forceinline__ Four<uint32_t> load_bytes(const T* address) {
  const uint4 bytes = __ldg(reinterpret_cast<const uint4*>(address));
  return {bytes.x, bytes.y, bytes.z, bytes.w};
}

template <typename T>
__device__ __forceinline__ Four<uint32_t> load_or_zero(const T* address, bool wanted) {
  Four<uint32_t> bytes{0, 0, 0, 0};
  if (wanted) bytes = load_bytes(address);
  return bytes;
}

__device__ __forceinline__ void unpack(uint32_t word, float* numbers, float) { numbers[0] = __uint_as_float(word); }
__device__ __forceinline__ void unpack(uint32_t word, float* numbers, __nv_bfloat16) {
  // A bfloat16 is the upper half of a float.
  numbers[0] = __uint_as_float(word << 16);
  numbers[1] = __uint_as_float(word & 0xffff0000u);
}
__device__ __forceinline__ void unpack(uint32_t word, float* numbers, __half) {
  const float2 two = __half22float2(*reinterpret_cast<const __half2*>(&word));
  numbers[0] = two.x;
  numbers[1] = two.y;
}

template <typename T>
__device__ __forceinline__ void unpack(const Four<uint32_t>& bytes, float (&numbers)[kVector<T>]) {
  constexpr int kEach = 4 / sizeof(T);
  unpack(bytes.a, numbers, T());
  unpack(bytes.b, numbers + kEach, T());
  unpack(bytes.c, numbers + 2 * kEach, T());
  unpack(bytes.d, numbers + 3 * kEach, T());
}
template <typename T>
__device__ __forceinline__ void unpack(const Four<uint32_t>& bytes, double (&numbers)[2]) {
  numbers[0] = __hiloint2double(int(bytes.b), int(bytes.a));
  numbers[1] = __hiloint2double(int(bytes.d), int(bytes.c));
}

template <typename T>
__device__ __forceinline__ void store_vector(T* address, const computed_t<T> (&numbers)[kVector<T>]) {
  struct alignas(16) Vector {
    T elements[kVector<T>];
  } vector;
#pragma unroll
  for (int i = 0; i < kVector<T>; ++i) narrow(numbers[i], vector.elements[i]);
  *reinterpret_cast<Vector*>(address) = vector;
}

// Adds to memory that other threads add to as well.
__device__ __forceinline__ void add_four(float* address, float a, float b, float c, float d) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(address), "f"(a), "f"(b), "f"(c), "f"(d));
#else
  atomicAdd(address, a);
  atomicAdd(address + 1, b);
  atomicAdd(address + 2, c);
  atomicAdd(address + 3, d);
#endif
}

template <int kCount>
__device__ __forceinline__ void add_scaled(float* address, float scale, const float (&numbers)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; i += 4) {
    add_four(address + i, scale * numbers[i], scale * numbers[i + 1], scale * numbers[i + 2], scale * numbers[i + 3]);
  }
}
template <int kCount>
__device__ __forceinline__ void add_scaled(double* address, double scale, const double (&numbers)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) atomicAdd(address + i, scale * numbers[i]);
}

}  // namespace ms_deform_attn::cuda
