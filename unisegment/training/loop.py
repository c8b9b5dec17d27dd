# SPDX-License-Identifier: Apache-2.0
"""A recipe in, a folder with a trained model, its scores, its log and pictures out.

One step sees the same images, changed in the same way, and the same random numbers wherever it runs: they depend on
(seed, step) and the place of the process only, so that a run which was interrupted goes on as if it had not been.
"""

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from unisegment.data.collate import Collate
from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor
from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation
from unisegment.training.assembly import build_model, open_samples
from unisegment.training.batches import BatchPlan, MicroBatch, Samples, TransformedSamples, load_batches
from unisegment.training.checkpointing import (
    RunFolder,
    Start,
    changed_keys,
    cut_log,
    plan_start,
    replaced_folder,
    save_state,
    write_file,
)
from unisegment.training.evaluation import draw_predictions, evaluate
from unisegment.training.messages import already_finished, result
from unisegment.training.optimization import make_optimizer, make_schedule
from unisegment.training.processes import decide_once, num_threads, seed_step
from unisegment.training.recipe import Recipe, load_recipe
from unisegment.training.settings import parse_yaml, plain
from unisegment.training.step import LossOnly, step_denominators, take_step


@dataclass
class Progress:
    """How far a run is; part of every saved state.

    Args:
        step: Steps taken.
        seconds: Time that they took, without evaluation and saving.
    """

    step: int = 0
    seconds: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return what is saved."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what was saved."""
        self.step, self.seconds = state["step"], state["seconds"]


def fit(recipe: Recipe | str | Path, **overrides: Any) -> dict[str, Any]:
    """Train a model, judge it and write everything to `run.output_dir`.

    Args:
        recipe: A recipe or its YAML file.
        overrides: Values by dotted key: `fit("recipe.yaml", **{"optim.lr": 1e-3})`.

    Returns:
        What `metrics.json` says.

    Raises:
        RecipeError: When the recipe is wrong, or running it would destroy results.
        NonFiniteLossError: When training diverges.
    """
    recipe = load_recipe(recipe, overrides)
    accelerator = Accelerator(mixed_precision=recipe.run.precision)
    torch.set_num_threads(recipe.run.threads or num_threads(dict(os.environ), accelerator.num_processes))
    folder = RunFolder(Path(recipe.run.output_dir))
    start = decide_once(accelerator, lambda: plan_start(recipe))
    if start.is_finished:
        metrics = json.loads(folder.metrics.read_text(encoding="utf-8"))
        accelerator.print(already_finished(folder, metrics))
        return metrics
    with accelerator.main_process_first():
        samples, held_out = open_samples(recipe.data)
    torch.manual_seed(recipe.run.seed)
    model, processor = build_model(recipe, samples)
    run = Run(recipe, folder, accelerator, model, processor, held_out)
    run.begin(start)
    run.train(samples)
    return run.finish()


