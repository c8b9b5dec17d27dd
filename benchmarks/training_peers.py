# SPDX-License-Identifier: Apache-2.0
"""A whole training run with our model and with transformers' own: scores, time and memory of several seeds.

Both begin with the same weights and see the same images, changed in the same way, under the same optimiser, schedule
and evaluation: the recipe's `model.type` is all that differs, see benchmarks/peers/. The random points of the losses
are each code's own. Every run has a process of its own; the two take turns, and which of them begins changes from seed
to seed. Run it with nothing else on the machine:

    python benchmarks/training_peers.py --threads 2
    python benchmarks/training_peers.py --recipe my.yaml --seeds 0 1 --steps 300 optim.lr=1e-4

The time is that of the training steps, without evaluation and saving; the memory is the most that the process ever
held, with everything in it.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

# As in recipes/train.py; the runs inherit it.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch
import transformers
from peers.training import fit_peer, peer_of, shared_keys

from unisegment.runs.settings import parse_overrides
from unisegment.training import Recipe, fit, load_recipe
from unisegment.training.assembly import open_samples

ROOT = Path(__file__).parents[1]
CODES = {"unisegment": fit, "transformers": fit_peer}
SCORES = ("pq", "mask_ap", "miou")
COSTS = ("train_seconds", "peak_mebibytes")


def main() -> None:
    """Train, and print and save what was found."""
    arguments = parse_arguments()
    recipe = load_recipe(arguments.recipe, parse_overrides(arguments.overrides) | chosen_keys(arguments))
    shared = shared_keys(recipe)
    recipe = load_recipe(recipe, shared)
    open_samples(recipe.data)  # drawn scenes are made here, not in the first run
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CODES}
    for turn, seed in enumerate(arguments.seeds):
        for name in list(CODES)[:: -1 if turn % 2 else 1]:
            runs[name].append(train_alone(recipe, name, seed))
            print(json.dumps({"code": name, **runs[name][-1]}), flush=True)
    means = {name: {key: mean(results, key) for key in (*SCORES, *COSTS)} for name, results in runs.items()}
    report = {
        "what": f"training runs of {arguments.recipe.name}, ours beside {peer_of(recipe).name}",
        "overrides": [
            *(text for text in arguments.overrides if not text.startswith("data.root=")),
            *(f"{key}={json.dumps(value)}" for key, value in shared.items()),
        ],
        "steps": recipe.schedule.max_steps,
        "threads": recipe.run.threads,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "runs": runs,
        "means": means,
        "transformers / unisegment": {
            key: ratio(means["transformers"][key], means["unisegment"][key]) for key in (*SCORES, *COSTS)
        },
    }
    print_means(report)
    output = arguments.output or ROOT / "benchmarks" / "results" / result_name(recipe)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")


def result_name(recipe: Recipe) -> str:
    """Return the name of the file of results, one for each kind of model."""
    return "_".join(["training_peers", *(recipe.model.type or "").split("_")[1:], "cpu.json"])


def chosen_keys(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keys of the recipe that options set; nothing is saved on the way."""
    keys: dict[str, Any] = {"run.checkpoint_every": 0, "run.eval_every": 0, "run.threads": arguments.threads}
    return keys | ({} if arguments.steps is None else {"schedule.max_steps": arguments.steps})


def train_alone(recipe: Recipe, name: str, seed: int) -> dict[str, Any]:
    """Return the scores and costs of one run in a new process."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process,
    ):
        keys = {"run.seed": seed, "run.output_dir": f"{folder}/run"}
        return process.submit(train, recipe, name, keys).result()


def train(recipe: Recipe, name: str, keys: dict[str, Any]) -> dict[str, Any]:
    """Return the scores and costs of one run in this process."""
    metrics = CODES[name](recipe, **keys)
    scores = {key: metrics[key] for key in (*SCORES, "train_seconds")}
    return {"seed": keys["run.seed"], **scores, "peak_mebibytes": peak_mebibytes()}


def peak_mebibytes() -> float:
    """Return the most memory this process has ever held, libraries and weights included."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def mean(results: list[dict[str, Any]], key: str) -> float | None:
    """Return the mean over the seeds; None where a score had nothing to evaluate."""
    values = [result[key] for result in results]
    return None if None in values else statistics.mean(values)


def ratio(theirs: float | None, ours: float | None) -> float | None:
    """Return one number as a multiple of the other; None where there is none."""
    return None if theirs is None or not ours else round(theirs / ours, 3)


def print_means(report: dict[str, Any]) -> None:
    """Print the means side by side."""
    for key, value in report["transformers / unisegment"].items():
        theirs, ours = (report["means"][name][key] for name in ("transformers", "unisegment"))
        print(f"{key:16} transformers {number(theirs)}   unisegment {number(ours)}   ratio {number(value)}")


def number(value: float | None) -> str:
    """Return a number, or a dash, in a column of fixed width."""
    return f"{'-':>10}" if value is None else f"{value:10.3f}"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "quickstart.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="instead of the recipe's schedule.max_steps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="file of results, instead of that beside this script")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="other keys of the recipe")
    return parser.parse_args()


if __name__ == "__main__":
    main()
