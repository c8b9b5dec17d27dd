# SPDX-License-Identifier: Apache-2.0
"""Time and memory of a training step: ours beside transformers' Mask2Former and Eomt, same weights.

Cases of what benchmarks/gpu_report/whole_model.py measures, which says what is compared and how: by default Swin-T with
the sizes of the paper, and EoMT-S with all of its masks. The two take turns, and the models are made anew for each
round. Run it with nothing else on the machine:

    python benchmarks/model_step.py --threads 2
    python benchmarks/model_step.py --device cuda --backbones R50 --size 1024 1024 --batch-size 16 --precision bf16
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent / "kernels"))  # where process_memory.py is

import torch
import transformers
from gpu_report.model_cases import Case
from gpu_report.model_pair import CONFIGS
from gpu_report.rows import Row, to_line
from gpu_report.settings import Settings
from gpu_report.whole_model import Comparison

RESULTS = Path(__file__).parent / "results"
SIZES = {"EoMT-S": (640, 640), "tiny EoMT": (64, 64)}
"""transformers' Eomt takes these alone."""
MEASURES = {"seconds": ("ms", 1e-3), "peak MiB": ("peak_mib", 1)}
WHO = {"transformers": "transformers", "unisegment": "ours"}


def main() -> None:
    """Measure both models of each backbone in turn, and print and save what was found."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    report = json.loads(arguments.output.read_text(encoding="utf-8")) if arguments.output.exists() else {}
    for backbone in arguments.backbones:
        size = SIZES.get(backbone, tuple(arguments.size))
        case = Case(backbone, size, arguments.batch_size, arguments.precision)
        report[case.name] = measure(case, arguments)
        print(json.dumps({"what": case.name, **report[case.name]}), flush=True)
        arguments.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def measure(case: Case, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return medians of both, and theirs as multiples of ours."""
    rows = [row for _ in range(arguments.rounds) for row in compare(case, arguments.device)]
    for row in rows:
        print(to_line(row), flush=True)
        if "error" in row:
            raise SystemExit(row["error"])
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else torch.backends.cpu.get_cpu_capability()
    report: dict[str, Any] = {"threads": arguments.threads, "device": device}
    report |= {"torch": torch.__version__, "transformers": transformers.__version__}
    for name, (key, scale) in MEASURES.items():
        found = {
            who: [scale * row[key] for row in rows if row["who"] == one and key in row] for who, one in WHO.items()
        }
        if all(found.values()):
            report[name] = {who: float(f"{statistics.median(values):.4g}") for who, values in found.items()}
            report[name]["ratio"] = round(report[name]["transformers"] / report[name]["unisegment"], 2)
    return report


def compare(case: Case, device: str) -> Iterator[Row]:
    """Yield rows of one round."""
    settings = Settings(device=device, small=False, part="training", output="", deadline=math.inf)
    comparison = Comparison(settings)
    yield from comparison.begin(case)
    yield from comparison.measure(case)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backbones", nargs="+", choices=list(CONFIGS), default=["Swin-T", "EoMT-S"])
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
