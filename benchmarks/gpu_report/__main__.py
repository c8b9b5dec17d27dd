# SPDX-License-Identifier: Apache-2.0
"""One command that tells everything about a GPU: the kernel is right, how fast it is, and the whole model with it.

    python3 benchmarks/gpu_report --wheels FOLDER --output FOLDER

For a machine with nothing but a GPU, CUDA's compiler, torch and transformers: no network, no installed unisegment. What
else unisegment needs is unpacked from wheels in a folder. Every stage is a process of its own with a share of the time;
every row is in report.json as soon as it is known; the table comes last. Without a GPU everything runs on the CPU, in
small. README.md beside this says how to read it.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    # The folder above comes first, as if this were installed, and this one goes: its modules have a package.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from gpu_report.command import main

    main(__doc__)
