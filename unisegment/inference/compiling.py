# SPDX-License-Identifier: Apache-2.0
"""A model in, the same model compiled by torch.compile out, ready sooner in the next process."""

import logging
import os
import sys
from functools import partial
from time import perf_counter
from typing import Any

import torch
from accelerate import PartialState
from einops import rearrange
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException
from tqdm import tqdm

from unisegment.ops.kernel_build import KernelUnavailableError, cache_folder

_CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
_ROUNDS, _ROUNDS_SECONDS = 10, 1.0
"""Most comparisons with the model as it is, and after which time no third one is begun."""
_GAIN = 0.95
"""Share of the time from which on a gain is none: two runs of the same differ as much."""


class CompiledNetwork:
    """A model whose forward pass is compiled at the first call, which says how long that took and what it gives.

    The model itself stays as it is: it is saved, copied and pickled as ever, and computes what cannot be compiled. One
    graph serves single images of all sizes, and one more all batches.

    Args:
        model: In evaluation mode.
        options: Of torch.compile.
    """

    def __init__(self, model: nn.Module, **options: Any) -> None:
        use_lasting_cache()
        for kind in (Tensor, nn.Parameter):  # einops learns of them; later, that would be a reason to compile anew
            rearrange(kind(torch.zeros(1)), "a -> a")
        self.model, self._options = model, options
        self._call: Any = torch.compile(model, **options)
        self._is_fresh = True

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **self._options), (self.model,)  # a process compiles for itself

    @property
    def is_compiled(self) -> bool:
        """False when that failed, so that the model runs as it is."""
        return self._call is not self.model

    def __call__(self, **inputs: Any) -> Any:
        """Return the model's output.

        Args:
            inputs: Of the model, by name: (b _ h w) and (b h w).
        """
        for tensor in inputs.values():
            for axis in (0, -2, -1):
                torch._dynamo.maybe_mark_dynamic(tensor, axis % tensor.ndim)
        start = perf_counter()
        try:
            outputs = self._call(**inputs)
        except TorchDynamoException as error:
            self._call, self._is_fresh = self.model, False
            logging.getLogger(__name__).warning(
                "torch.compile failed, so that the network runs without it: %s. See https://pytorch.org/docs/stable/"
                "torch.compiler_troubleshooting.html, or leave compile out.",
                _first_line(error),
            )
            return self.model(**inputs)
        if self._is_fresh:
            self._is_fresh = False
            seconds = perf_counter() - start
            if PartialState().is_main_process:
                tqdm.write(self._gain(seconds, inputs), file=sys.stderr)
        return outputs

    def _gain(self, seconds: float, inputs: dict[str, Any]) -> str:
        """Compare with the model as it is, on the same images, in turns; of each the fastest pass counts."""
        calls, began = (self._call, self.model), perf_counter()
        times: list[list[float]] = []
        while len(times) < 2 or (len(times) < _ROUNDS and perf_counter() - began < _ROUNDS_SECONDS):
            times.append([_seconds_of(call, inputs) for call in calls])
        compiled, plain = map(min, zip(*times, strict=True))
        height, width = inputs["pixel_values"].shape[2:]
        line = (
            f"compiled in {seconds:.0f} s; {height}x{width} pixels then take {_readable(compiled)}, without "
            f"compilation {_readable(plain)}"
        )
        return line if compiled < _GAIN * plain else f"{line}: no gain here, leave compile out"


def _readable(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _seconds_of(call: Any, inputs: dict[str, Any]) -> float:
    is_on_gpu = inputs["pixel_values"].device.type == "cuda"
    start = perf_counter()
    call(**inputs)
    if is_on_gpu:
        torch.cuda.synchronize()
    return perf_counter() - start


def use_lasting_cache() -> None:
    """Let torch keep what it compiled beside our kernels: its own folder is under /tmp, which a restart empties."""
    if not os.environ.get(_CACHE_VARIABLE):
        try:
            folder = cache_folder("unisegment-compiled")
            folder.mkdir(0o700, parents=True, exist_ok=True)
        except (KernelUnavailableError, OSError):
            return  # torch's own will do
        os.environ[_CACHE_VARIABLE] = str(folder)


def _first_line(error: BaseException) -> str:
    """Return what went wrong without the pages that torch adds: where it was, and how to see more."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[0] if lines else type(error).__name__
    if line.endswith("raised:") and len(lines) > 1:
        line = lines[1]
    return line[:300].rstrip(".:")
