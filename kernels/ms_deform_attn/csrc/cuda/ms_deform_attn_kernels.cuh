// SPDX-License-Identifier: Apache-2.0
//
// Multi-scale deformable attention: the two kernels, forward and backward. No header of torch in here: nvcc compiles
// this file, and so does a C++ compiler with emulator/cuda_on_cpu.h.
//
// Each lane of a group finds one sample and leaves it in shared memory; then all lanes go through these samples
// together, each with its own channels, and so on. Groups lie within a warp: no block ever waits.
#pragma once

#include "samples.cuh"

namespace ms_deform_attn::cuda {

extern __shared__ uint4 shared_memory[];

// The channels of a lane, of kFastHeadDim at a time: kAccesses accesses of kCount numbers each, in which the channels
// of the lanes follow each other. The forward moves 16 bytes at a time, the backward four numbers: gradients of values
// are floats beside 16-bit values, too, and then the lanes fill whole sectors of the L2 cache (32 bytes), which adds by
// sectors. kHeadDim is the head width, or 0 for one known only at run time, and for sizes beyond those of `is_fast`.
template <typename T, bool kForward, int kHeadDim>
struct Channels {
  static constexpr int kWidest = kForward || sizeof(T) == 8 ? 16 / sizeof(T) : 4;
  static constexpr int kSharers = kLanes<T, kForward>;
  static constexpr int kCount = kWidest * kSharers < kFastHeadDim ? kWidest : kFastHeadDim / kSharers;
  static constexpr int kStep = kCount * kSharers;  // from one access to the next
  static constexpr int kAccesses = kFastHeadDim / kStep;
  using Numbers = computed_t<T>[kAccesses][kCount];

  int own;       // the first of this lane
  int head_dim;  // of all lanes, known to the compiler where that is fast
  int row;       // numbers from one pixel to the next
  int unit;      // numbers that an offset counts: an access, or a pixel's where the former may be more than 2^31

  __device__ __forceinline__ Channels(const Group& group, const Geometry& geometry)
      : own(group.lane * kCount),
        head_dim(kHeadDim ? kHeadDim : geometry.head_dim),
        row(geometry.num_heads * head_dim),
        unit(kHeadDim ? kCount : row) {}

  // Where this lane's channels of the first pixel are, of the group's image and head.
  __device__ __forceinline__ int64_t start(const Group& group, const Geometry& geometry) const {
    return group.image(geometry) * geometry.num_pixels * row + group.head * head_dim + own;
  }
  // Offsets from one pixel to the next.
  __device__ __forceinline__ int factor() const { return kHeadDim ? row / kCount : 1; }
  __device__ __forceinline__ bool exists(int channel) const { return kHeadDim || own + channel < head_dim; }
};

// The samples of all groups of a block, one for each lane: [sample][group], so that groups use different banks.
template <typename T, bool kForward>
struct Staged {
  using A = computed_t<T>;
  Four<A>* numbers;     // the weights of the corners
  Offsets* offsets;     // where the corners begin
  A* weight_gradients;  // [sample of all levels][group]; only the fused backward needs it

  __device__ __forceinline__ Staged()
      : numbers(reinterpret_cast<Four<A>*>(shared_memory)),
        offsets(reinterpret_cast<Offsets*>(numbers + kThreads<kForward>)),
        weight_gradients(reinterpret_cast<A*>(offsets + kThreads<kForward>)) {}

