# SPDX-License-Identifier: Apache-2.0
"""A recipe in, a folder with a trained model, its scores, its log and pictures out.

One step sees the same images, changed in the same way, and the same random numbers wherever it runs: they depend on
(seed, step) and the place of the process only, so that a run which was interrupted goes on as if it had not been.
"""

import math
import sys
import time
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.errors import INTERRUPTED, ForeseenError
from unisegment.files import WriteError, flush, write_text
from unisegment.hub import PushError, check_push, push
from unisegment.inference.evaluation import EvaluationCancelledError
from unisegment.models.base import SegmentationProcessor
from unisegment.ops.tf32 import has_tf32, use_tf32
from unisegment.runs.data_opening import with_format
from unisegment.runs.folder_lock import locked
from unisegment.runs.log_file import LogFile, cut_log, read_metrics
from unisegment.runs.processes import (
    StopSignals,
    any_process,
    decide_once,
    peak_memory_mebibytes,
)
from unisegment.runs.recipe import HubRecipe, Recipe, load_recipe
from unisegment.runs.run_folder import RunFolder
from unisegment.runs.settings import RecipeError, plain
from unisegment.training.accelerator import make_accelerator
from unisegment.training.assembly import (
    build_model,
    check_model,
    data_notes,
    model_notes,
    open_batches,
    open_samples,
    plan_batches,
)
from unisegment.training.batches import MicroBatch, seed_step
from unisegment.training.checkpointing import (
    Start,
    changes_since,
    plan_start,
    save_state,
)
from unisegment.training.ema import WeightAverage
from unisegment.training.evaluator import Evaluator
from unisegment.training.lora import without_adapters
from unisegment.training.messages import already_finished, counted_epochs, number_formats, result
from unisegment.training.micro_batches import chosen, divided
from unisegment.training.optimization import lr_factor, make_optimizer, make_schedule, take_over
from unisegment.training.repeats import describe_repeats, find_repeats
from unisegment.training.sharding import without_weights
from unisegment.training.state_files import Progress, Repeats, read_categories
from unisegment.training.state_fit import check_fit
from unisegment.training.step import LossOnly, NonFiniteLossError, take_step
from unisegment.training.tracking import check_trackers, start_trackers, track
from unisegment.training.training_state import TrainingState
from unisegment.training.unreadable import UnreadableImages

_MOST_OVERFLOWS = 50
"""In a row; fp16's scale, halved each time, is then as good as zero."""


class TrainingInterruptedError(ForeseenError):
    """A signal asked for the end. What was learned is saved, and the same command goes on from there."""

    exit_status = INTERRUPTED
    found_by_all = True


def fit(recipe: Recipe | str | Path, **overrides: Any) -> dict[str, Any]:
    """Train a model, evaluate it and write everything to `run.output_dir`.

    Args:
        recipe: A recipe or its YAML file.
        overrides: Values by dotted key: `fit("recipe.yaml", **{"optim.lr": 1e-3})`.

    Returns:
        What `metrics.json` says.

    Raises:
        RecipeError: When the recipe is wrong, running it would destroy results, or what is there is damaged.
        FolderInUseError: When another run is at work in the same folder.
        NonFiniteLossError: When training diverges.
        WriteError: When something cannot be written; nothing that was complete is lost.
        TrainingInterruptedError: When SIGTERM or SIGINT came; what was learned is saved.
        PushError: When the finished run could not be uploaded; `metrics.json` and everything else is there.
    """
    recipe = load_recipe(recipe, overrides)
    run, folder = recipe.run, RunFolder(Path(recipe.run.output_dir))
    check_trackers(run.trackers)
    accelerator = make_accelerator(run, folder)
    start = decide_once(lambda: plan_start(recipe))
    if recipe.hub.push:
        decide_once(lambda: _check_push(recipe.hub))
    with nullcontext() if start.is_finished else locked(folder.root), use_tf32(run.tf32):
        start = decide_once(lambda: plan_start(recipe))  # again: another run may have been here until now
        if start.is_finished:
            metrics = read_metrics(folder.metrics)
            accelerator.print(already_finished(folder, metrics, changes_since(folder, recipe)))
        else:
            metrics = _train_model(recipe, folder, accelerator, start)
    if recipe.hub.push and accelerator.is_main_process:
        print(f"Pushed to {push(folder.root, str(recipe.hub.repo), private=recipe.hub.private)}")
    return metrics


