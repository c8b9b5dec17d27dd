// SPDX-License-Identifier: Apache-2.0
//
// The loops for any processor.

#define CPU_CAPABILITY default
#include "loops_implementation.h"
