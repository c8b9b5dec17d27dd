# SPDX-License-Identifier: Apache-2.0
"""The first steps of the quickstart, by the compiled kernel and by PyTorch: the same losses, and the ratio of times.

Each runs in a process of its own on the same drawn scenes with the same seed. Losses of all steps must agree to 1e-4.

    python benchmarks/kernels/quickstart_steps.py
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Run both, compare, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "quickstart_steps_cpu.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        logs = {kernels: train(Path(folder), kernels, arguments) for kernels in ("torch", "native")}
    losses = {kernels: [step["loss"] for step in log] for kernels, log in logs.items()}
    difference = max(abs(one - other) / abs(one) for one, other in zip(losses["torch"], losses["native"], strict=True))
    assert difference < 1e-4, f"losses differ by {difference}: {losses}"
    # The first steps warm caches and libraries up.
    rates = {kernels: statistics.median(step["images_per_second"] for step in log[3:]) for kernels, log in logs.items()}
    report = {
        "what": "training steps of recipes/quickstart.yaml, float32",
        "steps": arguments.steps,
        "threads": arguments.threads,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "largest relative difference of losses": difference,
        "images per second": {kernels: round(rate, 2) for kernels, rate in rates.items()},
        "ratio": round(rates["native"] / rates["torch"], 2),
    }
    print(json.dumps(report, indent=2))
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")


def train(folder: Path, kernels: str, arguments: argparse.Namespace) -> list[dict]:
    """Return the log of a short run."""
    overrides = {
        "data.root": folder / "scenes",
        "data.num_train": 4 * arguments.steps,
        "data.num_val": 1,
        "schedule.max_steps": arguments.steps,
        "run.output_dir": folder / kernels,
    }
    command = [sys.executable, "recipes/train.py", "recipes/quickstart.yaml"]
    command += [f"{key}={value}" for key, value in overrides.items()]
    environment = {**os.environ, "UNISEGMENT_KERNELS": kernels, "OMP_NUM_THREADS": str(arguments.threads)}
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return [json.loads(line) for line in (folder / kernels / "log.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    main()
