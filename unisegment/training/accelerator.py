# SPDX-License-Identifier: Apache-2.0
"""The section `run` of a recipe in, an accelerator that computes as it says out."""

import os
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import InitProcessGroupKwargs, ProjectConfiguration

from unisegment.runs.processes import num_threads
from unisegment.runs.recipe import RunRecipe
from unisegment.runs.run_folder import RunFolder
from unisegment.runs.settings import RecipeError
from unisegment.training.sharding import settle_sharding


def make_accelerator(run: RunRecipe, folder: RunFolder | None = None) -> Accelerator:
    """Return an accelerator, and set the threads of this process.

    Args:
        run: Precision, threads, trackers and how long processes wait.
        folder: Where trackers write; None has none.

    Raises:
        RecipeError: For a precision that the device does not have, and what cannot be compiled.
    """
    # An earlier run of this process may have had another precision.
    AcceleratorState._reset_state()
    GradientState._reset_state()
    accelerator = Accelerator(
        mixed_precision=run.precision,
        log_with=None if folder is None else list(run.trackers) or None,
        project_config=None
        if folder is None
        else ProjectConfiguration(str(folder.root), logging_dir=str(folder.trackers)),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(minutes=run.timeout))],
    )
    settle_sharding(accelerator)
    if run.precision == "fp16" and accelerator.device.type == "cpu":
        raise RecipeError("run.precision=fp16 needs a GPU. Processors compute in bf16: run.precision=bf16.")
    if run.compile and accelerator.is_fsdp2:
        raise RecipeError("run.compile=true is not for weights in parts (FSDP2), expected false.")
    torch.set_num_threads(run.threads or num_threads(dict(os.environ), accelerator.num_processes))
    return accelerator
