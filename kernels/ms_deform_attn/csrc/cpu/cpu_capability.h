// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "loops.h"

namespace ms_deform_attn {

// The loops to run: for the best instruction set of this processor, or the one that was set.
const Loops& selected_loops();

// "default", "avx2" or "avx512": what runs.
std::string cpu_capability();

// Demands an instruction set, for tests. Raises when this processor lacks it.
void set_cpu_capability(std::string name);

}  // namespace ms_deform_attn
