# SPDX-License-Identifier: Apache-2.0
"""Train a model as a recipe says.

usage: accelerate launch recipes/train.py RECIPE [key.path=value ...] [--dry-run]

  RECIPE            what to do: a YAML file, or the name of one of ours; recipes/README.md lists them and all keys
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

from unisegment.training.command import run_recipe


def main(arguments: list[str]) -> int:
    """Run one recipe and return the exit status."""
    words = [argument for argument in arguments if argument != "--dry-run"]
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if words else 2
    return run_recipe(words[0], words[1:], is_dry="--dry-run" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
