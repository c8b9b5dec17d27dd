// SPDX-License-Identifier: Apache-2.0
//
// The number types of tensors, moved 8 or 16 bytes at a time and computed with in float (double stays double).
#pragma once

#include <stdint.h>

#include <type_traits>

// A C++ compiler has read emulator/cuda_on_cpu.h instead.
#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#include "../ms_deform_attn_math.h"

namespace ms_deform_attn::cuda {

template <typename T>
using computed_t = typename RealOf<T>::Type;

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

// What is given, in a register: the compiler would rather compute it again wherever it is used.
template <typename T>
__device__ __forceinline__ T* kept(T* address) {
#if defined(__CUDACC__)
  asm volatile("" : "+l"(address));
#endif
  return address;
}
__device__ __forceinline__ float kept(float number) {
#if defined(__CUDACC__)
  asm volatile("" : "+f"(number));
#endif
  return number;
}
__device__ __forceinline__ double kept(double number) { return number; }

// kCount numbers as they come. Apart from what they are, so that many loads can be under way before the first is used.
template <typename T, int kCount>
struct Bytes {
  static constexpr int kWords = kCount * int(sizeof(T)) / 4;
  static_assert(kWords == 2 || kWords == 4, "an access moves 8 or 16 bytes");
  uint32_t words[kWords];

  __device__ __forceinline__ void load(const T* address) {
    if constexpr (kWords == 4) {
      const uint4 four = __ldg(reinterpret_cast<const uint4*>(address));
      words[0] = four.x, words[1] = four.y, words[2] = four.z, words[3] = four.w;
    } else {
      const uint2 two = __ldg(reinterpret_cast<const uint2*>(address));
      words[0] = two.x, words[1] = two.y;
    }
  }
};

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

template <typename T, int kCount>
__device__ __forceinline__ void unpack(const Bytes<T, kCount>& bytes, float (&numbers)[kCount]) {
#pragma unroll
  for (int i = 0; i < bytes.kWords; ++i) unpack(bytes.words[i], numbers + i * (4 / sizeof(T)), T());
}
template <int kCount>
__device__ __forceinline__ void unpack(const Bytes<double, kCount>& bytes, double (&numbers)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) numbers[i] = __hiloint2double(int(bytes.words[2 * i + 1]), int(bytes.words[2 * i]));
}

template <typename T, typename A, int kCount>
__device__ __forceinline__ void store_vector(T* address, const A (&numbers)[kCount]) {
  struct alignas(kCount * sizeof(T)) Vector {
    T elements[kCount];
  } vector;
#pragma unroll
  for (int i = 0; i < kCount; ++i) narrow(numbers[i], vector.elements[i]);
  *reinterpret_cast<Vector*>(address) = vector;
}

// Adds to memory that other threads add to as well. In assembler, because the compiler does not see that an address out
// of `kept` is one of global memory, and would ask at run time.
__device__ __forceinline__ void add(float* address, float number) {
#if defined(__CUDACC__)
  asm volatile("red.global.add.f32 [%0], %1;" ::"l"(address), "f"(number));
#else
  atomicAdd(address, number);
#endif
}
__device__ __forceinline__ void add(double* address, double number) {
#if defined(__CUDACC__)
  asm volatile("red.global.add.f64 [%0], %1;" ::"l"(address), "d"(number));
#else
  atomicAdd(address, number);
#endif
}
__device__ __forceinline__ void add_four(float* address, float a, float b, float c, float d) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(address), "f"(a), "f"(b), "f"(c), "f"(d));
#else
  add(address, a);
  add(address + 1, b);
  add(address + 2, c);
  add(address + 3, d);
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
  for (int i = 0; i < kCount; ++i) add(address + i, scale * numbers[i]);
}

}  // namespace ms_deform_attn::cuda
