# SPDX-License-Identifier: Apache-2.0
"""Time and memory of a training step: ours beside transformers' Mask2Former and Eomt with the same weights.

A row is a model, the side of its square images, the segments in each, and the form of our step: float32, with gradient
checkpointing, under autocast to bfloat16, or both; transformers' is in float32, and under autocast, too, where ours is.
First the losses are compared, at equal points: a row whose losses do not agree has an error and no figures. Then all
take turns; a step is a forward pass with the loss, a backward pass and a step of AdamW, on targets that are there
already. Memory is the peak of two steps, each contender in a process of its own: weights, gradients, the optimiser's
state and all else beside images and targets. Run it with nothing else on the machine:

    python benchmarks/training_step.py --threads 2
    python benchmarks/training_step.py --full     # more masks, and curves over sides, masks and batches: an hour
    python benchmarks/training_step.py --device cuda
    python benchmarks/training_step.py --rows R50-1024-m20-float32 --only time   # other figures stay as they were

What fits on which GPU, by forecast, for a table of docs/published.md:

    python benchmarks/training_step.py --gpus coco_panoptic_r50 own_data_panoptic
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "kernels"))  # where process_memory.py is

import torch
from gpu_report.rows import Row
from inference_rows.cases import by_work
from result_files import known_rows, save_rows
from training_rows.cases import FULL, SHORT, SMALL
from training_rows.gpus import DEFAULT, save_forecasts
from training_rows.rows import PARTS, rows_of

RESULTS = Path(__file__).parent / "results"
WHAT = "a training step, ours beside transformers' with the same weights, in turns; ratios are ours over theirs"


def main() -> None:
    """Measure the rows, and print and save each as soon as it is known."""
    arguments = parse_arguments()
    if arguments.gpus is not None:
        save_forecasts(arguments.gpus or DEFAULT, arguments.output or RESULTS / "training_memory.json")
        return
    torch.set_num_threads(arguments.threads)
    output = arguments.output or RESULTS / f"training_step_{arguments.device}.json"
    failed = []
    for name, row in measure(arguments):
        print(json.dumps({"row": name, **row}), flush=True)
        save(output, name, row, arguments.device, only=arguments.only)
        failed += [name] if "error" in row else []
    if failed:
        raise SystemExit(f"No figures of {', '.join(failed)}: losses do not agree.")


def measure(arguments: argparse.Namespace) -> Iterator[tuple[str, Row]]:
    """Yield names of rows, and what was found."""
    cases = SMALL if arguments.small else FULL if arguments.full else SHORT
    if arguments.rows:
        cases = [case for case in FULL if case.name in arguments.rows]
    parts = [arguments.only] if arguments.only else PARTS
    for together in by_work(cases):
        yield from rows_of(together, arguments.rounds, arguments.device, parts).items()


def save(path: Path, name: str, row: Row, device: str, only: str | None = None) -> None:
    """Write a row, see `save_rows`; what was measured before stays beside one of the parts."""
    order = [case.name for case in (*SMALL, *FULL)]
    if only and "error" not in row:
        row = known_rows(path, WHAT, device).get(name, {}) | row
        row.pop("error", None)
    save_rows(path, WHAT, {name: row}, order, device)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="also more masks, and curves over sides, masks and batches")
    parser.add_argument("--small", action="store_true", help="tiny models, to try this script itself")
    names = [case.name for case in FULL]
    parser.add_argument("--rows", nargs="+", choices=names, metavar="ROW", help=f"only these: {', '.join(names)}")
    parser.add_argument("--only", choices=PARTS, help="one of the parts; what a file has of the other one stays")
    parser.add_argument("--gpus", nargs="*", metavar="RECIPE", help="forecast these recipes, or those of the table")
    parser.add_argument("--output", type=Path, help="default: a file in benchmarks/results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
