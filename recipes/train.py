# SPDX-License-Identifier: Apache-2.0
"""Train a model as a recipe says.

usage: accelerate launch recipes/train.py RECIPE [key.path=value ...] [--dry-run [--memory]]

  RECIPE            what to do: a YAML file, or the name of one of ours; docs/recipes.md says how they work
  key.path=value    overrides one key, for example optim.lr=1e-4 run.output_dir=runs/second
  --dry-run         says what the run would do and how much memory it would need, and writes nothing
  --memory          with --dry-run: what each part of the model keeps of it, too

exit status: 0 finished; 1 failed; 2 misused; 75 stopped by SIGTERM or SIGINT and saved, the same command goes on. What
went wrong is one line on standard error; `accelerate launch` adds its own traceback to it, unless it is told --quiet.
"""

import os
import sys

# Threads of PyTorch's OpenMP spin while they wait for each other: on two cores of which another program uses one, a
# quickstart step took 2.6 s instead of 0.15 s. Spinning for a shorter time costs it 0.03 s, and 0.36 s at worst. This
# must be said before PyTorch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from unisegment.__main__ import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]], "recipes/train.py")
