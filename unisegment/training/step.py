# SPDX-License-Identifier: Apache-2.0
"""Micro-batches in, one step of the optimiser and the values of its losses out."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import repeat
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from unisegment.errors import ForeseenError
from unisegment.inference.compiling import use_lasting_cache
from unisegment.losses.base import NonFiniteLoss
from unisegment.training.batches import MicroBatch
from unisegment.training.sharding import layer_names, whole


class NonFiniteLossError(ForeseenError, ArithmeticError):
    """The loss or its gradient became infinite or not a number, and the weights were not changed.

    Args:
        file_names: The images of the micro-batches that it happened in, on any process.
    """

    found_by_all = True

    def __init__(self, file_names: Sequence[str]) -> None:
        super().__init__(
            f"The loss is not a finite number for the images {', '.join(file_names)}. Look at these images and their "
            f"annotations. If they are fine, training has diverged: lower optim.lr, set optim.clip_norm=0.01, or use "
            f"run.precision=no or bf16."
        )
        self.file_names = list(file_names)


class LossOnly(nn.Module):
    """Give the losses of a model and nothing else.

    This is what accelerate wraps. Its autocast then ends with the training step, while the model inside evaluates in
    float32; and as no logits leave it, none are copied to float32.

    Args:
        model: Called with the inputs of a micro-batch and `loss_denominators`; returns `loss` and `loss_dict`.
        compiled: Let torch.compile make kernels of what comes before the loss: models end their graph there. Random
            numbers stay those of torch, so that a step is the same but for rounding. The model itself stays as it is:
            it has the same names of weights, and evaluates without them.
    """

    def __init__(self, model: nn.Module, compiled: bool = False) -> None:
        super().__init__()
        self.model = model
        self._call: Callable[..., Any] | None = None
        if compiled:
            use_lasting_cache()
            # Of the bound method: a compiled module would be a second child, with all weights once more.
            self._call = torch.compile(model.forward, options={"fallback_random": True})
        self._no_split_modules = layer_names(model)  # what accelerate calls them

    def forward(self, inputs: dict[str, Any], denominators: Tensor | None) -> dict[str, Float[Tensor, ""]]:
        """Return `loss`, and its terms without their gradient; all are NaN where targets cannot be matched."""
        try:
            outputs = (self._call or self.model)(**inputs, loss_denominators=denominators)
        except NonFiniteLoss as found:
            # Other processes wait for this one's gradients, layer by layer: all of them are NaN, and all find it out.
            loss = math.nan * torch.stack([tensor.sum() for tensor in found.touching]).sum()
            return {"loss": loss} | {name: loss.detach() for name in found.terms}
        return {"loss": outputs.loss} | {name: term.detach() for name, term in outputs.loss_dict.items()}


def take_step(
    accelerator: Accelerator,
    losses: nn.Module,
    optimizer: Optimizer,
    micro_batches: Sequence[MicroBatch],
    denominators: Sequence[Tensor] | None,
    clip_norm: float,
) -> dict[str, float]:
    """Change the weights once.

    Args:
        accelerator: What prepared the next two.
        losses: A `LossOnly`.
        optimizer: Holds the parameters.
        micro_batches: Go through the model one after the other; their gradients add up.
        denominators: What each of them divides its losses by, see `SegmentationModel`. None means that these are means,
            whose mean is learned from.
        clip_norm: Largest L2 norm of all gradients together; 0 does not clip.

    Returns:
        `loss` and its terms, of the whole batch of all processes, and `gradient_norm` before clipping.

    Raises:
        NonFiniteLossError: When the loss or the gradient is infinite or not a number, on every process. Weights and
            running statistics are then as they were before. An overflow of fp16's scaled gradients is none: the scale
            shrinks and the step is left out, as usual.
    """
    optimizer.zero_grad()
    statistics = _running_statistics(losses)
    before = [statistic.clone() for statistic in statistics]
    values: list[Tensor] = []
    share = 1 / len(micro_batches) if denominators is None else 1.0
    for batch, denominator in zip(micro_batches, denominators or repeat(None), strict=denominators is not None):
        is_last = len(values) == len(micro_batches) - 1
        with nullcontext() if is_last else accelerator.no_sync(losses):
            with accelerator.autocast():  # which accelerate leaves to the caller with FSDP2
                terms = losses(_sent(batch.inputs, accelerator.device), denominator)
            accelerator.backward(share * terms["loss"])
        values.append(share * torch.stack([term.detach().float() for term in terms.values()]))
    # Once a step and over everything, after fp16's scale is taken off: with AdamW the paper's small norm of 0.01 acts
    # as a normalisation of the gradient.
    norm = whole(accelerator.clip_grad_norm_(losses.parameters(), clip_norm or math.inf))
    norm = torch.as_tensor(norm, dtype=torch.float32, device=accelerator.device)  # DeepSpeed gives a number
    own = torch.stack(values)  # the loss and its terms, of each micro-batch
    # All numbers are read together: an accelerator is waited for once, and takes the step while the next batch comes.
    *numbers, gradient_norm = torch.cat([own[:, 0], accelerator.reduce(own.sum(0), "mean"), norm[None]]).tolist()
    own_losses, found = numbers[: len(own)], dict(zip(terms, numbers[len(own) :], strict=True))
    loss = found["loss"]
    is_finite = math.isfinite(loss) and (math.isfinite(gradient_norm) or accelerator.scaler is not None)
    if is_finite or accelerator.scaler is not None:
        optimizer.step()  # with a scaler: only if its gradients are finite
    if not is_finite:
        optimizer.zero_grad()
        for statistic, value in zip(statistics, before, strict=True):
            statistic.copy_(value)
        # A finite loss has an infinite gradient: any image may be the cause.
        bad = [batch for batch, own_loss in zip(micro_batches, own_losses, strict=True) if not math.isfinite(own_loss)]
        bad = bad if not math.isfinite(loss) else list(micro_batches)
        raise NonFiniteLossError(gather_object([name for batch in bad for name in batch.file_names]))
    return found | {"gradient_norm": gradient_norm}


def _sent(inputs: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Send a batch to the device but for its targets: the model looks at their values first, and a GPU would wait."""
    return send_to_device(inputs, device, non_blocking=True, skip_keys=["mask_labels", "class_labels"])


def _running_statistics(module: nn.Module) -> list[Tensor]:
    """Return what batch norms count; a batch that is not learned from must not be counted."""
    norms = (part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm))
    return [buffer for norm in norms for buffer in norm.buffers()]
