# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: the names of its files, what is in it, and what of it counts.

====================== ========================================================================
`recipe.yaml`          every key of the run
`log.jsonl`            one line for each step
`evaluations.jsonl`    one line for each evaluation
`checkpoints/`         states to resume from, `step-000100` and so on
`checkpoint/`          the trained model and its processor
`checkpoint-best/`     the same of the evaluation with the best score, which is in `metrics.json` there
`metrics.json`         the last evaluation
`predictions/`         pictures of held-out images
`trackers/`            files of the trackers that write some
====================== ========================================================================
"""

import math
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from unisegment.files import partial_name, restore
from unisegment.runs.log_file import read_metrics

_STATE_NAME = re.compile(r"step-\d+")


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run's files.

    Args:
        root: The folder itself, `run.output_dir`.
    """

    root: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.root / "recipe.yaml"

    @property
    def log(self) -> Path:
        """One JSON line for each step."""
        return self.root / "log.jsonl"

    @property
    def evaluations(self) -> Path:
        """One JSON line for each evaluation."""
        return self.root / "evaluations.jsonl"

    @property
    def states(self) -> Path:
        """States to resume from."""
        return self.root / "checkpoints"

    @property
    def model(self) -> Path:
        """The trained model, as `from_pretrained` reads it."""
        return self.root / "checkpoint"

    @property
    def best(self) -> Path:
        """The best model of those evaluated so far."""
        return self.root / "checkpoint-best"

    @property
    def metrics(self) -> Path:
        """The last evaluation."""
        return self.root / "metrics.json"

    @property
    def predictions(self) -> Path:
        """Pictures of held-out images."""
        return self.root / "predictions"

    @property
    def trackers(self) -> Path:
        """Files of trackers."""
        return self.root / "trackers"

    def latest_state(self) -> Path | None:
        """Return the newest complete state; None when there is none."""
        return max(self.all_states(), key=state_step, default=None)

    def states_after(self, step: int) -> list[Path]:
        """Return the states in which more steps were taken."""
        return [state for state in self.all_states() if state_step(state) > step]

    def remove_states(self, states: Iterable[Path]) -> None:
        """Remove states; half a state is never taken for one."""
        for state in states:
            shutil.rmtree(state.replace(partial_name(state)))

    def all_states(self) -> list[Path]:
        """Return the complete states, the oldest first."""
        named = (path for path in self.states.glob("step-*") if _STATE_NAME.fullmatch(path.name))
        return sorted(named, key=state_step)

    def restore(self) -> None:
        """Put everything right that a process was killed while writing."""
        for path in (self.model, self.best, self.predictions):
            restore(path)
        for rest in self.states.glob("step-*~"):
            restore(rest.with_name(rest.name.partition(".")[0]))

    def best_score(self, metric: str, step: int) -> float:
        """Return the score of the best model so far, up to a step; minus infinity when there is none."""
        found = self.best / self.metrics.name
        metrics = read_metrics(found) if found.is_file() else {}
        # What was evaluated later belongs to a part of the run that is about to be done again.
        score = metrics.get(metric) if metrics.get("step", 0) <= step else None
        return -math.inf if score is None else score

    def is_finished(self) -> bool:
        """Tell whether a run came to its end here."""
        return self.metrics.is_file() and read_metrics(self.metrics).get("finished", False)

    def clear(self) -> None:
        """Remove what a run writes, and nothing else."""
        # The metrics first: they say that nothing is left to be done.
        for path in (self.metrics, self.log, self.evaluations, self.recipe):
            path.unlink(missing_ok=True)
        for path in (self.states, self.model, self.best, self.predictions, self.trackers):
            shutil.rmtree(path, ignore_errors=True)


def state_step(state: Path) -> int:
    """Return the number of steps that were taken when a state was saved."""
    return int(state.name.removeprefix("step-"))


def recipe_of_run(checkpoint: str) -> Path | None:
    """Return the recipe of the run that a folder is, or is a checkpoint of; None when it is of none."""
    path = Path(checkpoint)
    runs = [RunFolder(path), RunFolder(path.parent)]
    return next((run.recipe for run in runs if path in (run.root, run.model, run.best) and run.recipe.is_file()), None)
