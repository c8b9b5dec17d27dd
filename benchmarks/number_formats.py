# SPDX-License-Identifier: Apache-2.0
r"""What half precision costs: a model of the quickstart recipe, evaluated and trained on in each number format.

In use: how many pixels of the panoptic maps stay what they are in float32, and the scores, with weights in the dtype
(`unisegment evaluate --dtype`) and with autocast. In training: how far the loss and its gradient on the same images,
with the same random points, are from those of float32, with the pixel decoder in float32 and in autocast
(`model.config.pixel_decoder_dtype`); and how other runs of the recipe ended. Prints the numbers and saves them:

    unisegment train quickstart
    unisegment train quickstart run.output_dir=runs/autocast run.precision=bf16 \
        model.config.pixel_decoder_dtype=autocast
    python benchmarks/number_formats.py runs/quickstart --beside runs/autocast
"""

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import torch
import transformers

from unisegment.inference.evaluation import evaluate
from unisegment.inference.predictor import Predictor, open_predictor
from unisegment.runs.recipe import load_recipe
from unisegment.structures import PanopticPrediction
from unisegment.training.assembly import open_batches, open_samples

RESULTS = Path(__file__).parent / "results" / "number_formats.json"
LAST_STEPS = 100


class Autocast(Predictor):
    """A predictor whose weights stay in float32."""

    def forward(self, batch: Any) -> Any:
        """Return the output computed in bfloat16 where torch finds that safe."""
        with torch.no_grad(), torch.autocast(self.model.device.type, torch.bfloat16):
            return self.model(
                pixel_values=torch.cat([item.pixel_values for item in batch]),
                pixel_mask=torch.cat([item.pixel_mask for item in batch]),
            )


def main() -> None:
    """Measure, print and save."""
    arguments = parse_arguments()
    recipe = load_recipe(arguments.run / "recipe.yaml")
    samples, held_out = open_samples(recipe.data)
    predictor = open_predictor(arguments.run)
    report = {
        "what": "half precision on a model of the quickstart recipe, beside float32",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "bfloat16 of this processor": "native" if torch.cpu._is_avx512_bf16_supported() else "emulated",
        "in use": in_use(predictor, held_out),
        "one step": one_step(predictor, recipe, samples, arguments.steps),
        "whole trainings": {run.name: whole_training(run) for run in (arguments.run, *arguments.beside)},
    }
    print(json.dumps(report, indent=2))
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")


def in_use(predictor: Predictor, samples: Any) -> dict[str, Any]:
    """Return scores, and shares of pixels that are as in float32, for each format."""
    model, processor = predictor.model, predictor.processor
    contenders: dict[str, Predictor] = {"float32": predictor}
    for dtype in (torch.bfloat16, torch.float16):
        contenders[f"weights in {dtype}".replace("torch.", "")] = Predictor(copy.deepcopy(model).to(dtype), processor)
    for decoder in ("float32", "autocast"):
        contenders[f"autocast to bfloat16, pixel decoder {decoder}"] = Autocast(with_decoder(model, decoder), processor)
    expected, found = panoptic_maps(predictor, samples), {}
    for name, contender in contenders.items():
        shares = [equal_share(*pair) for pair in zip(expected, panoptic_maps(contender, samples), strict=True)]
        scores = evaluate(contender, samples, batch_size=4)
        found[name] = {
            "pixels as in float32": round(sum(shares) / len(shares), 5),
            "in the worst image": round(min(shares), 5),
            "PQ": round(scores["panoptic"]["all"]["pq"], 4),
            "mask AP": round(scores["instance"]["ap"], 4),
            "mIoU": round(scores["semantic"]["miou"], 4),
        }
        print(name, found[name], flush=True)
    return found


def with_decoder(model: Any, decoder: str) -> Any:
    """Return a copy of a model whose pixel decoder computes in float32 or in autocast."""
    model = copy.deepcopy(model)
    model.config.pixel_decoder_dtype = decoder
    return model


