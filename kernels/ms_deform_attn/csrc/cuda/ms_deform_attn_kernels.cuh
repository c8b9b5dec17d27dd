// SPDX-License-Identifier: Apache-2.0
//
// Multi-scale deformable attention: the two kernels, forward and backward. No header of torch in here: nvcc compiles
// this file, and so does a C++ compiler with emulator/cuda_on_cpu.h.
//
// The lanes of a group share the work of finding the samples of one level, leave them in shared memory, and then go
// through all of them together, each with its own channels. Groups lie within a warp: no block ever waits.
#pragma once

#include "samples.cuh"

namespace ms_deform_attn::cuda {

extern __shared__ uint4 shared_memory[];

// The samples of one level, of all groups of a block: [point][group], so that groups use different banks.
template <typename T, bool kForward>
struct Staged {
  using A = computed_t<T>;
  Four<A>* numbers;
  Corners* corners;
  A* weight_gradients;  // of all levels, [k][group]; only the fused backward needs it

  __device__ __forceinline__ explicit Staged(int num_points)
      : numbers(reinterpret_cast<Four<A>*>(shared_memory)),
        corners(reinterpret_cast<Corners*>(numbers + num_points * kTile<T, kForward>)),
        weight_gradients(reinterpret_cast<A*>(corners + num_points * kTile<T, kForward>)) {}

