# SPDX-License-Identifier: Apache-2.0
"""Write a checkpoint's predictions to files, on all processes: the command `unisegment predict`, for accelerate.

usage: accelerate launch recipes/predict.py CHECKPOINT INPUT OUTPUT --to FORMAT ...
"""

import sys

from unisegment.__main__ import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]], "recipes/predict.py")