def _check_push(hub: HubRecipe) -> None:
    try:
        check_push(str(hub.repo), hub.private)
    except PushError as error:
        raise RecipeError(f"hub.push=true: {error}") from error


def _train_model(recipe: Recipe, folder: RunFolder, accelerator: Accelerator, start: Start) -> dict[str, Any]:
    check_model(recipe)
    if accelerator.device.type == "cuda":
        accelerator.print(f"Numbers: {number_formats(recipe.run, has_tf32(accelerator.device))}.")
    recipe = replace(recipe, data=with_format(recipe.data))
    with accelerator.main_process_first():
        samples, held_out = open_samples(recipe.data, read_categories(start.state))
        for note in [*model_notes(recipe), *data_notes(samples, held_out)]:
            accelerator.print(f"Note: {note}", file=sys.stderr)
    repeats = find_repeats(recipe.data, samples, start.state)
    if repeats is not None:
        accelerator.print(describe_repeats(repeats))
    if recipe.schedule.epochs is not None:
        counted = recipe.counted(len(samples))
        accelerator.print(counted_epochs(recipe, len(samples), counted.schedule.steps))
        recipe = counted
    recipe = divided(recipe)
    plan_batches(recipe, samples, range(0))  # a batch that cannot be divided is an error before anything is touched
    torch.manual_seed(recipe.run.seed)
    model, processor = build_model(recipe, samples)
    if recipe.optim.micro_batch == "auto":
        recipe, reason = chosen(recipe, model, processor, samples, start.state)
        accelerator.print(reason)
    check_fit(start.state, recipe, model)
    try:
        with StopSignals() as stop:
            run = Run(recipe, folder, accelerator, model, processor, held_out, stop, repeats)
            return run.run(start, samples)
    except WriteError as error:
        raise WriteError(f"{error} With run.resume=auto training goes on from its last state.") from error