  static __device__ __forceinline__ int place(int sample, const Group& group) {
    return sample * kGroups<T, kForward> + group.index;
  }
};

template <typename T, bool kForward>
inline int shared_bytes(const Geometry& geometry, bool fused) {
  using A = computed_t<T>;
  const int weight_gradients = fused && !kForward ? geometry.num_samples * kGroups<T, kForward> * int(sizeof(A)) : 0;
  return kThreads<kForward> * int(sizeof(Four<A>) + sizeof(Offsets)) + weight_gradients;
}

// A sample of a lane: its number among those of its group, and what the weights of its corners are made of.
template <typename A>
struct Sample {
  int number;
  bool exists;
  Cell<A> cell;
  A weight;
};

// Finds the sample of this lane and writes the weights and offsets of its corners to shared memory. `factor` is how
// much offsets grow from one pixel to the next.
template <typename T, bool kForward, bool kFast, typename Samples>
__device__ __forceinline__ Sample<computed_t<T>> stage(const Staged<T, kForward>& staged, const Samples& samples,
                                                       const Group& group, const Geometry& geometry, int first,
                                                       int factor) {
  using A = computed_t<T>;
  Sample<A> sample{};
  sample.number = first + group.lane;
  sample.exists = group.is_alive() && sample.number < geometry.num_samples;
  Offsets offsets = kOutside;
  A weights[kNumCorners] = {};
  if (sample.exists) {
    const int level = geometry.level_of(sample.number);
    const Map map = geometry.levels[level];
    const int64_t k = group.first_sample(geometry) + sample.number;
    sample.cell = samples.template cell<kFast>(k, group.image_query * geometry.num_levels + level, map);
    sample.weight = samples.weight(k);
    Cell<A> cell = sample.cell;
    A weight = sample.weight;
    offsets = kForward ? offsets_inside(cell, weight, map, factor) : offsets_of(cell, map, factor);
    corner_weights(weight, cell.right, cell.down, weights);
  }
  staged.numbers[staged.place(group.lane, group)] = {weights[0], weights[1], weights[2], weights[3]};
  staged.offsets[staged.place(group.lane, group)] = offsets;
  __syncwarp();
  return sample;
}

// The loop over `first` goes through heads that are wider than the fast ones.
template <typename T, typename Samples, int kHeadDim>
__global__ void __launch_bounds__(kThreads<true>, kBlocks<true>)
    forward_kernel(const T* __restrict__ value, Samples samples, T* __restrict__ output, const Geometry geometry) {
  using A = computed_t<T>;
  using Mine = Channels<T, true, kHeadDim>;
  const Staged<T, true> staged;
  const Group group = this_group(geometry);
  const Mine channels(group, geometry);
  samples.template begin<kLanes<T, true>>(group, geometry);
  value = kept(value + channels.start(group, geometry));
  for (int first = 0; first < channels.head_dim; first += kFastHeadDim) {
    typename Mine::Numbers sums = {};
    for (int begin = 0; begin < geometry.num_samples; begin += kLanes<T, true>) {
      stage<T, true, kHeadDim != 0>(staged, samples, group, geometry, begin, channels.factor());
      const int count = min(kLanes<T, true>, geometry.num_samples - begin);
#pragma unroll 1
      for (int i = 0; i < count; ++i) {
        const Offsets offsets = staged.offsets[staged.place(i, group)];
        if (offsets.corners[0] < 0) continue;
        const Four<A> four = staged.numbers[staged.place(i, group)];
        const A weights[kNumCorners] = {four.a, four.b, four.c, four.d};
#pragma unroll
        for (int access = 0; access < Mine::kAccesses; ++access) {
          const int channel = first + access * Mine::kStep;
          if (!channels.exists(channel)) continue;
          Bytes<T, Mine::kCount> bytes[kNumCorners];  // all on their way before the first is waited for
#pragma unroll
          for (int corner = 0; corner < kNumCorners; ++corner) {
            bytes[corner].load(value + int64_t(offsets.corners[corner]) * channels.unit + channel);
          }
#pragma unroll
          for (int corner = 0; corner < kNumCorners; ++corner) {
            A numbers[Mine::kCount];
            unpack(bytes[corner], numbers);
#pragma unroll
            for (int d = 0; d < Mine::kCount; ++d) sums[access][d] += weights[corner] * numbers[d];
          }
        }
      }
      __syncwarp();
    }
    T* result = output + group.first_channel(geometry, channels.head_dim) + channels.own;
#pragma unroll
    for (int access = 0; access < Mine::kAccesses; ++access) {
      const int channel = first + access * Mine::kStep;
      if (group.is_alive() && channels.exists(channel)) store_vector(result + channel, sums[access]);
    }
  }
}

// Reads the gradient of a group's output, for the channels of this lane from `first` on.
template <typename T, typename Mine>
__device__ __forceinline__ void read_gradient(const T* grad_output, int first, const Mine& channels,
                                              typename Mine::Numbers& gradient) {
#pragma unroll
  for (int access = 0; access < Mine::kAccesses; ++access) {
    const int channel = first + access * Mine::kStep;
    if (!channels.exists(channel)) continue;
    Bytes<T, Mine::kCount> bytes;
    bytes.load(grad_output + channel);
    unpack(bytes, gradient[access]);
#pragma unroll
    for (int d = 0; d < Mine::kCount; ++d) gradient[access][d] = kept(gradient[access][d]);
  }
}

// The backward of one sample for the channels of this lane from `first` on. Adds to the gradient of the values, and to
// `dots` the products of the output's gradient with each corner.
template <typename T, typename Mine, typename A>
__device__ __forceinline__ void backward_of_sample(const T* value, A* grad_value, int first, const Mine& channels,
                                                   const Offsets& offsets, const Four<A>& four,
                                                   const typename Mine::Numbers& gradient, A (&dots)[kNumCorners]) {
  const A weights[kNumCorners] = {four.a, four.b, four.c, four.d};
  Bytes<T, Mine::kCount> bytes[kNumCorners][Mine::kAccesses];
#pragma unroll
  for (int corner = 0; corner < kNumCorners; ++corner) {
    if (offsets.corners[corner] < 0) continue;
    const T* pixel = value + int64_t(offsets.corners[corner]) * channels.unit + first;
#pragma unroll
    for (int access = 0; access < Mine::kAccesses; ++access) {
      if (channels.exists(first + access * Mine::kStep)) bytes[corner][access].load(pixel + access * Mine::kStep);
    }
  }
#pragma unroll
  for (int corner = 0; corner < kNumCorners; ++corner) {
    if (offsets.corners[corner] < 0) continue;
    A* grad_pixel = grad_value + int64_t(offsets.corners[corner]) * channels.unit + first;
#pragma unroll
    for (int access = 0; access < Mine::kAccesses; ++access) {
      if (!channels.exists(first + access * Mine::kStep)) continue;
      A numbers[Mine::kCount];
      unpack(bytes[corner][access], numbers);
#pragma unroll
      for (int d = 0; d < Mine::kCount; ++d) dots[corner] += gradient[access][d] * numbers[d];
      add_scaled(grad_pixel + access * Mine::kStep, weights[corner], gradient[access]);
    }
  }
}

// Writes the gradients of a sample, given the products of the output's gradient with its corners; that of a logit must
// wait for all samples of the group.
template <typename T, typename Samples, typename P>
__device__ __forceinline__ void write_sample(const Staged<T, false>& staged, const Samples& samples, const Group& group,
                                             const Geometry& geometry, const Sample<computed_t<T>>& sample,
                                             P* grad_points, P* grad_weights) {
  using A = computed_t<T>;
  if (!sample.exists) return;
  const Four<A> dots = staged.numbers[staged.place(group.lane, group)];
  const Interpolated<A> dot = interpolate(dots.a, dots.b, dots.c, dots.d, sample.cell.right, sample.cell.down);
  const Pair<A> step = samples.step(geometry.levels[geometry.level_of(sample.number)]);
  const int64_t k = group.first_sample(geometry) + sample.number;
  Pair<P> of_point;
  narrow(sample.weight * dot.slope_x * step.x, of_point.x);
  narrow(sample.weight * dot.slope_y * step.y, of_point.y);
  reinterpret_cast<Pair<P>*>(grad_points)[k] = of_point;
  if constexpr (Samples::kFused) {
    staged.weight_gradients[staged.place(sample.number, group)] = dot.value;
  } else {
    narrow(dot.value, grad_weights[k]);
  }
}

// The backward of the softmax, once the gradients of all its weights are there, each written by the lane that reads it.
template <typename T, typename Samples, typename P>
__device__ __forceinline__ void write_logits(const Staged<T, false>& staged, const Samples& samples, const Group& group,
                                             const Geometry& geometry, P* grad_logits) {
  using A = computed_t<T>;
  const int num_samples = group.is_alive() ? geometry.num_samples : 0;
  const int64_t first = group.first_sample(geometry);
  A mean = 0;
#pragma unroll 1
  for (int i = group.lane; i < num_samples; i += kLanes<T, false>) {
    mean += samples.weight(first + i) * staged.weight_gradients[staged.place(i, group)];
  }
  mean = sum_over_lanes<kLanes<T, false>>(mean);
#pragma unroll 1
  for (int i = group.lane; i < num_samples; i += kLanes<T, false>) {
    const A gradient = staged.weight_gradients[staged.place(i, group)];
    narrow(samples.weight(first + i) * (gradient - mean), grad_logits[first + i]);
  }
}

// grad_value is of the type computed with, and zero before. The order of its additions differs from run to run. Doubles
// and heads of any width need more registers.
template <typename T, typename Samples, typename P, int kHeadDim>
__global__ void __launch_bounds__(kThreads<false>, kHeadDim ? kBlocks<false> : kBlocks<false> / 2)
    backward_kernel(const T* __restrict__ grad_output, const T* __restrict__ value, Samples samples,
                    computed_t<T>* __restrict__ grad_value, P* __restrict__ grad_points, P* __restrict__ grad_weights,
                    const Geometry geometry) {
  using A = computed_t<T>;
  using Mine = Channels<T, false, kHeadDim>;
  const Staged<T, false> staged;
  const Group group = this_group(geometry);
  const Mine channels(group, geometry);
  samples.template begin<kLanes<T, false>>(group, geometry);
  value = kept(value + channels.start(group, geometry));
  grad_value = kept(grad_value + channels.start(group, geometry));
  grad_output += (group.is_alive() ? group.first_channel(geometry, channels.head_dim) : 0) + channels.own;
  typename Mine::Numbers gradient;
  if (kHeadDim) read_gradient(grad_output, 0, channels, gradient);
  for (int begin = 0; begin < geometry.num_samples; begin += kLanes<T, false>) {
    const Sample<A> sample = stage<T, false, kHeadDim != 0>(staged, samples, group, geometry, begin, channels.factor());
    const int count = min(kLanes<T, false>, geometry.num_samples - begin);
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
      const int place = staged.place(i, group);
      const Offsets offsets = staged.offsets[place];
      const Four<A> weights = staged.numbers[place];
      A dots[kNumCorners] = {};
      for (int first = 0; first < channels.head_dim; first += kFastHeadDim) {
        if (!kHeadDim) read_gradient(grad_output, first, channels, gradient);
        backward_of_sample(value, grad_value, first, channels, offsets, weights, gradient, dots);
      }
      const A dot = sum_of_four<kLanes<T, false>>(dots, group.lane);
      __syncwarp();  // all lanes have read the sample: its place is free
      if (group.lane < kNumCorners) reinterpret_cast<A*>(staged.numbers + place)[group.lane] = dot;
    }
    __syncwarp();
    write_sample(staged, samples, group, geometry, sample, grad_points, grad_weights);
    __syncwarp();
  }
  if constexpr (Samples::kFused) write_logits(staged, samples, group, geometry, grad_weights);
}

}  // namespace ms_deform_attn::cuda
