# SPDX-License-Identifier: Apache-2.0
"""Stage: the kernel is compiled from its sources for this GPU."""

import time
from collections.abc import Iterator

import torch
from gpu_report import rates
from gpu_report.rows import Row, failure
from gpu_report.settings import Settings

from unisegment.ops.kernel_backend import describe_backend, resolve_backend
from unisegment.ops.kernel_build import KernelUnavailableError


def rows(settings: Settings) -> Iterator[Row]:
    """Yield how long it took, and what there is now."""
    began = time.monotonic()
    try:
        resolve_backend("native", torch.device(settings.device, 0))
    except RuntimeError as error:
        yield {"what": "kernel", "error": failure(error)}
        print(error)  # a compiler's whole output
    else:
        yield {"what": "kernel", "s": time.monotonic() - began}
    yield from ({"what": name, "value": text} for name, text in describe_backend())
    began = time.monotonic()
    try:
        rates.library(settings.device)
    except (KernelUnavailableError, RuntimeError, OSError) as error:
        yield {"what": "rates.cu", "error": failure(error)}
    else:
        yield {"what": "rates.cu", "s": time.monotonic() - began}
