# SPDX-License-Identifier: Apache-2.0
"""The images that a run leaves out because they cannot be read: each is named once, and there is a limit."""

import sys
from collections.abc import Callable, Iterable

from accelerate import Accelerator
from accelerate.utils import gather_object

from unisegment.runs.settings import RecipeError


class UnreadableImages:
    """What is wrong with the images that were left out so far; part of every saved state.

    Args:
        limit: How many there may be, in one process or in those that have told each other.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.problems: list[str] = []

    @property
    def listener(self) -> Callable[[Iterable[str]], None] | None:
        """`note`; or None where nothing may be left out, so that readers' errors are raised."""
        return self.note if self.limit else None

    def note(self, problems: Iterable[str]) -> None:
        """Remember images that were left out, and name those that are new.

        Args:
            problems: What is wrong, with the name of the file; the same text again is the same image.

        Raises:
            RecipeError: When there are more than the limit.
        """
        for problem in problems:
            if problem not in self.problems:
                print(f"Left out, as data.on_error=skip says: {problem}", file=sys.stderr)
                self.problems.append(problem)
        if len(self.problems) > self.limit:
            raise RecipeError(
                f"{len(self.problems)} images cannot be read, and data.max_skipped={self.limit}. See them all with "
                f"`unisegment check-data`; correct or remove them, or raise data.max_skipped. The last: "
                f"{self.problems[-1]}"
            )

    def share(self, accelerator: Accelerator) -> None:
        """Let every process know what all of them have noted.

        Raises:
            RecipeError: When there are more than the limit.
        """
        if accelerator.num_processes > 1:
            self.problems = sorted({*gather_object(self.problems)})
            self.note(())
