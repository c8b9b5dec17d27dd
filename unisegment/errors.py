# SPDX-License-Identifier: Apache-2.0
"""What the library's own errors tell the command: the exit status, and who is to say them."""

from typing import ClassVar

FAILED = 1
"""What was asked for could not be done, or a check found errors."""
INTERRUPTED = 75
"""A signal asked for the end: the same command goes on, or starts again. sysexits.h calls it EX_TEMPFAIL."""


class ForeseenError(Exception):
    """An error whose message says what is wrong and what to do, as those of ValueError and OSError here do, too."""

    exit_status: ClassVar[int] = FAILED
    found_by_all: ClassVar[bool] = False
    """Whether every process of a machine finds it, so that one of them says it."""
