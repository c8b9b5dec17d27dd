// SPDX-License-Identifier: Apache-2.0
//
// The loops for x86-64 processors with AVX2 and FMA.

#if !defined(__AVX2__) || !defined(__FMA__)
#error "Compile this file with -mavx2 -mfma."
#endif

#define CPU_CAPABILITY avx2
#include "loops_implementation.h"