def panoptic_maps(predictor: Predictor, samples: Any) -> list[PanopticPrediction]:
    """Return the panoptic prediction of each image."""
    stream = predictor.stream(samples, range(len(samples)), batch_size=4)
    return [one for batch, outputs in stream for one in predictor.panoptic(batch, outputs)]


def equal_share(expected: PanopticPrediction, found: PanopticPrediction) -> float:
    """Return the share of pixels of the same segment: segments are paired by overlap, and void is void."""
    maps = [prediction.segmentation.long() for prediction in (expected, found)]
    labels = [
        {0: None, **{info["id"]: info["label_id"] for info in prediction.segments_info}}
        for prediction in (expected, found)
    ]
    pairs, areas = torch.stack(maps).flatten(1).unique(dim=1, return_counts=True)
    taken: tuple[set[int], set[int]] = (set(), set())
    equal = 0
    for place in areas.argsort(descending=True, stable=True).tolist():
        ours, theirs = pairs[:, place].tolist()
        if labels[0][ours] == labels[1][theirs] and ours not in taken[0] and theirs not in taken[1]:
            taken[0].add(ours)
            taken[1].add(theirs)
            equal += int(areas[place])
    return equal / maps[0].numel()


def one_step(predictor: Predictor, recipe: Any, samples: Any, num_steps: int) -> dict[str, Any]:
    """Return relative errors of the loss and of its gradient, the mean over some batches."""
    steps = [
        [batch.inputs for batch in step]
        for step in open_batches(recipe, samples, predictor.processor, range(num_steps), workers=0)
    ]
    exact = [loss_and_gradient(predictor.model, inputs, None) for (inputs,) in steps]
    found = {}
    for decoder in ("float32", "autocast"):
        model = with_decoder(predictor.model, decoder)
        half = [loss_and_gradient(model, inputs, torch.bfloat16) for (inputs,) in steps]
        pairs = list(zip(exact, half, strict=True))
        found[f"bf16, pixel decoder {decoder}"] = {
            "steps": num_steps,
            "loss": mean(loss for loss, _ in half),
            "loss in float32": mean(loss for loss, _ in exact),
            "relative error of the loss": mean(abs(other - loss) / loss for (loss, _), (other, _) in pairs),
            "relative error of the gradient": mean(
                ((other - gradient).norm() / gradient.norm()).item() for (_, gradient), (_, other) in pairs
            ),
            "cosine of the gradients": mean(
                torch.cosine_similarity(gradient, other, dim=0).item() for (_, gradient), (_, other) in pairs
            ),
        }
    return found


def loss_and_gradient(model: Any, inputs: Any, dtype: torch.dtype | None) -> tuple[float, torch.Tensor]:
    """Return the loss of a batch in training mode, at the same random points each time, and its gradient."""
    torch.manual_seed(0)
    model = copy.deepcopy(model).train()
    with torch.autocast(model.device.type, dtype, enabled=dtype is not None):
        loss = model(**inputs).loss
    loss.backward()
    return loss.item(), torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


def whole_training(run: Path) -> dict[str, Any]:
    """Return in which formats a run was trained, its last losses and its scores."""
    recipe, metrics = load_recipe(run / "recipe.yaml"), json.loads((run / "metrics.json").read_text())
    losses = [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]
    return {
        "precision": recipe.run.precision,
        "pixel decoder": recipe.model.config.get("pixel_decoder_dtype", "float32"),
        "seed": recipe.run.seed,
        "steps": metrics["step"],
        f"mean loss of the last {LAST_STEPS} steps": mean(losses[-LAST_STEPS:]),
        **{name: round(metrics[key], 4) for name, key in (("PQ", "pq"), ("mask AP", "mask_ap"), ("mIoU", "miou"))},
    }


def mean(values: Any) -> float:
    """Return the mean, rounded."""
    numbers = list(values)
    return round(sum(numbers) / len(numbers), 5)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run in float32")
    parser.add_argument("--beside", type=Path, nargs="*", default=[], help="folders of other finished runs")
    parser.add_argument("--steps", type=int, default=20, help="batches of the recipe that one step is compared on")
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
