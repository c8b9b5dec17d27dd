// SPDX-License-Identifier: Apache-2.0
//
// What the host code and the loops agree on: plain data and a table of functions for each instruction set.
//
// Axes: b batch, s pixel of all levels (row-major, level by level), q query, m head, d channel of a head, l level,
// p point. All tensors are contiguous. `Real` is float, or double when the values are double.
#pragma once

#include <stdint.h>

#include "../ms_deform_attn_math.h"

namespace ms_deform_attn {

enum class DataType { kFloat32, kBFloat16, kFloat64 };

struct Level {
  int32_t height, width;
  int32_t first_pixel;  // its place on axis s
};

// One call of the operator. Two forms differ only in what places and weighs a sample:
//   plain  x = location * width - 0.5             weight = attention weight
//   fused  x = reference * width - 0.5 + offset   weight = softmax of the logits over all l and p of a head
struct Problem {
  int64_t num_pixels, num_queries, num_heads, head_dim;
  int num_levels, num_points;
  Level levels[kMaxLevels];
  DataType value_type;
  DataType parameter_type;     // of positions and weights
  const void* value;           // (b s m d)
  const void* reference;       // (b q l 2) Real, (x, y) in [0, 1]; null in the plain form
  const void* positions;       // (b q m l p 2): sampling locations in [0, 1], or offsets in pixels
  const void* weights;         // (b q m l p): attention weights, or logits
  const int32_t* query_order;  // (q) the order in which the forward visits queries; null for their own order
};

// What the backward reads beside the problem, and writes.
struct Gradients {
  const void* output;     // (b q m*d), gradient of the output, type of the values
  const void* attention;  // (b q m l p) Real, the samples' weights: after the softmax in the fused form
  void* value;            // (b s m d), type of the values
  void* positions;        // (b q m l p 2), type of the parameters
  void* weights;          // (b q m l p) Real, gradient of `attention`
};

// Every function works on the items [begin, end) of its axis and writes to nothing that another item writes to, so
// results are the same bit for bit whatever the number of threads.
struct Loops {
  const char* name;

  // Items: (b q) rows. Writes output (b q m*d), type of the values.
  void (*forward)(const Problem&, void* output, int64_t begin, int64_t end);

  // Items: (b m l), one head on one level. Needs `backward_scratch_size` bytes for itself, aligned to 64.
  void (*backward)(const Problem&, const Gradients&, void* scratch, int64_t begin, int64_t end);
  int64_t (*backward_scratch_size)(const Problem&);

  // Items: (b q m) rows. Writes the softmax of `problem.weights` to attention (b q m l p), Real.
  void (*softmax)(const Problem&, void* attention, int64_t begin, int64_t end);

  // Items: (b q m) rows. Writes the gradient of the logits (b q m l p), type of the parameters.
  void (*softmax_backward)(const Problem&, const Gradients&, void* grad_logits, int64_t begin, int64_t end);
};

extern const Loops loops_default;
#if defined(__x86_64__)
extern const Loops loops_avx2;
extern const Loops loops_avx512;
#endif

}  // namespace ms_deform_attn
