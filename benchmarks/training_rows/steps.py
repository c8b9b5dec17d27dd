# SPDX-License-Identifier: Apache-2.0
"""The steps that take turns, and whether their losses agree."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from gpu_report.model_pair import Contender, make_images, make_targets, same_points
from gpu_report.whole_model import autocast, training_step
from inference_rows.turns import OURS, THEIRS
from training_rows.cases import Case

from unisegment.ops.tf32 import use_tf32
from unisegment.training.assembly import recompute_layers

RELATIVE_ERROR = {"float32": 1e-3, "bfloat16": 3e-2}
"""How far a loss may be from transformers' in float32. After other masks of attention it is more than rounding."""


class Steps:
    """Both models of a pair, on a device, and what they are given.

    Args:
        pair: Ours and transformers', of equal weights.
        case: Says which images and targets; its kind does not matter.
        device: "cpu" or "cuda".
    """

    def __init__(self, pair: Sequence[Contender], case: Case, device: str) -> None:
        self._device = torch.device(device)
        size = case.side, case.side
        self._images = make_images(case.batch_size, size, self._device)
        self._targets = make_targets(case.batch_size, size, self._device, case.masks)
        self._pair = dict(zip((OURS, THEIRS), pair, strict=True))
        for one in pair:
            one.model.to(self._device)

    def loss(self, who: str, kind: str) -> float:
        """Return the loss of a contender in one form, at points that are equal for all."""
        one = self._pair[who]
        with same_points(), torch.no_grad(), use_tf32(False), autocast(precision_of(kind), self._device):
            return one.network(self._images, **one.targets_of(self._targets)).loss.item()

    def compare(self, who: str, kind: str, expected: float) -> dict[str, Any]:
        """Return how far a loss is from what is expected, with an `error` where it is too far."""
        loss = self.loss(who, kind)
        error = abs(loss / expected - 1)
        found = {"loss": float(f"{loss:.7g}"), "relative error": float(f"{error:.2g}")}
        limit = RELATIVE_ERROR["bfloat16" if kind.endswith("bfloat16") else "float32"]
        return found if error <= limit else {"error": f"the losses differ by {error:.2g}: {loss:.6g}, {expected:.6g}"}

    def step(self, who: str, kind: str) -> Callable[[], None]:
        """Return what takes a step of AdamW and waits for its end; where layers are computed again, with a copy."""
        one = self._pair[who]
        if kind.startswith("checkpointing"):
            model = copy.deepcopy(one.model)
            recompute_layers(model)
            one = replace(one, model=model, network=model)
        run = training_step(one, precision_of(kind), self._images, one.targets_of(self._targets))

        def step() -> None:
            with use_tf32(precision_of(kind) != "fp32"):
                run()
            if self._device.type == "cuda":
                torch.cuda.synchronize()

        return step

    def weights(self, who: str) -> int:
        """Return the bytes of a contender's weights."""
        return sum(weight.nbytes for weight in self._pair[who].model.parameters())


def precision_of(kind: str) -> str:
    """Return the number format as the other benchmarks call it."""
    return "bf16" if kind.endswith("bfloat16") else "fp32"
