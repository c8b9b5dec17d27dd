// SPDX-License-Identifier: Apache-2.0
//
// Registration macros for our own builds, loaded with torch.ops.load_library. kernel-builder generates a file of the
// same name and macros, which makes the library a Python module as well.
#pragma once

#include <torch/csrc/stable/library.h>

// One level of expansion more, so that NAME may itself be a macro (TORCH_EXTENSION_NAME).
#define STABLE_TORCH_LIBRARY_EXPAND(NAME, MODULE) STABLE_TORCH_LIBRARY(NAME, MODULE)
#define STABLE_TORCH_LIBRARY_IMPL_EXPAND(NAME, DEVICE, MODULE) STABLE_TORCH_LIBRARY_IMPL(NAME, DEVICE, MODULE)
#define REGISTER_EXTENSION(NAME)
