# SPDX-License-Identifier: Apache-2.0
"""Train a model as a recipe says.

usage: accelerate launch recipes/train.py RECIPE.yaml [key.path=value ...] [--dry-run]

  RECIPE.yaml       what to do, for example recipes/quickstart.yaml; recipes/README.md lists all keys
  key.path=value    overrides one key, for example optim.lr=1e-4 run.output_dir=runs/second
  --dry-run         says what the run would do and how much memory it would need, and writes nothing

exit status: 0 finished; 75 stopped by SIGTERM or SIGINT and saved, the same command goes on; 1 an error, which it names
"""

import os
import sys

# Threads of PyTorch's OpenMP spin while they wait for each other: on two cores of which another program uses one, a
# quickstart step took 2.6 s instead of 0.15 s. Spinning for a shorter time costs it 0.03 s, and 0.36 s at worst. This
# must be said before PyTorch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from accelerate import PartialState

from unisegment.training import (
    NonFiniteLossError,
    RecipeError,
    TrainingInterruptedError,
    WriteError,
    dry_run,
    fit,
)
from unisegment.training.recipe import parse_overrides

TRY_AGAIN = 75
"""What sysexits.h calls EX_TEMPFAIL."""


def say_once(text: str) -> None:
    """Say what all processes of a machine find, once for each machine."""
    rank = os.environ.get("RANK", "0")
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(text if rank == "0" else f"process {rank}: {text}", file=sys.stderr)


def main(arguments: list[str]) -> int:
    """Run one recipe and return the exit status."""
    words = [argument for argument in arguments if argument != "--dry-run"]
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if words else 2
    recipe, *others = words
    try:
        if "--dry-run" in arguments:
            PartialState().print(dry_run(recipe, **parse_overrides(others)))
        else:
            fit(recipe, **parse_overrides(others))
    except TrainingInterruptedError as error:
        say_once(str(error))
        return TRY_AGAIN
    except (RecipeError, NonFiniteLossError) as error:
        say_once(f"error: {error}")
        return 1
    except WriteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    PartialState().destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
