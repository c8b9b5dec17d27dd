# SPDX-License-Identifier: Apache-2.0
"""Losses and time of training steps with the compiled kernel and in plain PyTorch, on the quickstart's scenes.

Two questions are asked of the same steps. Together, in float32: both begin every step with the same weights, those that
the kernel's training has reached. Apart, in float64: each goes its own way from the same start, as two trainings do.
Losses and, together, gradients must agree to 1e-4.

A new model samples exactly at pixel centres, where the gradient of a position jumps from the slope on one side to that
on the other: which of them is taken, rounding decides, in any implementation. So the start is moved off the centres by
0.3 pixels. In float32 trainings come apart in any case, because Adam and the matching enlarge roundings; how far is
reported, beside how far plain PyTorch comes apart from itself when the last bit of one weight is moved.

Run it with nothing else on the machine:

    python benchmarks/kernel_in_training.py --threads 2
"""

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unisegment import UniSegmentForUniversalSegmentation
from unisegment.layers.ms_deform_attn import MSDeformAttn
from unisegment.ops.kernel_backend import ENVIRONMENT_VARIABLE
from unisegment.training import Recipe, load_recipe
from unisegment.training.assembly import build_model, open_batches, open_samples
from unisegment.training.batches import seed_step
from unisegment.training.optimization import make_optimizer, make_schedule

ROOT = Path(__file__).parents[1]
ALLOWED_ERROR = 1e-4
OFF_CENTRE = 0.3
Batches = list[dict[str, Any]]


def main() -> None:
    """Train, and print and save what was found."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    recipe = load_recipe(ROOT / "recipes" / "quickstart.yaml", {"data.root": str(arguments.data)})
    model, batches = make_start(recipe, arguments.steps)
    report = {
        "what": "training steps of recipes/quickstart.yaml, compiled kernel beside plain PyTorch",
        "steps": arguments.steps,
        "threads": arguments.threads,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "together": train_together(recipe, model, batches),
    }
    nudged = copy.deepcopy(model)
    weight = next(nudged.parameters()).data.flatten()
    weight[0] = torch.nextafter(weight[0], weight[0] + 1)
    torch_losses = train(recipe, model, batches, "torch")
    report["apart, float32"] = {
        "largest difference of losses": largest(torch_losses, train(recipe, model, batches, "native")),
        "of PyTorch from itself, one bit moved": largest(torch_losses, train(recipe, nudged, batches, "torch")),
    }
    model.double()
    batches = [{**batch, "pixel_values": batch["pixel_values"].double()} for batch in batches]
    exact = largest(train(recipe, model, batches, "torch"), train(recipe, model, batches, "native"))
    report["apart, float64"] = {"largest difference of losses": exact}
    print(json.dumps(report, indent=2))
    for asked in (report["together"], report["apart, float64"]):
        assert all(value < ALLOWED_ERROR for key, value in asked.items() if "difference" in key), asked
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")


def make_start(recipe: Recipe, steps: int) -> tuple[UniSegmentForUniversalSegmentation, Batches]:
    """Return the model before training, and what it sees."""
    samples, _ = open_samples(recipe.data)
    torch.manual_seed(recipe.run.seed)
    model, processor = build_model(recipe, samples)
    for module in model.modules():
        if isinstance(module, MSDeformAttn):
            module.sampling_offsets.bias.data += OFF_CENTRE
    batches = open_batches(recipe, samples, processor, range(steps), workers=0)
    return model.train(), [batch.inputs for (batch,) in batches]


def train_together(recipe: Recipe, start: UniSegmentForUniversalSegmentation, batches: Batches) -> dict[str, float]:
    """Return the largest differences of losses and gradients at the same weights, and the median times."""
    training = Training(recipe, copy.deepcopy(start))
    differences: dict[str, list[float]] = {"losses": [], "gradients": []}
    seconds: dict[str, list[float]] = {"torch": [], "native": []}
    for step, batch in enumerate(batches):
        found = {}
        for backend, times in seconds.items():  # the gradients of the last one stay for the step
            began = time.perf_counter()
            loss = training.backward(step, batch, backend)
            times.append(time.perf_counter() - began)
            found[backend] = loss, training.gradients()
        training.step()
        (expected_loss, expected), (loss, gradients) = found.values()
        differences["losses"].append(relative(loss, expected_loss))
        differences["gradients"].append(((gradients - expected).norm() / expected.norm()).item())
    medians = {backend: statistics.median(times) for backend, times in seconds.items()}
    return {f"largest difference of {name}": max(values) for name, values in differences.items()} | {
        "forward and backward seconds, PyTorch": round(medians["torch"], 4),
        "forward and backward seconds, kernel": round(medians["native"], 4),
        "ratio": round(medians["torch"] / medians["native"], 2),
    }


def train(recipe: Recipe, start: UniSegmentForUniversalSegmentation, batches: Batches, backend: str) -> list[float]:
    """Return the losses of a training of its own."""
    training, losses = Training(recipe, copy.deepcopy(start)), []
    for step, batch in enumerate(batches):
        losses.append(training.backward(step, batch, backend))
        training.step()
    return losses


class Training:
    """A model with its optimiser.

    Args:
        recipe: What to do.
        model: What is trained.
    """

    def __init__(self, recipe: Recipe, model: UniSegmentForUniversalSegmentation) -> None:
        self.recipe, self.model = recipe, model
        self.optimizer = make_optimizer(model, recipe.optim)
        self.schedule = make_schedule(self.optimizer, recipe.schedule)

    def backward(self, step: int, batch: dict[str, Any], backend: str) -> float:
        """Return the loss, and leave its gradients in the model."""
        os.environ[ENVIRONMENT_VARIABLE] = backend
        seed_step(self.recipe.run.seed, step, process_index=0)
        self.optimizer.zero_grad()
        loss = self.model(**batch).loss
        loss.backward()
        return loss.item()

    def gradients(self) -> Tensor:
        """Return all gradients as one vector."""
        return torch.cat([weight.grad.flatten() for weight in self.model.parameters() if weight.grad is not None])

    def step(self) -> None:
        """Change the weights."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.optim.clip_norm)
        self.optimizer.step()
        self.schedule.step()


def largest(expected: Sequence[float], found: Sequence[float]) -> float:
    """Return the largest of the relative differences."""
    return max(map(relative, found, expected))


def relative(found: float, expected: float) -> float:
    """Return a difference as a share of what is expected."""
    return abs(found - expected) / abs(expected)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--data", type=Path, default=ROOT / "runs" / "quickstart-scenes")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "kernel_in_training_cpu.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
