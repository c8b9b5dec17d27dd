# SPDX-License-Identifier: Apache-2.0
"""Whether GPUs may round float32 to TF32 (10 bits behind the point) in matrix products and convolutions.

torch has two sets of switches for it, and reading the one after the other was set may raise: torch.compile reads
`allow_tf32` up to torch 2.11, and `fp32_precision` later. Only setting `allow_tf32` keeps both in step.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def use_tf32(is_allowed: bool) -> Iterator[None]:
    """Within `with`, let GPUs that have TF32 compute in it, or not; then everything is as it was before.

    Mask2Former was trained with it, as torch had it on until 1.12. It is a switch of the whole process, has no effect
    on processors, and does not start CUDA: this process may still fork.

    Args:
        is_allowed: Also of no effect where it is True and the GPU has no TF32.
    """
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = matmul.fp32_precision, convolution.fp32_precision
    _allow(is_allowed, is_allowed)
    try:
        yield
    finally:
        _allow(*(precision == "tf32" for precision in before))
        matmul.fp32_precision, convolution.fp32_precision = before


def is_tf32_allowed() -> bool:
    """Tell whether GPUs that have TF32 compute in it now."""
    return bool(torch.backends.cuda.matmul.fp32_precision == "tf32")


def has_tf32(device: torch.device) -> bool:
    """Tell whether a device has TF32; starts CUDA where it is a GPU."""
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):
        return torch.cuda.is_tf32_supported()


def _allow(matmul: bool, convolution: bool) -> None:
    with warnings.catch_warnings():
        # Some releases advise the other set, see above.
        warnings.filterwarnings("ignore", "Please use the new API settings to control TF32", UserWarning)
        torch.backends.cuda.matmul.allow_tf32 = matmul
        torch.backends.cudnn.allow_tf32 = convolution
