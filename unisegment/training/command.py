# SPDX-License-Identifier: Apache-2.0
"""A recipe and overrides as words in, a run and its exit status out: what every way to start training shares."""

import os
import sys
from collections.abc import Iterable

from accelerate import PartialState

from unisegment.hub import PushError
from unisegment.training.loop import TrainingInterruptedError, fit
from unisegment.training.preview import dry_run
from unisegment.training.recipe import parse_overrides
from unisegment.training.settings import RecipeError
from unisegment.training.step import NonFiniteLossError
from unisegment.training.writing import WriteError

TRY_AGAIN = 75
"""What sysexits.h calls EX_TEMPFAIL."""


def run_recipe(recipe: str, overrides: Iterable[str] = (), *, is_dry: bool = False) -> int:
    """Run one recipe, and say on standard error what went wrong.

    Args:
        recipe: A YAML file, or the name of a recipe that comes with the library.
        overrides: `key.path=value`.
        is_dry: Only say what the run would do.

    Returns:
        The exit status: 0 finished; 75 stopped by a signal and saved; 1 an error.
    """
    try:
        if is_dry:
            PartialState().print(dry_run(recipe, **parse_overrides(overrides)))
        else:
            fit(recipe, **parse_overrides(overrides))
    except TrainingInterruptedError as error:
        _say_once(str(error))
        return TRY_AGAIN
    except (RecipeError, NonFiniteLossError) as error:
        _say_once(f"error: {error}")
        return 1
    except (WriteError, PushError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    PartialState().destroy_process_group()
    return 0


def _say_once(text: str) -> None:
    """Say what all processes of a machine find, once for each machine."""
    rank = os.environ.get("RANK", "0")
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(text if rank == "0" else f"process {rank}: {text}", file=sys.stderr)
