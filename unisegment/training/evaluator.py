# SPDX-License-Identifier: Apache-2.0
"""A model in training in; its scores, the model and its pictures in the folder of the run out."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from unisegment.files import whole_folder, write_text
from unisegment.inference.evaluation import evaluate
from unisegment.inference.images import Samples
from unisegment.inference.pictures import draw_images
from unisegment.inference.predictor import Predictor
from unisegment.inference.report import SHORT_NAMES
from unisegment.runs.log_file import LogFile, read_lines
from unisegment.runs.processes import StopSignals, decide_once
from unisegment.runs.recipe import Recipe
from unisegment.runs.run_folder import RunFolder
from unisegment.structures import TASKS
from unisegment.training.ema import WeightAverage
from unisegment.training.sharding import with_whole_weights
from unisegment.training.tracking import track
from unisegment.training.unreadable import UnreadableImages

_METRICS = {"panoptic": "pq", "instance": "mask_ap", "semantic": "miou"}


@dataclass
class Evaluator:
    """Evaluates and saves the model of one run; all processes call its methods together.

    Args:
        recipe: What to do.
        folder: Where to write.
        accelerator: Knows the device and the other processes.
        model: What is trained, a `SegmentationModel`.
        empty_model: The same, plain and without weights, where FSDP2 has cut up those of `model` or it has adapters;
            None otherwise.
        average: The moving average of its weights, if there is one.
        processor: Prepares images for the model, and is saved beside it.
        held_out: Images to evaluate it on.
        unreadable: Images that were left out.
        stop: Tells when to stop.
    """

    recipe: Recipe
    folder: RunFolder
    accelerator: Accelerator
    model: Any
    empty_model: Any
    average: WeightAverage | None
    processor: Any
    held_out: Samples
    unreadable: UnreadableImages
    stop: StopSignals

    @property
    def task(self) -> str:
        """What the run is for: that of `run.best_metric`, or else what the labels are made for."""
        chosen = self.recipe.run.best_metric
        if chosen is None:
            return self._predictor(self.model).task
        return next(task for task, metric in _METRICS.items() if metric == chosen)

    def finish(self, step: int, seconds: float) -> dict[str, Any]:
        """Save the model, draw some of its predictions, and evaluate it, unless that has been done after this step."""
        with self._evaluated_model() as model:
            if self.accelerator.is_main_process:
                self._save_model(model, self.folder.model)
                self._save_pictures(model)
        self.accelerator.wait_for_everyone()
        known = decide_once(lambda: [line for line in self._evaluations(step) if not line["finished"]])
        if not known:
            return self.evaluate(step, seconds, is_finished=True)
        metrics = known[0] | {"finished": True}
        if self.accelerator.is_main_process:
            self._write_metrics(metrics)
        return metrics

    def evaluate(self, step: int, seconds: float, is_finished: bool = False) -> dict[str, Any]:
        """Evaluate, write down the scores, and keep the model if it is the best one.

        Args:
            step: Steps taken.
            seconds: Time that they took.
            is_finished: Whether they were all.

        Raises:
            EvaluationCancelledError: When a signal asked for the end.
        """
        with self._evaluated_model() as model:
            report = evaluate(
                self._predictor(model),
                self.held_out,
                batch_size=self.recipe.evaluation.batch_size,
                workers=self.recipe.data.workers,
                timeout=60 * self.recipe.run.timeout,
                is_cancelled=lambda: self.stop.received,
                on_unreadable=self.unreadable.listener,
            )
            self.unreadable.share(self.accelerator)
            scores = {name: report[name] for name in SHORT_NAMES}
            metrics = scores | {"unreadable_images": sorted(self.unreadable.problems)}
            metrics |= {"task": self.task, "step": step, "train_seconds": seconds, "finished": is_finished}
            if self.accelerator.is_main_process and self.recipe.run.eval_every:
                self._keep_best(model, metrics)
        scores = {f"eval/{name}": score for name, score in scores.items() if score is not None}
        track(self.accelerator, scores, step)
        if self.accelerator.is_main_process:
            # Last, because this is what says that nothing is left to be done for this step.
            if not self.is_evaluated(step):
                with closing(LogFile(self.folder.evaluations)) as log:
                    log.write(metrics)
            self._write_metrics(metrics)
        return metrics

    def why_stop(self) -> str | None:
        """Return why the run is to end before its last step, as `run.patience` says; None where it goes on.

        Nothing but what is written down decides, so that a run that was killed decides as before.
        """
        return decide_once(self._why_stop) if self.recipe.run.patience else None

    def _why_stop(self) -> str | None:
        metric, patience = _METRICS[self.task], self.recipe.run.patience
        scored = [line for line in read_lines(self.folder.evaluations) if line.get(metric) is not None]
        places = [place for place, line in enumerate(scored) if line[metric] == max(one[metric] for one in scored)]
        if not places or len(scored) - 1 - places[0] < patience:
            return None
        best = scored[places[0]]
        return (
            f"Stopped after step {scored[-1]['step']} of {self.recipe.schedule.steps}: {metric} has been best after "
            f"step {best['step']} ({best[metric]:.3f}, {self.folder.best}), and no evaluation since then was better "
            f"(run.patience={patience})."
        )

    def is_evaluated(self, step: int) -> bool:
        """Tell whether the scores after a step are written down."""
        return bool(self._evaluations(step))

    def _evaluations(self, step: int) -> list[dict[str, Any]]:
        return [line for line in read_lines(self.folder.evaluations) if line["step"] == step]

    def share_statistics(self) -> None:
        """Let all processes have what the batch norms of the first one have counted, which is what is saved."""
        if self.accelerator.num_processes > 1:
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def _keep_best(self, model: Any, metrics: dict[str, Any]) -> None:
        metric = _METRICS[self.task]
        score = metrics[metric]
        if score is not None and score > self.folder.best_score(metric, metrics["step"]):
            self._save_model(model, self.folder.best, {self.folder.metrics.name: json.dumps(metrics, indent=2) + "\n"})

    def _write_metrics(self, metrics: dict[str, Any]) -> None:
        write_text(self.folder.metrics, json.dumps(metrics, indent=2) + "\n")

    def _save_model(self, model: Any, path: Path, texts: dict[str, str] | None = None) -> None:
        """Write a model and the processor, with some further files."""
        with whole_folder(path) as partial:
            model.save_pretrained(partial)
            self.processor.save_pretrained(partial)
            for name, text in (texts or {}).items():
                (partial / name).write_text(text, encoding="utf-8")

    def _save_pictures(self, model: Any) -> None:
        """Draw predictions for some held-out images, spread evenly over all of them."""
        number = min(self.recipe.evaluation.pictures, len(self.held_out))
        places = np.linspace(0, len(self.held_out) - 1, number).round().astype(int).tolist()
        tasks = TASKS if self.task == "panoptic" else (self.task,)
        unreadable = self.unreadable.listener
        with whole_folder(self.folder.predictions) as partial:
            for name, picture in draw_images(
                self._predictor(model), self.held_out, places, tasks=tasks, on_unreadable=unreadable
            ):
                picture.save(partial / name)

    def _predictor(self, model: Any) -> Predictor:
        evaluation = self.recipe.evaluation
        return Predictor(model, self.processor, evaluation.panoptic_threshold, evaluation.top_k)

    @contextmanager
    def _evaluated_model(self) -> Iterator[Any]:
        """Give the model that is evaluated and saved, the same in every process: averaged, if there is an average."""
        with nullcontext() if self.average is None else self.average.applied():
            self.share_statistics()
            yield self.model if self.empty_model is None else with_whole_weights(self.model, self.empty_model)
