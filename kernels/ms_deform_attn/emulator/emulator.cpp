// SPDX-License-Identifier: Apache-2.0
//
// Runs the CUDA kernels on the CPU, slowly: the same source, the same choice of kernel, the same blocks and lanes. For
// tests on machines without a GPU. Linked with csrc/cuda/ms_deform_attn_cuda.cpp and torch-ext/torch_binding.cpp it
// serves the operators for tensors on the CPU, in a namespace of its own; `emulate` runs the kernels alone.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>

#include <sanitizer/asan_interface.h>

#include "cuda_on_cpu.h"
// After it, because it takes the place of CUDA's own headers.
#include "../csrc/cuda/launch.cuh"
#include "../csrc/cuda/ms_deform_attn_cuda.h"
#include "../csrc/registration.h"

namespace ms_deform_attn::cuda {

uint4 shared_memory[(1 << 17) / sizeof(uint4)];

namespace {

struct Emulator {
  static constexpr int64_t kMostImages = 2;  // so that small batches take several grids
  bool last_lane_first;

  template <typename Kernel, typename... Arguments>
  void start(const Kernel& kernel, const Grid& grid, const Arguments&... arguments) const {
    if (grid.shared_bytes > int(sizeof shared_memory)) {
      failure = "a block needs more shared memory than there is";
      return;
    }
    // What a block did not ask for is not its own. AddressSanitizer sees to that, without it these lines do nothing.
    ASAN_UNPOISON_MEMORY_REGION(shared_memory, grid.shared_bytes);
    ASAN_POISON_MEMORY_REGION(reinterpret_cast<char*>(shared_memory) + grid.shared_bytes,
                              sizeof shared_memory - grid.shared_bytes);
    blockDim = {unsigned(grid.lanes), unsigned(grid.groups)};
    for (int64_t block = 0; block < grid.blocks * grid.images && !failure; ++block) {
      blockIdx = {unsigned(block % grid.blocks), unsigned(block / grid.blocks)};
      memset(shared_memory, 0xff, grid.shared_bytes);  // not a number
      for (unsigned thread = 0; thread < blockDim.x * blockDim.y; thread += Warp::kLanes) {
        warp.run(thread, last_lane_first, [&] { kernel(arguments...); });
      }
    }
  }
};

}  // namespace

const char* run_on_stream(const Call& call, bool backward, void*) {
  failure = nullptr;
  double_places = true;
  launch(call, backward, Emulator{false});
  return failure;
}

}  // namespace ms_deform_attn::cuda

// There are no streams and devices to choose from.
extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void** stream) {
  *stream = nullptr;
  return AOTI_TORCH_SUCCESS;
}
extern "C" AOTITorchError aoti_torch_create_device_guard(int32_t, DeviceGuardHandle* guard) {
  *guard = nullptr;
  return AOTI_TORCH_SUCCESS;
}
extern "C" AOTITorchError aoti_torch_delete_device_guard(DeviceGuardHandle) { return AOTI_TORCH_SUCCESS; }

STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CPU, ops) {
  ops.impl("ms_deform_attn", TORCH_BOX(&ms_deform_attn_cuda));
  ops.impl("ms_deform_attn_backward", TORCH_BOX(&ms_deform_attn_backward_cuda));
  ops.impl("ms_deform_attn_fused", TORCH_BOX(&ms_deform_attn_fused_cuda));
  ops.impl("ms_deform_attn_fused_backward", TORCH_BOX(&ms_deform_attn_fused_backward_cuda));
}

// The fields of `Call` and `make_geometry`; tests/kernels/test_emulator.py has the same.
struct Arguments {
  int64_t batch_size, num_queries;
  int32_t num_levels, num_points, num_heads, head_dim;
  int32_t value_type, parameter_type, fused, queries_are_pixels, backward, last_lane_first, double_places;
  const int64_t* spatial_shapes;
  const void *value, *points, *weights, *reference_points;
  void* output;
  const void* grad_output;
  void *grad_value, *grad_points, *grad_weights;
};

// Returns null, or what went wrong.
extern "C" __attribute__((visibility("default"))) const char* emulate(const Arguments& a) {
  using namespace ms_deform_attn::cuda;
  failure = nullptr;
  double_places = a.double_places;
  warp.sectors = 0;
  const Geometry geometry =
      make_geometry(a.spatial_shapes, a.num_levels, a.num_points, a.num_queries, a.num_heads, a.head_dim);
  const Call call{Number(a.value_type),
                  Number(a.parameter_type),
                  bool(a.fused),
                  bool(a.queries_are_pixels),
                  a.batch_size,
                  geometry,
                  a.value,
                  a.points,
                  a.weights,
                  a.reference_points,
                  a.output,
                  a.grad_output,
                  a.grad_value,
                  a.grad_points,
                  a.grad_weights};
  launch(call, a.backward, Emulator{bool(a.last_lane_first)});
  return failure;
}

// Sectors of the L2 cache that the last call's additions went to.
extern "C" __attribute__((visibility("default"))) int64_t reduction_sectors() { return warp.sectors; }
