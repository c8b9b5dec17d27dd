# SPDX-License-Identifier: Apache-2.0
{
  description = "Multi-scale deformable attention for CPU and CUDA";

  inputs.kernel-builder.url = "github:huggingface/kernels";

  outputs =
    { self, kernel-builder }:
    kernel-builder.lib.genKernelFlakeOutputs {
      inherit self;
      path = ./.;
    };
}
