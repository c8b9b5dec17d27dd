# SPDX-License-Identifier: Apache-2.0
"""How long help and misuse of the command take, beside `import torch`, in fresh processes.

usage: python benchmarks/command_start.py   (on an idle machine)

exit status: 0 when each takes less than 0.7 of the time of `import torch`, else 1
"""

import statistics
import subprocess
import sys
import time

ALLOWED = 0.7
RUNS = 7
COMMAND = [sys.executable, "-m", "unisegment"]
WORDS = ("--help", "--version", "train --help", "predict --help", "recipes", "trian", "train", "info --bogus")
LINES = {
    "import torch": [sys.executable, "-c", "import torch"],
    **{f"unisegment {words}": [*COMMAND, *words.split()] for words in WORDS},
}


def seconds(line: list[str]) -> float:
    """Return how long a command line takes."""
    start = time.perf_counter()
    subprocess.run(line, capture_output=True, check=False)
    return time.perf_counter() - start


def main() -> int:
    """Print the median of each line and its ratio, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in LINES}
    for _ in range(RUNS):
        for name, line in LINES.items():
            times[name].append(seconds(line))
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {name: median / medians["import torch"] for name, median in medians.items()}
    for name, median in medians.items():
        print(f"{name:<28} {median:6.2f} s  {ratios[name]:5.2f}")
    return int(any(ratio >= ALLOWED for name, ratio in ratios.items() if name != "import torch"))


if __name__ == "__main__":
    sys.exit(main())
