# SPDX-License-Identifier: Apache-2.0
"""Write a checkpoint's predictions to files, on all processes: the command `unisegment predict`, for accelerate.

usage: accelerate launch recipes/predict.py CHECKPOINT INPUT OUTPUT --to FORMAT ...
"""

import sys

from unisegment.cli import app

if __name__ == "__main__":
    app(["predict", *sys.argv[1:]], prog_name="recipes/predict.py")
