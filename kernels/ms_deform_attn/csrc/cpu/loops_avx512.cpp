// SPDX-License-Identifier: Apache-2.0
//
// The loops for x86-64 processors with AVX-512.

#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512VL__) || !defined(__AVX512DQ__)
#error "Compile this file with -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mprefer-vector-width=256."
#endif

#define CPU_CAPABILITY avx512
#include "loops_implementation.h"
