# SPDX-License-Identifier: Apache-2.0
"""Time and memory of a forward pass and of a training step: ours beside transformers' Mask2Former, same weights.

One case of what benchmarks/gpu_report/whole_model.py measures, which says what is compared and how: by default Swin-T
with the sizes of the paper on the CPU. The two take turns, and the models are made anew for each round. Run it with
nothing else on the machine:

    python benchmarks/model_step.py --threads 2
    python benchmarks/model_step.py --device cuda --backbone R50 --size 1024 1024 --batch-size 16 --precision bf16
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "kernels"))  # where process_memory.py is

import torch
import transformers
from gpu_report.model_cases import Case
from gpu_report.model_pair import CONFIGS
from gpu_report.rows import Row, to_line
from gpu_report.settings import Settings
from gpu_report.whole_model import Comparison

RESULTS = Path(__file__).parent / "results"
RATIOS = ("ratio", "ratio_post", "memory_ratio")


def main() -> None:
    """Measure both models in turn, and print and save what was found."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    case = Case(arguments.backbone, tuple(arguments.size), arguments.batch_size, arguments.precision)
    report: dict = {
        "what": f"{case.name}, ours beside transformers' Mask2Former",
        "threads": arguments.threads,
        "device": torch.cuda.get_device_name()
        if arguments.device == "cuda"
        else torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    for part in ("inference", "training"):
        report[part] = {"rows": []}
        for row in (row for _ in range(arguments.rounds) for row in compare(case, part, arguments.device)):
            print(to_line({"part": part, **row}), flush=True)
            if "error" in row:
                raise SystemExit(row["error"])
            report[part]["rows"].append(json.loads(to_line(row)))
        for name in RATIOS:
            found = [row[name] for row in report[part]["rows"] if name in row]
            report[part] |= {name: round(statistics.median(found), 2)} if found else {}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")


def compare(case: Case, part: str, device: str) -> Iterator[Row]:
    """Yield rows of one round."""
    settings = Settings(device=device, small=False, part=part, output="", deadline=math.inf)
    comparison = Comparison(settings)
    yield from comparison.begin(case)
    yield from comparison.measure(case)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backbone", choices=list(CONFIGS), default="Swin-T")
    parser.add_argument("--size", type=int, nargs=2, default=(384, 512), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path, help="default: a file in benchmarks/results")
    arguments = parser.parse_args()
    arguments.output = arguments.output or RESULTS / f"model_step_{arguments.device}.json"
    return arguments


if __name__ == "__main__":
    main()
