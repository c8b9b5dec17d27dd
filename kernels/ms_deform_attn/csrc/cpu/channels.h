// SPDX-License-Identifier: Apache-2.0
//
// Arithmetic on a run of channels, kept in the vector registers of the instruction set being compiled for.
// Written with the vector types of GCC and Clang: no intrinsics, one source for x86 and ARM.
#pragma once

#include <stdint.h>
#include <string.h>

#include "../ms_deform_attn_math.h"

// Before a loop whose iterations do not depend on each other, which the compiler cannot always see.
#if defined(__clang__)
#define MS_DEFORM_ATTN_VECTORIZE _Pragma("clang loop vectorize(assume_safety)")
#else
#define MS_DEFORM_ATTN_VECTORIZE _Pragma("GCC ivdep")
#endif

// A function that several of the type combinations share: compiled once, not into each of its callers.
#define MS_DEFORM_ATTN_SHARED inline __attribute__((noinline))

namespace ms_deform_attn {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

struct BFloat16 {
  uint16_t bits;
};

MS_DEFORM_ATTN_INLINE float to_real(float value) { return value; }
MS_DEFORM_ATTN_INLINE double to_real(double value) { return value; }
MS_DEFORM_ATTN_INLINE float to_real(BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

MS_DEFORM_ATTN_INLINE void write_real(float value, float* to) { *to = value; }
MS_DEFORM_ATTN_INLINE void write_real(double value, double* to) { *to = value; }
MS_DEFORM_ATTN_INLINE void write_real(float value, BFloat16* to) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  // To the nearest, ties to even; a NaN must not round up to infinity.
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to->bits = static_cast<uint16_t>(value == value ? rounded : 0x7fc0);
}

// The parameters as they are, or converted into the buffer.
MS_DEFORM_ATTN_INLINE const float* as_real(const float* weights, int, float*) { return weights; }
MS_DEFORM_ATTN_INLINE const double* as_real(const double* weights, int, double*) { return weights; }
MS_DEFORM_ATTN_INLINE const float* as_real(const BFloat16* weights, int count, float* buffer) {
  for (int i = 0; i < count; ++i) buffer[i] = to_real(weights[i]);
  return buffer;
}

template <typename Element, int kLanes>
struct VectorOf {
  typedef Element Type __attribute__((vector_size(kLanes * sizeof(Element))));
  // The same in memory: at any address, and allowed to overlay arrays of its elements.
  typedef Element InMemory __attribute__((vector_size(kLanes * sizeof(Element)), aligned(sizeof(Element)), may_alias));
};

template <typename Real, int kLanes>
MS_DEFORM_ATTN_INLINE Real horizontal_sum(typename VectorOf<Real, kLanes>::Type vector) {
  if constexpr (kLanes == 2) {
    return vector[0] + vector[1];
  } else {
    typename VectorOf<Real, kLanes / 2>::Type halves[2];
    memcpy(halves, &vector, sizeof vector);
    return horizontal_sum<Real, kLanes / 2>(halves[0] + halves[1]);
  }
}

// kWidth neighbouring channels.
template <typename Real, int kWidth>
struct Channels {
  static constexpr int kNativeLanes = kVectorBytes / static_cast<int>(sizeof(Real));
  static constexpr int kLanes = kWidth < kNativeLanes ? kWidth : kNativeLanes;
  static constexpr int kVectors = kWidth / kLanes;
  using Vector = typename VectorOf<Real, kLanes>::Type;
  using InMemory = typename VectorOf<Real, kLanes>::InMemory;

  Vector vectors[kVectors] = {};

  static MS_DEFORM_ATTN_INLINE Channels load(const Real* from) {
    Channels result;
    for (int i = 0; i < kVectors; ++i) result.vectors[i] = *reinterpret_cast<const InMemory*>(from + i * kLanes);
    return result;
  }

  static MS_DEFORM_ATTN_INLINE Channels load(const BFloat16* from) {
    Channels result;
    for (int i = 0; i < kVectors; ++i) {
      const auto halves = *reinterpret_cast<const typename VectorOf<uint16_t, kLanes>::InMemory*>(from + i * kLanes);
      const auto bits = __builtin_convertvector(halves, typename VectorOf<uint32_t, kLanes>::Type) << 16;
      result.vectors[i] = reinterpret_cast<Vector>(bits);
    }
    return result;
  }

  MS_DEFORM_ATTN_INLINE void store(Real* to) const {
    for (int i = 0; i < kVectors; ++i) *reinterpret_cast<InMemory*>(to + i * kLanes) = vectors[i];
  }

  MS_DEFORM_ATTN_INLINE void store(BFloat16* to) const {
    float values[kWidth];
    store(values);
    for (int i = 0; i < kWidth; ++i) write_real(values[i], to + i);
  }

  MS_DEFORM_ATTN_INLINE void add(const Channels& other) {
    for (int i = 0; i < kVectors; ++i) vectors[i] += other.vectors[i];
  }

  MS_DEFORM_ATTN_INLINE void add_scaled(Real scale, const Channels& other) {
    for (int i = 0; i < kVectors; ++i) vectors[i] += scale * other.vectors[i];
  }

  MS_DEFORM_ATTN_INLINE Real dot(const Channels& other) const {
    Vector products = vectors[0] * other.vectors[0];
    for (int i = 1; i < kVectors; ++i) products += vectors[i] * other.vectors[i];
    return horizontal_sum<Real, kLanes>(products);
  }
};

// Starts loading bytes into the cache. A function that does nothing but this must be inlined by force: GCC takes it for
// one without effect and drops the call.
template <bool kForWriting>
MS_DEFORM_ATTN_INLINE void prefetch(const void* data, int64_t num_bytes) {
  constexpr int64_t kCacheLine = 64;
  for (int64_t i = 0; i < num_bytes; i += kCacheLine) {
    __builtin_prefetch(static_cast<const char*>(data) + i, kForWriting);
  }
}

// Calls `work` with the first channel of each run of 32, then of 8, and the run's width as a compile-time constant.
// 32 is the head width of every published model; head_dim must be a multiple of 8. Doubles, which are for checks, have
// only runs of 8, and the code compiles faster.
template <int kWidth>
struct Width {
  static constexpr int kValue = kWidth;
};

template <typename Real, typename Work>
MS_DEFORM_ATTN_INLINE void for_channels(int64_t head_dim, const Work& work) {
  int64_t channel = 0;
  if constexpr (sizeof(Real) == sizeof(float)) {
    for (; channel + 32 <= head_dim; channel += 32) work(channel, Width<32>());
  }
  for (; channel < head_dim; channel += 8) work(channel, Width<8>());
}

}  // namespace
}  // namespace ms_deform_attn
