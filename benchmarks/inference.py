# SPDX-License-Identifier: Apache-2.0
"""Time and memory of inference: ours beside transformers' Mask2Former and Eomt with the same weights, in the same run.

A row is a network, the side of its square images, and the form of ours: float32, weights of bfloat16, autocast, or
compiled; transformers' is called as it is, and in weights of bfloat16, too, where ours has them. First the results are
compared: a row whose logits or panoptic maps do not agree has an error and no time. Then all take turns, and with them
the floor: the matrix products and convolutions of our network alone, in the fastest form that torch has for each.
Memory is the peak above the loaded network and its images, each network in a process of its own. Post-processing is
compared on equal logits in the same way. Run it with nothing else on the machine:

    python benchmarks/inference.py --threads 2
    python benchmarks/inference.py --full                   # compiled, and curves over sides and batches: an hour
    python benchmarks/inference.py --rows R50-512-float32   # the others keep what the same machine gave before

Other than time: our preparation and post-processing beside transformers', as scores on the weights of a training run:

    python benchmarks/inference.py --scores runs/quickstart
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from gpu_report.rows import Row
from inference_rows.cases import FULL, SHORT, SMALL, TASKS, by_work
from inference_rows.networks import rows_of
from inference_rows.results import row_of
from peers.inference import score_run
from peers.post_processing import NUM_QUERIES, SIZE
from result_files import save_rows

RESULTS = Path(__file__).parent / "results"
WHAT = "inference, ours beside transformers' with the same weights, in turns; ratios are ours over theirs"
POST_PROCESSING = {f"post-processing-{task}": task for task in TASKS}


def main() -> None:
    """Measure the rows, and print and save each as soon as it is known."""
    arguments = parse_arguments()
    if arguments.scores:
        output = arguments.output or RESULTS / "inference_scores.json"
        score_run(arguments.scores, arguments.data, arguments.limit, output)
        return
    torch.set_num_threads(arguments.threads)
    failed = []
    for name, row in measure(arguments):
        print(json.dumps({"row": name, **row}), flush=True)
        save(arguments.output or RESULTS / "inference.json", {name: row})
        failed += [name] if "error" in row else []
    if failed:
        raise SystemExit(f"No times of {', '.join(failed)}: results do not agree.")


def measure(arguments: argparse.Namespace) -> Iterator[tuple[str, Row]]:
    """Yield names of rows, and what was found."""
    cases = SMALL if arguments.small else FULL if arguments.full else SHORT
    if arguments.rows:
        cases = [case for case in FULL if case.name in arguments.rows]
    with_memory = not arguments.no_memory
    for together in by_work(cases):
        yield from rows_of(together, arguments.rounds, with_memory).items()
    size, num_queries = ((64, 128), 4) if arguments.small else (SIZE, NUM_QUERIES)
    for name, task in POST_PROCESSING.items():
        if not arguments.rows or name in arguments.rows:
            yield name, row_of(task, size, num_queries, arguments.rounds, with_memory, arguments.full)


def save(path: Path, rows: dict[str, Row]) -> None:
    """Write rows, see `save_rows`."""
    save_rows(path, WHAT, rows, [*(case.name for case in (*SMALL, *FULL)), *POST_PROCESSING])


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--full", action="store_true", help="also compiled rows, and curves over sides and batches")
    parser.add_argument("--small", action="store_true", help="tiny models, to try this script itself")
    names = [case.name for case in FULL] + [*POST_PROCESSING]
    parser.add_argument("--rows", nargs="+", choices=names, metavar="ROW", help=f"only these: {', '.join(names)}")
    parser.add_argument("--no-memory", action="store_true", help="times alone")
    parser.add_argument("--scores", type=Path, metavar="RUN", help="what a training run left behind")
    parser.add_argument("--data", help="with --scores: folder of the data set, instead of the recipe's")
    parser.add_argument("--limit", type=int, help="with --scores: evaluate the first images only")
    parser.add_argument("--output", type=Path, help="default: a file in benchmarks/results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