@dataclass
class Run:
    """One training run; its methods are called in order.

    Args:
        recipe: What to do.
        folder: Where to write.
        accelerator: Knows the device and the other processes.
        model: What is trained.
        processor: Prepares images for it, and is saved beside it.
        held_out: Images to judge it by.
    """

    recipe: Recipe
    folder: RunFolder
    accelerator: Accelerator
    model: UniSegmentForUniversalSegmentation
    processor: UniSegmentImageProcessor
    held_out: Samples
    progress: Progress = field(default_factory=Progress)

    def begin(self, start: Start) -> None:
        """Prepare everything that is trained and saved, then the folder."""
        if self.accelerator.num_processes > 1 and self.accelerator.device.type == "cuda":
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        optimizer = make_optimizer(self.model, self.recipe.optim)
        self.schedule = make_schedule(optimizer, self.recipe.schedule)
        self.losses, self.optimizer = self.accelerator.prepare(LossOnly(self.model), optimizer)
        # accelerate would advance a schedule that it prepared once for each process.
        self.accelerator.register_for_checkpointing(self.schedule, self.progress)
        if start.state is not None:
            self.accelerator.load_state(str(start.state))
            self.accelerator.print(f"Continuing from {start.state}.")
        if self.accelerator.is_main_process:
            self._open_folder(start)
        self.accelerator.wait_for_everyone()

    def _open_folder(self, start: Start) -> None:
        folder, recipe = self.folder, self.recipe
        if start.clears:
            folder.clear()
        folder.root.mkdir(parents=True, exist_ok=True)
        if start.state is not None and folder.recipe.is_file():
            before = parse_yaml(folder.recipe.read_text(encoding="utf-8"), str(folder.recipe))
            for change in changed_keys(before, plain(asdict(recipe))):
                self.accelerator.print(f"Changed since the run began: {change}")
        if folder.is_finished():
            folder.metrics.unlink()
        cut_log(folder.log, self.progress.step)
        write_file(folder.recipe, recipe.to_yaml())

    def train(self, samples: Samples) -> None:
        """Take the steps that are left; log, save and judge as often as the recipe says."""
        progress, run, last_step = self.progress, self.recipe.run, self.recipe.schedule.max_steps
        self.model.train()
        log_file = self.folder.log if self.accelerator.is_main_process else os.devnull
        with self._progress_bar() as bar, open(log_file, "a", encoding="utf-8", buffering=1) as log:
            started = time.perf_counter()
            for micro_batches in self._batches(samples):
                values = self._step(micro_batches)
                seconds = time.perf_counter() - started
                values["images_per_second"] = self.recipe.optim.batch_size / seconds
                progress.step, progress.seconds = progress.step + 1, progress.seconds + seconds
                log.write(json.dumps({"step": progress.step, **_finite(values)}) + "\n")
                bar.set_postfix(loss=f"{values['loss']:.2f}", refresh=False)
                bar.update()
                is_last = progress.step == last_step
                if run.checkpoint_every and (is_last or progress.step % run.checkpoint_every == 0):
                    save_state(self.accelerator, self.folder, progress.step, run.keep_checkpoints)
                if run.eval_every and not is_last and progress.step % run.eval_every == 0:
                    self._judge(is_finished=False)
                started = time.perf_counter()

    def finish(self) -> dict[str, Any]:
        """Save the model, judge it, draw some of its predictions, and say so."""
        if self.accelerator.is_main_process:
            with replaced_folder(self.folder.model) as partial:
                self.model.save_pretrained(partial)
                self.processor.save_pretrained(partial)
            with replaced_folder(self.folder.predictions) as partial:
                evaluation = self.recipe.evaluation
                draw_predictions(
                    self.model,
                    self.processor,
                    self.held_out,
                    partial,
                    num_pictures=evaluation.pictures,
                    panoptic_threshold=evaluation.panoptic_threshold,
                )
        self.accelerator.wait_for_everyone()
        metrics = self._judge(is_finished=True)
        self.accelerator.print(result(self.folder, metrics))
        return metrics

    def _batches(self, samples: Samples) -> Iterator[list[MicroBatch]]:
        recipe = self.recipe
        plan = BatchPlan(
            num_samples=len(samples),
            batch_size=recipe.optim.batch_size,
            accumulation=recipe.optim.accumulation,
            steps=range(self.progress.step, recipe.schedule.max_steps),
            seed=recipe.run.seed,
            process_index=self.accelerator.process_index,
            num_processes=self.accelerator.num_processes,
        )
        transformed = TransformedSamples(samples, recipe.data.transform, recipe.run.seed)
        collate = Collate(self.processor.image_mean, self.processor.image_std)
        return load_batches(transformed, plan, collate, recipe.data.workers)

    def _step(self, micro_batches: list[MicroBatch]) -> dict[str, float]:
        """Take one step and return what goes into the log."""
        config = self.model.config
        seed_step(self.recipe.run.seed, self.progress.step, self.accelerator.process_index)
        denominators = step_denominators(
            self.accelerator, micro_batches, config.num_queries, config.no_object_weight, config.loss_normalization
        )
        values = take_step(
            self.accelerator, self.losses, self.optimizer, micro_batches, denominators, self.recipe.optim.clip_norm
        )
        lr = float(max(self.schedule.get_last_lr()))
        # Advances even where an overflow in fp16 made the optimiser skip the step, as in the original.
        self.schedule.step()
        return {"loss": values.pop("loss"), "lr": lr, **values}

    def _judge(self, is_finished: bool) -> dict[str, Any]:
        """Evaluate and write `metrics.json`."""
        if self.accelerator.num_processes > 1:
            # Batch norms that count in each process by itself: judge the one that is saved.
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, src=0)
        scores = evaluate(
            self.model,
            self.processor,
            self.held_out,
            panoptic_threshold=self.recipe.evaluation.panoptic_threshold,
            batch_size=self.recipe.evaluation.batch_size,
            workers=self.recipe.data.workers,
        )
        progress = {"step": self.progress.step, "train_seconds": self.progress.seconds, "finished": is_finished}
        if self.accelerator.is_main_process:
            write_file(self.folder.metrics, json.dumps(scores | progress, indent=2) + "\n")
        return scores | progress

    def _progress_bar(self) -> tqdm:
        return tqdm(
            desc="train",
            unit="step",
            total=self.recipe.schedule.max_steps,
            initial=self.progress.step,
            disable=not self.accelerator.is_main_process,
            # In a file each update is a line of its own.
            mininterval=0.1 if sys.stderr.isatty() else 10,
        )


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """Replace what JSON has no word for."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
