// SPDX-License-Identifier: Apache-2.0
//
// Which instruction set runs: the best one this processor has, asked once.

#include "cpu_capability.h"

#include <torch/headeronly/util/Exception.h>

#include <atomic>
#include <vector>

namespace ms_deform_attn {
namespace {

// From the plainest to the best.
std::vector<const Loops*> supported_loops() {
  std::vector<const Loops*> supported{&loops_default};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    supported.push_back(&loops_avx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq")) {
      supported.push_back(&loops_avx512);
    }
  }
#endif
  return supported;
}

std::atomic<const Loops*>& selection() {
  static std::atomic<const Loops*> selected{supported_loops().back()};
  return selected;
}

}  // namespace

const Loops& selected_loops() { return *selection().load(); }

std::string cpu_capability() { return selected_loops().name; }

void set_cpu_capability(std::string name) {
  std::string names;
  for (const Loops* loops : supported_loops()) {
    if (name == loops->name) {
      selection().store(loops);
      return;
    }
    names += std::string(names.empty() ? "" : ", ") + loops->name;
  }
  STD_TORCH_CHECK(false, "cpu capability '", name, "' is unknown or not of this processor, which has: ", names, ".");
}

}  // namespace ms_deform_attn
