# SPDX-License-Identifier: Apache-2.0
"""What right preparation and post-processing are worth: our inference beside transformers' own, on the same weights.

The checkpoint is saved in transformers' stock layout first, so that both read the very same files. Each then prepares
the images, runs its own network and makes panoptic, instance and semantic predictions its own way, with the same
thresholds and the same labels of stuff; one evaluation scores both.

    python recipes/train.py recipes/quickstart.yaml
    python benchmarks/inference_peers.py runs/quickstart
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
import transformers
from peers.inference import evaluate_both

from unisegment.models.checkpoints import convert
from unisegment.runs.data_opening import open_evaluation_data
from unisegment.runs.recipe import load_recipe

RESULT = Path(__file__).parent / "results" / "inference_peers.json"


def main() -> None:
    """Evaluate both, and print and save the scores and what ours are above the others."""
    arguments = parse_arguments()
    recipe = arguments.run / "recipe.yaml"
    samples, settings = open_evaluation_data(recipe, arguments.data, "coco_panoptic", "val")
    with tempfile.TemporaryDirectory() as folder:
        convert(str(arguments.run / "checkpoint"), folder, to="transformers")
        scores = evaluate_both(
            folder,
            samples,
            opening=settings.of_predictor,
            limit=arguments.limit,
            tasks=settings.tasks,
            batch_size=settings.batch_size,
        )
    print_scores(scores)
    read = load_recipe(recipe)
    result = {
        "what": "our inference beside transformers' own on the same weights, saved in its layout",
        "recipe": read.data.format,
        "steps": read.schedule.max_steps,
        "images": min(len(samples), arguments.limit or len(samples)),
        "panoptic threshold of both": settings.panoptic_threshold,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "scores": {name: scores[name] for name in ("unisegment", "transformers")},
        "gain": scores["gain"],
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")


def print_scores(scores):
    """Print the scores side by side, without those of which there is nothing to evaluate."""
    print(f"{'':14}" + "".join(f"{name:>14}" for name in scores))
    for name, gain in scores["gain"].items():
        if gain is not None:
            print(f"{name:14}" + "".join(f"{of_one[name]:14.3f}" for of_one in scores.values()))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="what a training run left behind: checkpoint/ and recipe.yaml")
    parser.add_argument("--data", type=Path, help="folder of the data set, instead of the recipe's")
    parser.add_argument("--limit", type=int, help="evaluate the first images only")
    parser.add_argument("--output", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