@dataclass
class Run:
    """One training run.

    Args:
        recipe: What to do.
        folder: Where to write.
        accelerator: Knows the device and the other processes.
        model: What is trained, a `SegmentationModel`.
        processor: Prepares images for it, and is saved beside it.
        held_out: Images to evaluate it on.
        stop: Tells when to stop.
        repeats: How often an epoch shows each training image, if it is not once.
    """

    recipe: Recipe
    folder: RunFolder
    accelerator: Accelerator
    model: Any
    processor: SegmentationProcessor
    held_out: AnnotatedImages
    stop: StopSignals
    repeats: Repeats | None = None
    progress: Progress = field(default_factory=Progress)

    def run(self, start: Start, samples: AnnotatedImages) -> dict[str, Any]:
        """Do everything that is left to do, and return the last scores."""
        self._begin(start)
        self.unreadable.note([*samples.left_out, *self.held_out.left_out])
        try:
            self._train(samples)
            metrics = self.evaluator.finish(self.progress.step, self.progress.seconds)
            self.accelerator.print(result(self.folder, metrics, self.recipe.evaluation.expected))
            return metrics
        except EvaluationCancelledError:
            self._interrupt()
        finally:
            for tracker in self.accelerator.trackers:
                tracker.finish()

    def _begin(self, start: Start) -> None:
        """Prepare everything that is trained and saved, then the folder."""
        if self.accelerator.num_processes > 1 and self.accelerator.device.type == "cuda":
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        optimizer = make_optimizer(self.model, self.recipe.optim, self.recipe.schedule)
        self.schedule = make_schedule(optimizer, self.recipe.schedule)
        is_plain = not (self.accelerator.is_fsdp2 or self.recipe.model.lora.rank)
        empty_model = None if is_plain else without_adapters(without_weights(self.model))
        self.losses, self.optimizer = self.accelerator.prepare(LossOnly(self.model, self.recipe.run.compile), optimizer)
        # accelerate would advance a schedule that it prepared once for each process.
        self.unreadable = UnreadableImages(self.recipe.data.most_skipped)
        decay = self.recipe.optim.ema_decay
        self.average = WeightAverage(self.model, decay) if decay else None
        self.training = TrainingState(
            self.accelerator,
            self.losses,
            self.optimizer,
            self.progress,
            self.unreadable,
            self.average,
            self.repeats,
        )
        self.evaluator = Evaluator(
            self.recipe,
            self.folder,
            self.accelerator,
            self.model,
            empty_model,
            self.average,
            self.processor,
            self.held_out,
            self.unreadable,
            self.stop,
        )
        if start.state is not None:
            asked = [{**group, "params": ()} for group in self.optimizer.param_groups]
            self.training.load(start.state)
            take_over(self.optimizer, self.schedule, asked, self.progress.step)
            self.accelerator.print(f"Continuing from {start.state}.")
        self.model.at_step(self.progress.step, self.recipe.schedule.steps)
        self.saved_step = 0 if start.state is None else self.progress.step
        if self.accelerator.is_main_process:
            self._open_folder(start)
        self.accelerator.wait_for_everyone()
        start_trackers(self.accelerator, self.recipe.run.project, self.folder, plain(asdict(self.recipe)))

    def _open_folder(self, start: Start) -> None:
        folder, recipe = self.folder, self.recipe
        if start.clears:
            folder.clear()
        folder.root.mkdir(parents=True, exist_ok=True)
        folder.restore()
        folder.remove_states(folder.states_after(self.progress.step))
        if start.state is not None:
            for change in changes_since(folder, recipe):
                self.accelerator.print(f"Changed since the run began: {change}")
        if folder.is_finished():
            folder.metrics.unlink()
        for log in (folder.log, folder.evaluations):
            cut_log(log, self.progress.step)
        write_text(folder.recipe, recipe.to_yaml())

    def _train(self, samples: AnnotatedImages) -> None:
        """Take the steps that are left, or as many as help; log, save and evaluate as often as the recipe says."""
        progress, run, last_step = self.progress, self.recipe.run, self.recipe.schedule.steps
        is_main = self.accelerator.is_main_process
        self.model.train()
        is_due = self._is_due(run.eval_every) and progress.step < last_step
        if is_due and not decide_once(lambda: self.evaluator.is_evaluated(progress.step)):
            self.evaluator.evaluate(progress.step, progress.seconds)  # was killed in between
        if is_due and self._ends_early():
            return
        batches = open_batches(
            self.recipe,
            samples,
            self.processor,
            range(progress.step, last_step),
            self.recipe.data.workers,
            None if self.repeats is None else self.repeats.factors,
        )
        with self._progress_bar() as bar, closing(LogFile(self.folder.log if is_main else None)) as log:
            started = time.perf_counter()
            for micro_batches in batches:
                self.unreadable.note(problem for batch in micro_batches for problem in batch.unreadable)
                values = self._step(micro_batches)
                seconds = time.perf_counter() - started
                values["images_per_second"] = self.recipe.optim.batch_size / seconds
                values["peak_memory_mib"] = peak_memory_mebibytes(self.accelerator.device)
                progress.step, progress.seconds = progress.step + 1, progress.seconds + seconds
                self.model.at_step(progress.step, last_step)
                log.write({"step": progress.step, **values})
                track(self.accelerator, values, progress.step)
                if (
                    progress.non_finite >= self.recipe.optim.max_non_finite_steps
                    or progress.overflows >= _MOST_OVERFLOWS
                ):
                    all_names = [name for batch in micro_batches for name in batch.file_names]
                    raise NonFiniteLossError(values.get("skipped_images", all_names))
                bar.set_postfix(loss=f"{values['loss']:.2f}", refresh=False)
                bar.update()
                if any_process(self.accelerator, self.stop.received):
                    self._interrupt()
                is_last = progress.step == last_step
                if self._is_due(run.checkpoint_every) or (is_last and run.checkpoint_every):
                    self._save()
                if self._is_due(run.eval_every) and not is_last:
                    self.evaluator.evaluate(progress.step, progress.seconds)
                    if self._ends_early():
                        return
                started = time.perf_counter()

    def _step(self, micro_batches: list[MicroBatch]) -> dict[str, Any]:
        """Take one step, or leave it out, and return what goes into the log."""
        optim, accelerator = self.recipe.optim, self.accelerator
        seed_step(self.recipe.run.seed, self.progress.step, accelerator.process_index)
        targets = [batch.inputs["mask_labels"] for batch in micro_batches]
        denominators = self.model.loss_denominators(targets, accelerator.reduce, accelerator.num_processes)
        values: dict[str, Any]
        try:
            values = take_step(accelerator, self.losses, self.optimizer, micro_batches, denominators, optim.clip_norm)
            self.progress.non_finite = 0
            is_taken = math.isfinite(values["gradient_norm"])  # else fp16's scale was too large
            self.progress.overflows = 0 if is_taken else self.progress.overflows + 1
            if self.average is not None and is_taken:
                self.average.update()
        except NonFiniteLossError as error:
            self.progress.non_finite += 1
            accelerator.print(f"Step {self.progress.step + 1} is left out. {error}", file=sys.stderr)
            values = {"loss": float("nan"), "skipped_images": error.file_names}
        lr, lr_backbone = (
            optim.lr * lr_factor(self.recipe.schedule, in_backbone)(self.progress.step) for in_backbone in (False, True)
        )
        # Advances even where an overflow in fp16 made the optimiser skip the step, as in the original.
        self.schedule.step()
        return {"loss": values.pop("loss"), "lr": lr, "lr_backbone": lr_backbone * optim.backbone_lr_factor, **values}

    def _ends_early(self) -> bool:
        """Tell whether the evaluations say that more steps are in vain; the run can then still be made longer."""
        reason = self.evaluator.why_stop()
        if reason is None:
            return False
        self.accelerator.print(reason)
        if self.recipe.run.checkpoint_every:
            self._save()
        return True

    def _save(self) -> None:
        if self.saved_step != self.progress.step:
            self.evaluator.share_statistics()
            self.unreadable.share(self.accelerator)
            if self.accelerator.is_main_process:
                flush(self.folder.log)
            run, categories = self.recipe.run, self.model.config.categories
            save_state(self.training, self.folder, run.keep_checkpoints, categories)
            self.saved_step = self.progress.step

    def _interrupt(self) -> NoReturn:
        self._save()
        setting = "" if self.recipe.run.resume == "auto" else " with run.resume=auto"
        raise TrainingInterruptedError(
            f"Stopped after step {self.progress.step} of {self.recipe.schedule.steps}, as a signal asked for. The "
            f"same command{setting} goes on from there."
        )

    def _is_due(self, every: int) -> bool:
        return every > 0 and self.progress.step > 0 and self.progress.step % every == 0

    def _progress_bar(self) -> tqdm:
        return tqdm(
            desc="train",
            unit="step",
            total=self.recipe.schedule.steps,
            initial=self.progress.step,
            disable=not self.accelerator.is_main_process,
            # In a file each update is a line of its own.
            mininterval=0.1 if sys.stderr.isatty() else 10,
        )
