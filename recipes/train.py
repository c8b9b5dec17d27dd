# SPDX-License-Identifier: Apache-2.0
"""Train a model as a recipe says.

usage: accelerate launch recipes/train.py RECIPE.yaml [key.path=value ...]

  RECIPE.yaml       what to do, for example recipes/quickstart.yaml; recipes/README.md lists all keys
  key.path=value    overrides one key, for example optim.lr=1e-4 run.output_dir=runs/second
"""

import os
import sys

# Threads of PyTorch's OpenMP spin while they wait for each other: on two cores of which another program uses one, a
# quickstart step took 2.6 s instead of 0.15 s. Spinning for a shorter time costs it 0.03 s, and 0.36 s at worst. This
# must be said before PyTorch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from accelerate import PartialState

from unisegment.training import fit
from unisegment.training.recipe import parse_overrides
from unisegment.training.settings import RecipeError
from unisegment.training.step import NonFiniteLossError


def main(arguments: list[str]) -> int:
    """Run one recipe and return the exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    try:
        fit(arguments[0], **parse_overrides(arguments[1:]))
    except (RecipeError, NonFiniteLossError) as error:
        # Every process finds the same error; one says so.
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        return 1
    PartialState().destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