  static __device__ __forceinline__ int place(int sample, const Group& group) {
    return sample * kTile<T, kForward> + group.slot;
  }
};

template <typename T, bool kForward>
inline int shared_bytes(const Geometry& geometry, bool fused) {
  using A = computed_t<T>;
  const int weight_gradients = fused && !kForward ? geometry.num_samples * int(sizeof(A)) : 0;
  return kTile<T, kForward> * (geometry.num_points * int(sizeof(Four<A>) + sizeof(Corners)) + weight_gradients);
}

// Finds the samples of one level. Forward wants the weights of their corners, backward what these are made of.
template <typename T, bool kForward, typename Samples>
__device__ __forceinline__ void stage(const Staged<T, kForward>& staged, const Samples& samples, const Group& group,
                                      const Geometry& geometry, int level) {
  using A = computed_t<T>;
  const Map map = geometry.levels[level];
#pragma unroll 1
  for (int point = group.lane; point < geometry.num_points; point += kLanes<T>) {
    const int64_t k = group.first_sample(geometry) + level * geometry.num_points + point;
    const int slot = staged.place(point, group);
    const Pair<double> place = samples.place(k, group.batch_query * geometry.num_levels + level, map);
    const Cell<A> cell = locate<A>(place.x, place.y, map.width, map.height);
    const A weight = samples.weight(k);
    if (kForward) {
      A weights[kNumCorners];
      corner_weights(weight, cell.right, cell.down, weights);
      staged.numbers[slot] = {weights[0], weights[1], weights[2], weights[3]};
    } else {
      staged.numbers[slot] = {weight, cell.right, cell.down, A(0)};
    }
    staged.corners[slot] = group.alive ? corners_of(cell, map) : Corners{{-1, -1, -1, -1}};
  }
  __syncwarp();
}

// kHeadDim is the head width, or 0 for one known only at run time.
template <typename T, typename Samples, int kHeadDim>
__global__ void __launch_bounds__(kThreads<T, true>, kBlocks<T, true>)
    forward_kernel(const T* __restrict__ value, Samples samples, T* __restrict__ output, const Geometry geometry) {
  using A = computed_t<T>;
  const int head_dim = kHeadDim ? kHeadDim : geometry.head_dim;
  const int row = geometry.num_heads * head_dim;  // numbers from one pixel to the next
  const Staged<T, true> staged(geometry.num_points);
  const Group group = this_group(geometry);
  samples.template begin<kLanes<T>>(group, geometry);
  value += group.batch * geometry.num_pixels * row + group.head * head_dim;
  for (int first = 0; first < head_dim; first += kLanes<T> * kVector<T>) {
    const int channel = first + group.lane * kVector<T>;
    const bool works = kHeadDim || channel < head_dim;
    A sums[kVector<T>] = {};
    for (int level = 0; level < geometry.num_levels; ++level) {
      stage(staged, samples, group, geometry, level);
#pragma unroll 2
      for (int point = 0; point < geometry.num_points; ++point) {
        const int slot = staged.place(point, group);
        const Four<A> four = staged.numbers[slot];
        const A weights[kNumCorners] = {four.a, four.b, four.c, four.d};
        const Corners corners = staged.corners[slot];
        Four<uint32_t> bytes[kNumCorners];  // all on their way before the first is waited for
#pragma unroll
        for (int corner = 0; corner < kNumCorners; ++corner) {
          const int pixel = corners.pixels[corner];
          bytes[corner] = load_or_zero(value + (int64_t(pixel) * row + channel), works && pixel >= 0);
        }
#pragma unroll
        for (int corner = 0; corner < kNumCorners; ++corner) {
          A numbers[kVector<T>];
          unpack<T>(bytes[corner], numbers);
#pragma unroll
          for (int i = 0; i < kVector<T>; ++i) sums[i] += weights[corner] * numbers[i];
        }
      }
      __syncwarp();
    }
    if (group.alive && works) store_vector(output + group.first_channel(geometry.num_heads, head_dim) + channel, sums);
  }
}

// The gradient of a group's output. With the fast head width a lane has a single vector of it and keeps that.
template <typename T, int kHeadDim>
struct OutputGradient {
  computed_t<T> numbers[kVector<T>];
  __device__ __forceinline__ OutputGradient(const T* address, int lane, int) {
    unpack<T>(load_bytes(address + lane * kVector<T>), numbers);
  }
  __device__ __forceinline__ static constexpr int head_dim() { return kHeadDim; }
  __device__ __forceinline__ void read(int, computed_t<T> (&result)[kVector<T>]) const {
#pragma unroll
    for (int i = 0; i < kVector<T>; ++i) result[i] = numbers[i];
  }
};
template <typename T>
struct OutputGradient<T, 0> {
  const T* address;
  int width;
  __device__ __forceinline__ OutputGradient(const T* begin, int, int dim) : address(begin), width(dim) {}
  __device__ __forceinline__ int head_dim() const { return width; }
  __device__ __forceinline__ void read(int channel, computed_t<T> (&result)[kVector<T>]) const {
    unpack<T>(load_bytes(address + channel), result);
  }
};

// What one sample contributes to the gradients: to the values through atomic additions, to its own weight and place as
// a sum over this lane's channels, (weight, x, y, unused). `start` is where the image and head begin in both.
template <typename T, int kHeadDim, typename A>
__device__ __forceinline__ Four<A> backward_of_sample(const T* value, A* grad_value, int64_t start, int row,
                                                      const Four<A>& numbers, const Corners& corners, int lane,
                                                      const OutputGradient<T, kHeadDim>& output_gradient) {
  const A weight = numbers.a, right = numbers.b, down = numbers.c;
  A weights[kNumCorners];
  corner_weights(weight, right, down, weights);
  A dots[kNumCorners] = {};  // of the output's gradient with each corner
  for (int channel = lane * kVector<T>; channel < output_gradient.head_dim(); channel += kLanes<T> * kVector<T>) {
    A gradient[kVector<T>];
    output_gradient.read(channel, gradient);
    // Two corners at a time: the additions are waited for rather than the loads, and registers are scarce.
#pragma unroll
    for (int first = 0; first < kNumCorners; first += 2) {
      int64_t places[2];
      Four<uint32_t> bytes[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        places[i] = start + int64_t(corners.pixels[first + i]) * row + channel;
        bytes[i] = load_or_zero(value + places[i], corners.pixels[first + i] >= 0);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        A pixel[kVector<T>];
        unpack<T>(bytes[i], pixel);
#pragma unroll
        for (int d = 0; d < kVector<T>; ++d) dots[first + i] += gradient[d] * pixel[d];
        if (corners.pixels[first + i] >= 0) add_scaled(grad_value + places[i], weights[first + i], gradient);
      }
    }
  }
  const Interpolated<A> dot = interpolate(dots[0], dots[1], dots[2], dots[3], right, down);
  return {dot.value, weight * dot.slope_x, weight * dot.slope_y, A(0)};
}

// Writes the gradients of the points of one level; those of the logits must wait for all levels.
template <typename T, typename Samples, typename P>
__device__ __forceinline__ void write_level(const Staged<T, false>& staged, const Samples& samples, const Group& group,
                                            const Geometry& geometry, int level, P* grad_points, P* grad_weights) {
  using A = computed_t<T>;
  const Pair<A> step = samples.step(geometry.levels[level]);
#pragma unroll 1
  for (int point = group.lane; point < geometry.num_points && group.alive; point += kLanes<T>) {
    const int in_group = level * geometry.num_points + point;
    const int64_t k = group.first_sample(geometry) + in_group;
    const Four<A> gradient = staged.numbers[staged.place(point, group)];
    Pair<P> of_point;
    narrow(gradient.b * step.x, of_point.x);
    narrow(gradient.c * step.y, of_point.y);
    reinterpret_cast<Pair<P>*>(grad_points)[k] = of_point;
    if constexpr (Samples::kFused) {
      staged.weight_gradients[staged.place(in_group, group)] = gradient.a;
    } else {
      narrow(gradient.a, grad_weights[k]);
    }
  }
  __syncwarp();
}

// The backward of the softmax, once the gradients of all its weights are there.
template <typename T, typename Samples, typename P>
__device__ __forceinline__ void write_logits(const Staged<T, false>& staged, const Samples& samples, const Group& group,
                                             const Geometry& geometry, P* grad_logits) {
  using A = computed_t<T>;
  const int num_samples = group.alive ? geometry.num_samples : 0;
  const int64_t first = group.first_sample(geometry);
  A mean = 0;
#pragma unroll 1
  for (int i = group.lane; i < num_samples; i += kLanes<T>) {
    mean += samples.weight(first + i) * staged.weight_gradients[staged.place(i, group)];
  }
  mean = sum_over_lanes<kLanes<T>>(mean);
#pragma unroll 1
  for (int i = group.lane; i < num_samples; i += kLanes<T>) {
    const A gradient = staged.weight_gradients[staged.place(i, group)];
    narrow(samples.weight(first + i) * (gradient - mean), grad_logits[first + i]);
  }
}

// grad_value is of the type computed with, and zero before. The order of its additions differs from run to run.
template <typename T, typename Samples, typename P, int kHeadDim>
__global__ void __launch_bounds__(kThreads<T, false>, kBlocks<T, false>)
    backward_kernel(const T* __restrict__ grad_output, const T* __restrict__ value, Samples samples,
                    computed_t<T>* __restrict__ grad_value, P* __restrict__ grad_points, P* __restrict__ grad_weights,
                    const Geometry geometry) {
  using A = computed_t<T>;
  const int head_dim = kHeadDim ? kHeadDim : geometry.head_dim;
  const int row = geometry.num_heads * head_dim;
  const Staged<T, false> staged(geometry.num_points);
  const Group group = this_group(geometry);
  samples.template begin<kLanes<T>>(group, geometry);
  const int64_t start = group.batch * geometry.num_pixels * row + group.head * head_dim;
  grad_output += group.first_channel(geometry.num_heads, head_dim);
  const OutputGradient<T, kHeadDim> output_gradient(grad_output, group.lane, head_dim);
  for (int level = 0; level < geometry.num_levels; ++level) {
    stage(staged, samples, group, geometry, level);
#pragma unroll 1
    for (int point = 0; point < geometry.num_points; ++point) {
      const int slot = staged.place(point, group);
      const Four<A> numbers = staged.numbers[slot];
      Four<A> gradient = backward_of_sample<T, kHeadDim>(value, grad_value, start, row, numbers, staged.corners[slot],
                                                         group.lane, output_gradient);
      gradient.a = sum_over_lanes<kLanes<T>>(gradient.a);
      gradient.b = sum_over_lanes<kLanes<T>>(gradient.b);
      gradient.c = sum_over_lanes<kLanes<T>>(gradient.c);
      __syncwarp();  // all lanes have read the sample: its place is free
      if (group.lane == 0) staged.numbers[slot] = gradient;
    }
    __syncwarp();
    write_level<T>(staged, samples, group, geometry, level, grad_points, grad_weights);
  }
  if constexpr (Samples::kFused) write_logits<T>(staged, samples, group, geometry, grad_weights);
}

}  // namespace ms_deform_attn::cuda
