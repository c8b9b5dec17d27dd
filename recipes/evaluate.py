# SPDX-License-Identifier: Apache-2.0
"""Evaluate a checkpoint on a data set, on all processes: the command `unisegment evaluate`, for accelerate to launch.

usage: accelerate launch recipes/evaluate.py CHECKPOINT DATA [--format F] [--split val] ...
"""

import sys

from unisegment.__main__ import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]], "recipes/evaluate.py")
