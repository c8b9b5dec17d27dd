# SPDX-License-Identifier: Apache-2.0
"""A model and two sections of a recipe in, optimiser and learning rate schedule out."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from unisegment.runs.recipe import OptimRecipe, ScheduleRecipe

_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.LocalResponseNorm,
    nn.RMSNorm,
)
_POSITIONS = ("relative_position_bias_table", "absolute_pos_embed", "position_embeddings")
"""Position tables of Swin: the first two names are the original's, the last is transformers' name of the second."""


def parameter_groups(
    model: nn.Module, optim: OptimRecipe, schedule: ScheduleRecipe | None = None
) -> list[dict[str, Any]]:
    """Sort the trainable parameters by learning rate and weight decay.

    What lies under a module called `backbone` learns at `optim.backbone_lr_factor` times the rate, and each of its
    layers at `optim.layer_decay` times that of the one above, but for the last `optim.full_rate_layers`. Norm layers,
    embeddings and position tables are not decayed unless `optim.decay_all` says so; everything else is, biases too.

    Args:
        model: What is trained.
        optim: Rates and decay.
        schedule: One that lets the backbone rise later keeps it apart where its rate is that of the rest, too.

    Returns:
        One dict for each combination that occurs: `params`, `lr`, `weight_decay`, and `in_backbone` if that matters.

    Source:
        Mask2Former (MIT), train_net.py, build_optimizer.
    """
    is_apart = schedule is not None and schedule.has_two_stages
    groups: dict[tuple[float, ...], dict[str, Any]] = {}
    seen = set()
    for module_name, module in model.named_modules():
        in_backbone = "backbone" in module_name.split(".")
        for name, parameter in module.named_parameters(prefix=module_name, recurse=False):
            if parameter in seen or not parameter.requires_grad:
                continue
            seen.add(parameter)
            lr = optim.lr * (optim.backbone_lr_factor if in_backbone else 1.0)
            if optim.layer_decay != 1:
                above = model.layers_above(name)  # type: ignore[operator]  # a SegmentationModel
                lr *= optim.layer_decay**above if above >= optim.full_rate_layers else 1.0
            is_kept = name.rpartition(".")[2] in _POSITIONS or isinstance(module, (*_NORMS, nn.Embedding))
            weight_decay = 0.0 if is_kept and not optim.decay_all else optim.weight_decay
            settings = {"lr": lr, "weight_decay": weight_decay} | ({"in_backbone": in_backbone} if is_apart else {})
            groups.setdefault(tuple(settings.values()), {"params": [], **settings})["params"].append(parameter)
    return list(groups.values())


def make_optimizer(model: nn.Module, optim: OptimRecipe, schedule: ScheduleRecipe | None = None) -> AdamW:
    """Return AdamW over the groups of `parameter_groups`."""
    return AdamW(parameter_groups(model, optim, schedule), lr=optim.lr, fused=True)


def make_schedule(optimizer: Optimizer, schedule: ScheduleRecipe) -> LambdaLR:
    """Return the schedule; it is advanced once after each step, also where a gradient overflow skips the step.

    Args:
        optimizer: That of `make_optimizer`, made for the same schedule.
        schedule: The section of the recipe.
    """
    groups = optimizer.param_groups
    return LambdaLR(
        optimizer, [lr_factor(schedule, schedule.has_two_stages and part["in_backbone"]) for part in groups]
    )


def take_over(optimizer: Optimizer, schedule: LambdaLR, recipe: list[dict[str, Any]], step: int) -> None:
    """Let a recipe's settings be used where a state has brought back those of its time, and its schedule go on.

    Args:
        optimizer: Has been loaded from a state.
        schedule: New.
        recipe: The groups of the optimiser as they were before that.
        step: Steps taken.
    """
    factors = [function(step) for function in schedule.lr_lambdas]
    for group, asked, factor in zip(optimizer.param_groups, recipe, factors, strict=True):
        group |= {name: value for name, value in asked.items() if name != "params"}
        group["lr"] = asked["initial_lr"] * factor
    schedule.last_epoch, schedule._step_count = step, step + 1
    schedule._last_lr = [group["lr"] for group in optimizer.param_groups]


def lr_factor(schedule: ScheduleRecipe, in_backbone: bool = False) -> Callable[[int], float]:
    """Return the function from the number of steps taken to the share of the learning rate that the next one uses.

    Args:
        schedule: The section of the recipe.
        in_backbone: Whether it is for the backbone, which rises later in `two_stage_poly`.
    """
    if schedule.has_two_stages:
        return partial(_two_stage_poly, schedule=schedule, in_backbone=in_backbone)
    shape = {"poly": _poly, "step": _step, "one_cycle": _one_cycle, "constant": _constant}[schedule.name]

    def factor(step: int) -> float:
        rise = 1.0 if schedule.name == "one_cycle" else min(1.0, (step + 1) / (schedule.warmup_steps + 1))
        return rise * shape(min(step, schedule.steps), schedule)

    return factor


def _poly(step: int, schedule: ScheduleRecipe) -> float:
    return (1 - step / schedule.steps) ** schedule.power


def _two_stage_poly(step: int, schedule: ScheduleRecipe, in_backbone: bool) -> float:
    """Wait while the rest rises, where it is the backbone; rise from 0 to 1; fall as a power of what is left.

    Source:
        EoMT (arXiv:2503.19108) and its released code.
    """
    wait, rise = (schedule.warmup_steps, schedule.backbone_warmup_steps) if in_backbone else (0, schedule.warmup_steps)
    if step < wait:
        return 0.0
    if step < wait + rise:
        return (step - wait) / rise
    fall = max(1, schedule.steps - wait - rise)
    return (1 - min(step - wait - rise, fall) / fall) ** schedule.power


def _step(step: int, schedule: ScheduleRecipe) -> float:
    return schedule.gamma ** sum(step >= round(share * schedule.steps) for share in schedule.milestones)


def _constant(step: int, schedule: ScheduleRecipe) -> float:
    return 1.0


def _one_cycle(step: int, schedule: ScheduleRecipe) -> float:
    """Rise from 1/25 to 1, then fall to 1/250,000, each as half a cosine.

    Source:
        Super-Convergence (arXiv:1708.07120) with the defaults of torch's OneCycleLR.
    """
    start, end = 1 / 25, 1 / 250_000
    last = schedule.steps - 1
    top = schedule.rise * schedule.steps - 1
    step = min(step, last)
    if step < top:
        return _cosine(start, 1.0, step / top)
    return _cosine(1.0, end, (step - top) / (last - top)) if step > top else 1.0


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
