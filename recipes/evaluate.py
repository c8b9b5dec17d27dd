# SPDX-License-Identifier: Apache-2.0
"""Judge a checkpoint on a data set, on all processes: the command `unisegment evaluate`, for accelerate to launch.

usage: accelerate launch recipes/evaluate.py CHECKPOINT --data ROOT [--format F] [--split val] ...
"""

import sys

from unisegment.cli import app

if __name__ == "__main__":
    app(["evaluate", *sys.argv[1:]], prog_name="recipes/evaluate.py")
