# SPDX-License-Identifier: Apache-2.0
"""The stages of the report, in order of worth.

A stage is a module of this folder with a function `rows(settings)`, which yields rows: flat dicts whose `what` says
what was done, `who` by whom where several are compared, and whose other keys are measures with their units in the name
(ms, peak_mib, images_per_s, ratio: above 1 where ours is faster). A row with `error` has failed.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Stage:
    """A child process of the report.

    Args:
        modules: Of this folder, one after the other; one that fails does not keep the next from its turn. To import
            torch and the library takes each process some seconds, so what cannot harm each other shares one.
        part: Handed to them; parts are processes of their own, so that none suffers from what an earlier one broke.
        seconds: What is planned for it. It gets this share of the time that is left: what earlier stages did not need
            is for later ones, and what they took beyond their share is missing for all of them alike.
    """

    modules: tuple[str, ...]
    part: str
    seconds: float

    @property
    def name(self) -> str:
        """What its end is reported under."""
        return "+".join(self.modules) + (f":{self.part}" if self.part else "")


STAGES = (
    Stage(("environment", "build", "parity"), "", 40),
    Stage(("sanitizers",), "", 20),
    Stage(("kernel_table",), "", 60),
    Stage(("counters",), "", 25),
    Stage(("gpu_tests",), "", 70),
    Stage(("whole_model",), "inference", 90),
    Stage(("whole_model",), "training", 80),
    Stage(("whole_model",), "compiled", 70),
    Stage(("sweep",), "", 25),
)


def share(stages: Sequence[Stage], left: float) -> float:
    """Return the seconds for the first of these stages when so many are left for all of them."""
    return left * stages[0].seconds / sum(stage.seconds for stage in stages)


def chosen(names: Collection[str]) -> list[Stage]:
    """Return the stages of these modules alone."""
    stages = [replace(stage, modules=tuple(name for name in stage.modules if name in names)) for stage in STAGES]
    return [stage for stage in stages if stage.modules]
