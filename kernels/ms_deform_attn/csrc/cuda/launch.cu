// SPDX-License-Identifier: Apache-2.0
//
// The kernels, and their start on a GPU. No header of torch: they would be compiled once more for each kind of GPU.
#include <cuda_runtime.h>

#include "launch.cuh"

namespace ms_deform_attn::cuda {
namespace {

constexpr int64_t kMostBlocks = 0x7fffffff;
constexpr int kOrdinarySharedBytes = 48 << 10;  // what a kernel gets without asking

struct Launcher {
  static constexpr int64_t kMostImages = 65535;  // in the second direction of a grid
  cudaStream_t stream;
  const char*& failure;

  template <typename Kernel, typename... Arguments>
  void start(Kernel* kernel, const Grid& grid, const Arguments&... arguments) const {
    if (grid.blocks > kMostBlocks) failure = "more than 2^31 blocks; split the queries";
    if (!failure && grid.shared_bytes > kOrdinarySharedBytes) {
      const cudaError_t error =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, grid.shared_bytes);
      if (error != cudaSuccess) failure = cudaGetErrorString(error);
    }
    if (failure) return;
    kernel<<<dim3(unsigned(grid.blocks), grid.images), dim3(grid.lanes, grid.groups), grid.shared_bytes, stream>>>(
        arguments...);
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) failure = cudaGetErrorString(error);
  }
};

}  // namespace

const char* run_on_stream(const Call& call, bool backward, void* stream) {
  const char* failure = nullptr;
  launch(call, backward, Launcher{static_cast<cudaStream_t>(stream), failure});
  return failure;
}

}  // namespace ms_deform_attn::cuda
