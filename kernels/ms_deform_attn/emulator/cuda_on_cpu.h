// SPDX-License-Identifier: Apache-2.0
//
// As much of CUDA C++ as the kernels use, for a C++ compiler. The 32 lanes of a warp are fibers: each runs until it has
// to wait for the others, then the next one runs. Warps run one after the other, so this shows nothing about races
// between warps; the kernels' warps share nothing but atomic additions.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#include <set>
#include <vector>

#define __global__
#define __device__
#define __shared__
#define __forceinline__ inline
#define __launch_bounds__(...)

// Which of the two forms of places a call computes with.
inline bool double_places = true;
#define MS_DEFORM_ATTN_DOUBLE_PLACES double_places

struct float2 {
  float x, y;
};
struct uint2 {
  uint32_t x, y;
};
struct uint4 {
  uint32_t x, y, z, w;
};
struct Index {
  unsigned x, y;
};
inline Index threadIdx, blockIdx, blockDim;

struct __half {
  _Float16 number;
};
struct __half2 {
  __half x, y;
};
struct __nv_bfloat16 {
  uint16_t upper_half;
};

inline float __uint_as_float(uint32_t bits) {
  float number;
  memcpy(&number, &bits, sizeof number);
  return number;
}
inline double __hiloint2double(int high, int low) {
  const uint64_t bits = uint64_t(uint32_t(high)) << 32 | uint32_t(low);
  double number;
  memcpy(&number, &bits, sizeof number);
  return number;
}
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline int min(int a, int b) { return a < b ? a : b; }
inline float __half2float(__half number) { return float(number.number); }
inline __half __float2half_rn(float number) { return {_Float16(number)}; }
inline float2 __half22float2(__half2 two) { return {__half2float(two.x), __half2float(two.y)}; }
inline float __bfloat162float(__nv_bfloat16 number) { return __uint_as_float(uint32_t(number.upper_half) << 16); }
inline __nv_bfloat16 __float2bfloat16_rn(float number) {
  uint32_t bits;
  memcpy(&bits, &number, sizeof bits);
  return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};  // to the nearest, to even between two
}

// What went wrong, or null.
inline const char* failure = nullptr;

template <typename T>
T __ldg(const T* address) {
  if (reinterpret_cast<uintptr_t>(address) % sizeof(T)) failure = "a vector was read from an address not aligned to it";
  return *address;
}

class Warp {
 public:
  static constexpr unsigned kLanes = 32;

  // The sectors, 32 bytes each, that the L2 cache had to add to. It takes an addition of all lanes of a group at once.
  int64_t sectors = 0;

  // Runs `body` in all lanes, with numbers from `first_thread` on. The order must not matter: if it does, lanes have
  // not waited for each other where they have to.
  template <typename Body>
  void run(unsigned first_thread, bool last_lane_first, const Body& body) {
    stacks_.resize(kLanes * kStackSize);
    body_ = [](const void* data) { (*static_cast<const Body*>(data))(); };
    data_ = &body;
    for (unsigned lane = 0; lane < kLanes; ++lane) start(lane);
    unsigned working = kLanes;
    while (working) {
      const unsigned before = working;
      for (unsigned i = 0; i < kLanes; ++i) {
        lane_ = last_lane_first ? kLanes - 1 - i : i;
        if (done_[lane_]) continue;
        threadIdx = {(first_thread + lane_) % blockDim.x, (first_thread + lane_) / blockDim.x};
        swapcontext(&caller_, &fibers_[lane_]);
        working -= done_[lane_];
      }
      count_sectors();
      if (working && working != before) failure = "some lanes have ended while others still wait for them";
    }
  }

  // Four of a lane one after the other are one addition on a GPU.
  void note_addition(const void* address) { additions_[lane_].push_back(reinterpret_cast<uintptr_t>(address) / 32); }

  void wait() { swapcontext(&fibers_[lane_], &caller_); }

  // Two places for each lane in turn: nobody writes to one before all have read it.
  template <typename T>
  T exchange(T number, int distance) {
    const unsigned turn = turns_[lane_]++ % 2, lane = lane_;
    memcpy(exchanged_[turn][lane], &number, sizeof number);
    wait();
    memcpy(&number, exchanged_[turn][lane ^ unsigned(distance)], sizeof number);
    return number;
  }

 private:
  static constexpr size_t kStackSize = 1 << 16;

  void start(unsigned lane) {
    done_[lane] = false;
    turns_[lane] = 0;
    getcontext(&fibers_[lane]);
    fibers_[lane].uc_stack.ss_sp = stacks_.data() + lane * kStackSize;
    fibers_[lane].uc_stack.ss_size = kStackSize;
    fibers_[lane].uc_link = &caller_;
    makecontext(&fibers_[lane], &Warp::work, 0);
  }

  static void work();

  // Of what lanes have added since they last waited for each other: the lanes of a group add to the same pixels.
  void count_sectors() {
    for (unsigned first = 0; first < kLanes; first += blockDim.x) {
      for (size_t i = 0; i < additions_[first].size(); i += 4) {
        std::set<uintptr_t> touched;
        for (unsigned lane = first; lane < first + blockDim.x; ++lane) {
          for (size_t j = i; j < i + 4 && j < additions_[lane].size(); ++j) touched.insert(additions_[lane][j]);
        }
        sectors += touched.size();
      }
    }
    for (auto& addresses : additions_) addresses.clear();
  }

  std::vector<uintptr_t> additions_[kLanes];
  ucontext_t caller_, fibers_[kLanes];
  std::vector<char> stacks_;
  void (*body_)(const void*);
  const void* data_;
  unsigned lane_, turns_[kLanes];
  bool done_[kLanes];
  char exchanged_[2][kLanes][sizeof(double)];
};
inline Warp warp;

inline void Warp::work() {
  warp.body_(warp.data_);
  warp.done_[warp.lane_] = true;
}

template <typename T>
void atomicAdd(T* address, T number) {
  warp.note_addition(address);
  *address += number;
}
inline void __syncwarp() { warp.wait(); }
template <typename T>
T __shfl_xor_sync(unsigned, T number, int distance) {
  return warp.exchange(number, distance);
}
