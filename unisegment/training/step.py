# SPDX-License-Identifier: Apache-2.0
"""Micro-batches in, one step of the optimiser and the values of its losses out."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from unisegment.losses.criterion import loss_denominators
from unisegment.losses.matcher import NonFiniteCostError
from unisegment.training.batches import MicroBatch


class NonFiniteLossError(ArithmeticError):
    """The loss became infinite or not a number; the message names the images."""


class LossOnly(nn.Module):
    """Give the losses of a model and nothing else.

    This is what accelerate wraps. Its autocast then ends with the training step, while the model inside evaluates in
    float32; and as no logits leave it, none are copied to float32.

    Args:
        model: Called with the inputs of a micro-batch and `loss_denominators`; returns `loss` and `loss_dict`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Any], denominators: Float[Tensor, "2"]) -> dict[str, Float[Tensor, ""]]:
        """Return `loss`, and its terms without their gradient."""
        outputs = self.model(**inputs, loss_denominators=denominators)
        return {"loss": outputs.loss} | {name: term.detach() for name, term in outputs.loss_dict.items()}


def step_denominators(
    accelerator: Accelerator, micro_batches: Sequence[MicroBatch], num_queries: int, no_object_weight: float, mode: str
) -> list[Float[Tensor, "2"]]:
    """Return what each micro-batch divides its losses by, so that their sum is the loss of the whole batch.

    Args:
        accelerator: Knows the other processes, whose gradients are averaged with ours.
        micro_batches: Those of this process in this step.
        num_queries: Queries of the model.
        no_object_weight: Class weight of queries without a segment.
        mode: "global": the number of masks and the sum of class weights of the whole batch. "rank": the class term is
            the mean of the terms of the micro-batches, each divided by its own sum.
    """
    own = torch.stack(
        [
            loss_denominators([len(labels) for labels in batch.inputs["class_labels"]], num_queries, no_object_weight)
            for batch in micro_batches
        ]
    ).to(accelerator.device)
    shared = accelerator.reduce(own.sum(0), "mean")
    if mode == "rank":
        return [torch.stack([shared[0], class_weights]) for class_weights in own[:, 1] * len(micro_batches)]
    return [shared] * len(micro_batches)


def take_step(
    accelerator: Accelerator,
    losses: nn.Module,
    optimizer: Optimizer,
    micro_batches: Sequence[MicroBatch],
    denominators: Sequence[Float[Tensor, "2"]],
    clip_norm: float,
) -> dict[str, float]:
    """Change the weights once.

    Args:
        accelerator: What prepared the next two.
        losses: A `LossOnly`.
        optimizer: Holds the parameters.
        micro_batches: Go through the model one after the other; their gradients add up.
        denominators: One for each of them, see `step_denominators`.
        clip_norm: Largest L2 norm of all gradients together; 0 does not clip.

    Returns:
        `loss` and its terms, of the whole batch of all processes, and `gradient_norm` before clipping.

    Raises:
        NonFiniteLossError: When the loss is infinite or not a number.
    """
    optimizer.zero_grad()
    values: list[dict[str, Tensor]] = []
    for batch, denominator in zip(micro_batches, denominators, strict=True):
        is_last = len(values) == len(micro_batches) - 1
        with nullcontext() if is_last else accelerator.no_sync(losses):
            inputs = send_to_device(batch.inputs, accelerator.device, non_blocking=True)
            try:
                terms = losses(inputs, denominator)
            except NonFiniteCostError as error:
                raise NonFiniteLossError(_non_finite(batch.file_names)) from error
            accelerator.backward(terms["loss"])
        values.append({name: term.detach() for name, term in terms.items()})
    # Once a step and over everything, after fp16's scale is taken off: with AdamW the paper's small norm of 0.01 acts
    # as a normalisation of the gradient.
    norm = accelerator.clip_grad_norm_(losses.parameters(), clip_norm or math.inf)
    optimizer.step()

    names = list(values[0])
    own = torch.stack([torch.stack(list(terms.values())).float() for terms in values])
    numbers = torch.cat([accelerator.reduce(own.sum(0), "mean"), norm.float()[None], own[:, 0]]).tolist()
    step_values = dict(zip([*names, "gradient_norm"], numbers, strict=False))
    if not math.isfinite(step_values["loss"]):
        own_losses = numbers[-len(micro_batches) :]
        bad = [batch for batch, loss in zip(micro_batches, own_losses, strict=True) if not math.isfinite(loss)]
        # Any process may have them.
        raise NonFiniteLossError(_non_finite(gather_object([name for batch in bad for name in batch.file_names])))
    return step_values


def _non_finite(file_names: Sequence[str]) -> str:
    return (
        f"The loss is not a finite number for the images {', '.join(file_names)}. Look at these images and their "
        f"annotations. If they are fine, training has diverged: lower optim.lr, set optim.clip_norm=0.01, or use "
        f"run.precision=no or bf16."
    )
