// SPDX-License-Identifier: Apache-2.0
//
// How fast a GPU does nothing but what the kernels of ms_deform_attn are made of, and two planted faults, by which one
// sees that compute-sanitizer sees faults. nvcc makes a library of it, and on machines without a GPU so does a C++
// compiler with -include kernels/ms_deform_attn/emulator/cuda_on_cpu.h. rates.py calls it.
#include <stdint.h>

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#define EXPORTED extern "C" __attribute__((visibility("default")))

template <typename... Parameters, typename... Arguments>
const char* start(void (*kernel)(Parameters...), int blocks, int lanes, int groups, void* stream,
                  Arguments... arguments) {
  kernel<<<blocks, dim3(lanes, groups), 0, static_cast<cudaStream_t>(stream)>>>(arguments...);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}
#else
#define EXPORTED extern "C" __attribute__((visibility("default")))
struct float4 {
  float x, y, z, w;
};

template <typename... Parameters, typename... Arguments>
const char* start(void (*kernel)(Parameters...), int blocks, int lanes, int groups, void*, Arguments... arguments) {
  failure = nullptr;
  blockDim = {unsigned(lanes), unsigned(groups)};
  for (int block = 0; block < blocks; ++block) {
    blockIdx = {unsigned(block), 0};
    for (int thread = 0; thread < lanes * groups; thread += Warp::kLanes) {
      warp.run(thread, false, [&] { kernel(arguments...); });
    }
  }
  return failure;
}
#endif

namespace ms_deform_attn_rates {

constexpr int kThreads = 256;        // of a block, (lanes of a group, groups)
constexpr int kRowBytes = 512;       // eight heads of 32 channels of 16 bits, or half of that in float
constexpr int kGradientBytes = 128;  // a head's 32 channels in float

// Pixels that differ from group to group and from turn to turn, found in a few instructions.
__device__ __forceinline__ uint32_t next(uint32_t number) { return number * 1664525u + 1013904223u; }

__device__ __forceinline__ uint32_t first() { return next((blockIdx.x * blockDim.y + threadIdx.y) * 747796405u); }

// Each group of lanes reads the rows of pixels, one 16-byte load a lane. The pixels of a block are neighbours, so that
// they are found in the L1 cache. `kLanes` is how many lanes a head's row has; with `kHeads` = 2 groups take turns
// between two neighbouring heads.
template <int kLanes, int kHeads>
__global__ void __launch_bounds__(kThreads)
    gather(const char* values, uint32_t* sums, int pixels, int window, int turns) {
  const int lane = threadIdx.x, group = threadIdx.y;
  const char* head = values + (group % kHeads) * kLanes * 16 + lane * 16;
  head += int64_t(blockIdx.x) * window % (pixels - window + 1) * kRowBytes;
  uint32_t number = first(), sum = 0;
  for (int turn = 0; turn < turns; turn += 4) {
    uint4 found[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      number = next(number);
      found[i] = __ldg(reinterpret_cast<const uint4*>(head + (number >> 16 & unsigned(window - 1)) * kRowBytes));
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) sum += found[i].x ^ found[i].y ^ found[i].z ^ found[i].w;
  }
  sums[blockIdx.x * kThreads + group * kLanes + lane] = sum;
}

__device__ __forceinline__ void add_ones(char* place) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("red.global.add.v4.f32 [%0], {%1, %1, %1, %1};" ::"l"(place), "f"(1.0f));
#else
  float* numbers = reinterpret_cast<float*>(place);
  for (int i = 0; i < 4; ++i) atomicAdd(numbers + i, 1.0f);
#endif
}

// Each group of lanes adds to the gradients of pixels, all 32 channels: 8 lanes with one vector of four each, which
// together fill whole sectors of 32 bytes, or 4 lanes with two vectors each, one after the other. Those are neighbours
// of one lane (`kApart` = 16 bytes: half sectors), or of all lanes (`kApart` = 64: whole ones).
template <int kLanes, int kApart>
__global__ void __launch_bounds__(kThreads) reduce(char* gradients, int pixels, int turns) {
  constexpr int kVectors = 8 / kLanes;
  const int lane = threadIdx.x;
  const int begin = lane * (kApart == 64 || kVectors == 1 ? 16 : 32);
  uint32_t number = first();
  for (int turn = 0; turn < turns; ++turn) {
    number = next(number);
    char* row = gradients + int64_t((number >> 8) % unsigned(pixels)) * kGradientBytes + begin;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) add_ones(row + i * kApart);
  }
}

// The names hold ms_deform_attn, by which the sanitizer's filter finds them as it finds the kernels.
__global__ void planted_out_of_bounds(float* numbers, int count) { numbers[count + threadIdx.x] = 1; }

#if defined(__CUDACC__)
__global__ void planted_race(float* numbers) {
  __shared__ float shared[64];
  shared[threadIdx.x] = float(threadIdx.x);
  numbers[threadIdx.x] = shared[63 - threadIdx.x];  // of another warp, without waiting for it
}
#endif

}  // namespace ms_deform_attn_rates

using namespace ms_deform_attn_rates;

// All return null, or what went wrong.
EXPORTED const char* gather_rows(int lanes, int heads, const void* values, void* sums, int pixels, int window,
                                 int turns, int blocks, void* stream) {
  const auto kernel = lanes == 8 ? gather<8, 1> : heads == 1 ? gather<4, 1> : gather<4, 2>;
  return start(kernel, blocks, lanes, kThreads / lanes, stream, static_cast<const char*>(values),
               static_cast<uint32_t*>(sums), pixels, window, turns);
}

EXPORTED const char* reduce_rows(int lanes, int apart, void* gradients, int pixels, int turns, int blocks,
                                 void* stream) {
  const auto kernel = lanes == 8 ? reduce<8, 16> : apart == 16 ? reduce<4, 16> : reduce<4, 64>;
  return start(kernel, blocks, lanes, kThreads / lanes, stream, static_cast<char*>(gradients), pixels, turns);
}

#if defined(__CUDACC__)
EXPORTED const char* plant_out_of_bounds(float* numbers, int count, void* stream) {
  return start(planted_out_of_bounds, 1, 32, 1, stream, numbers, count);
}
EXPORTED const char* plant_race(float* numbers, void* stream) {
  return start(planted_race, 1, 64, 1, stream, numbers);
}
#endif
