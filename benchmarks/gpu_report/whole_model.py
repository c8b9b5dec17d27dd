# SPDX-License-Identifier: Apache-2.0
"""The whole model, ours beside transformers' with equal weights: logits and losses compared, then times and memory.

Parts: "inference", "training", "compiled". First, the logits of both are compared in float32 without TF32, for training
their losses at equal random points. Then come the cases of model_cases.py. One that the time left is not enough for
says so in its row, and smaller ones may follow; running out of memory, or any other error, is a row, too.

A call is timed as its user sees it, launches and waiting of the CPU included. Inference is the network alone (`ms`)
and the network with panoptic results of all images (`ms_post`). A training step is a forward pass with loss, a backward
pass and a step of AdamW, on targets that are on the device already; each code draws its own random points. `peak_mib`
is the weights and all that the network alone, or the step, needs beside images and targets.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from gpu_report.measure import milliseconds, peak_mib
from gpu_report.model_cases import CASES, SMALL, Case
from gpu_report.model_pair import Contender, compare_logits, compare_losses, make_images, make_pair, make_targets
from gpu_report.rows import Row, failure
from gpu_report.settings import Settings

from unisegment.inference.graphs import record
from unisegment.ops.tf32 import use_tf32

SECONDS, REPEATS = 0.7, 20
"""How long and how often a call is timed at most, but three times."""
MAKE_SECONDS, COMPILE_SECONDS = 15, 45
"""What making two models, and compiling one, is forecast to take at full size."""
SECONDS_OF_AN_IMAGE = 0.1
"""What one of 1024x1024 through R50 is forecast to take until one has been timed; four times that in training."""
_LEARNING_RATE = 1e-6  # the same work as any other, and random weights stay finite


def rows(settings: Settings) -> Iterator[Row]:
    """Yield the rows of a part."""
    if settings.small:
        torch.set_num_threads(1)  # more would only wait for each other
    comparison = Comparison(settings)
    for case in (SMALL if settings.small else CASES)[settings.part]:
        if case.backbone != comparison.backbone:
            yield from comparison.begin(case)
        yield from comparison.measure(case)


class Comparison:
    """Both models of one backbone, on the device, and what was measured of them.

    Args:
        settings: Where, which part, and until when.
    """

    def __init__(self, settings: Settings) -> None:
        self.backbone = ""
        self._settings = settings
        self._device = torch.device(settings.device)
        self._is_training = settings.part == "training"
        self._pair: Sequence[Contender] = ()
        self._rates: dict[str, float] = {}
        self._found: dict[tuple[str, str], Row] = {}

    def begin(self, case: Case) -> Iterator[Row]:
        """Make the models of a backbone, and yield a row that says whether both compute the same (not once more)."""
        if self._pair:  # of another backbone
            self._pair = ()
            free()
        self.backbone = case.backbone
        if skipped := self._skipped(0 if self._settings.small else MAKE_SECONDS):
            yield {"what": f"{case.backbone} models", **skipped}
            return
        self._pair = make_pair(case.backbone)
        for one in self._pair:
            one.model.to(self._device)
        if self._settings.part == "compiled":
            return
        images = make_images(1, case.size, self._device)
        if self._is_training:
            targets = make_targets(1, case.size, self._device)
            kind, check = "losses", lambda: compare_losses(self._pair, images, targets)
        else:
            kind, check = "logits", lambda: compare_logits(self._pair, images)
        with use_tf32(False):
            found = attempt(check)
        yield {"what": f"{case.backbone} {kind} fp32", "who": "ours against transformers", **found}

    def measure(self, case: Case) -> Iterator[Row]:
        """Yield a row for each of the two models; the later one has the ratios."""
        for one in self._pair:
            key = one.name, case.for_peer
            if one.name == "transformers" and key in self._found:
                continue  # it was the same for another format of our pixel decoder
            row: Row = {"what": self._name(one, case), "who": one.name}
            if skipped := self._skipped(self._forecast(one, case)):
                yield row | skipped
                continue
            self._found[key] = attempt(lambda one=one, case=case: self._measure(one, case))
            yield row | self._found[key] | self._ratios(case)
            if "error" in self._found[key]:
                require_sound(self._device)

    def _name(self, one: Contender, case: Case) -> str:
        name = case.name if one.name == "ours" else case.for_peer
        if self._settings.part == "compiled" and case.way == "eager":
            return f"{name} eager"  # so that no other part has a row of the same name
        return f"training {name}" if self._is_training else name

    def _skipped(self, forecast: float) -> Row | None:
        left = self._settings.left()
        return {"skipped": f"takes some {forecast:.0f} s, {max(left, 0):.0f} s are left"} if forecast > left else None

    def _forecast(self, one: Contender, case: Case) -> float:
        """Return how many seconds a row will take, by what others took."""
        kinds = 1 if self._is_training else 2
        first = SECONDS_OF_AN_IMAGE * (4 if self._is_training else 1)
        call = self._rates.get(one.name, first) * case.work
        full = 0 if self._settings.small else 1
        return full * (1 + kinds * SECONDS + (case.way == "compiled") * COMPILE_SECONDS) + (3 + kinds * 4) * call

    def _measure(self, one: Contender, case: Case) -> Row:
        for each in self._pair:
            each.model.zero_grad()  # what the last case left would be no part of this one's memory
        dtype = torch.bfloat16 if case.precision == "bf16 weights" else torch.float32
        one.model.to(dtype)
        images = make_images(case.batch_size, case.size, self._device).to(dtype)
        if one.name == "ours":
            one.network.config.pixel_decoder_dtype = "autocast" if case.decoder == "autocast" else "float32"
        with use_tf32(case.allows_tf32):
            if self._is_training:
                targets = make_targets(case.batch_size, case.size, self._device)
                row = self._timed(one, {"ms": training_step(one, case.precision, images, one.targets_of(targets))})
            else:
                infer = inference(one, case.precision, images, case.way)
                calls = {"ms": infer, "ms_post": lambda: one.panoptic(infer())}
                row = self._timed(one, calls, with_peak=case.way != "recorded")  # whose memory is taken already
        self._rates[one.name] = max(row.get("ms_post", 0), row["ms"]) / 1000 / case.work
        return row | {"images_per_s": case.batch_size / row["ms"] * 1000}

    def _timed(self, one: Contender, calls: dict[str, Callable[[], object]], with_peak: bool = True) -> Row:
        """Return what the first call needs, and the median time of each."""
        device, found = self._settings.device, {}
        for name, call in calls.items():
            if name == "ms" and with_peak:  # twice: from then on there are gradients and what the optimiser keeps
                peak = peak_mib(device, lambda call=call: [call() for _ in range(2)])
                if peak is not None:
                    found["peak_mib"] = peak + sum(weight.nbytes for weight in one.model.parameters()) / 2**20
            repeats = 1 if self._settings.small else REPEATS
            found[name] = milliseconds(device, lambda _, call=call: call(), repeats, warm_ups=1, seconds=SECONDS)
        return found

    def _ratios(self, case: Case) -> Row:
        """Return how many times faster ours is, and its share of memory."""
        ours, theirs = (self._found.get((one.name, case.for_peer), {}) for one in self._pair)
        shares = {"ratio": ("ms", theirs, ours), "ratio_post": ("ms_post", theirs, ours)}
        shares["memory_ratio"] = "peak_mib", ours, theirs
        return {
            name: one[key] / other[key] for name, (key, one, other) in shares.items() if key in one and key in other
        }


def inference(one: Contender, precision: str, images: torch.Tensor, way: str = "eager") -> Callable[[], Any]:
    """Return what predicts, without a gradient."""
    one.model.eval()
    network, on_gpu = one.network, images.is_cuda
    torch.compiler.reset()
    if way == "compiled":
        network = torch.compile(network, dynamic=False, backend="inductor" if on_gpu else "eager")

    def infer(pixel_values: torch.Tensor = images) -> Any:
        with torch.no_grad(), autocast(precision, images.device):
            return network(pixel_values)

    if way != "recorded" or not on_gpu or one.name != "ours":
        return infer
    recording = record(infer, {"pixel_values": images})

    def replay() -> Any:
        recording.replay()
        return recording.outputs

    return replay


def training_step(one: Contender, precision: str, images: torch.Tensor, targets: dict[str, Any]) -> Callable[[], None]:
    """Return what takes a step of AdamW."""
    one.model.train()
    one.model.at_step(0, of=1)  # EoMT begins with all of its masks
    weights = [weight for weight in one.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=_LEARNING_RATE, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with autocast(precision, images.device):
            loss = one.network(images, **targets).loss
        loss.backward()
        optimizer.step()

    return step


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context of a number format."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def attempt(call: Callable[[], Row]) -> Row:
    """Return what a call returns, or how it failed."""
    try:
        return call()
    except Exception as error:
        row = {"error": failure(error)}
    free()  # only here: the traceback of an error holds all tensors
    return row


def free() -> None:
    """Give memory back that nobody holds."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def require_sound(device: torch.device) -> None:
    """Raise a RuntimeError when an error has left the GPU unusable for this process."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
