# SPDX-License-Identifier: Apache-2.0
"""What all commands share: words in, an exit status out, and one line on standard error that says what went wrong."""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import typer
from accelerate import PartialState
from typer.core import TyperGroup

from unisegment.hub import PushError
from unisegment.ops.weight_sources import MissingSourceError
from unisegment.training.loop import TrainingInterruptedError
from unisegment.training.settings import RecipeError
from unisegment.training.step import NonFiniteLossError

FAILED = 1
"""What was asked for could not be done, or a check found errors."""
INTERRUPTED = 75
"""A signal asked for the end: the same command goes on, or starts again. sysexits.h calls it EX_TEMPFAIL."""

# typer's own copy of click, or click, from release to release.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]
_OF_ALL = (MissingSourceError, RecipeError, NonFiniteLossError, TrainingInterruptedError, KeyboardInterrupt)
"""What every process of a machine finds."""


class Commands(TyperGroup):
    """Commands that end with 0 when they are done, 1 when they failed, 2 when misused, and 75 when interrupted.

    What goes wrong is one line, `error: …`. A traceback is a fault of this library. In words that begin with `~`, and
    in values of options that do, that is the user's own folder: shells leave it in `--data=~/mine`, and in quotes.
    """

    def main(  # type: ignore[override]  # the others are typer's, and are handed on
        self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **settings: Any
    ) -> Any:
        """Run the command that words name, and exit; with `standalone_mode=False` return its status."""
        words = [_at_home(word) for word in (sys.argv[1:] if args is None else args)]
        try:
            status = super().main(words, standalone_mode=False, **settings)
        except _UsageError as error:
            if not words:
                error.show()  # all the help
            else:
                place = error.ctx.command_path if error.ctx else "unisegment"
                said = _one_line(error.format_message())
                _say(f"error: {said}{'' if said.endswith(('.', '?')) else '.'} See `{place} --help`.", error)
            status = error.exit_code
        if not standalone_mode:
            return status
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run a command and return its status."""
        try:
            with _interrupted_by_sigterm():
                result = super().invoke(ctx)
        except TrainingInterruptedError as error:
            _say(_one_line(str(error)), error)
            raise typer.Exit(INTERRUPTED) from error
        except KeyboardInterrupt as error:
            _say("Interrupted.", error)
            raise typer.Exit(INTERRUPTED) from error
        except BrokenPipeError:  # of `| head`, say
            raise
        except (ValueError, OSError, PushError, NonFiniteLossError) as error:
            _say(f"error: {_one_line(_message(error))}", error)
            raise typer.Exit(FAILED) from error
        if PartialState._shared_state:
            PartialState().destroy_process_group()
        return result


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Within `with`, take SIGTERM, as schedulers and `kill` send it, for Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():  # others cannot
        yield
        return
    process = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a fork, which nobody waits for to say something
            os._exit(INTERRUPTED)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _at_home(word: str) -> str:
    option, separator, value = word.partition("=")
    if option.startswith("--") and separator:
        return f"{option}={os.path.expanduser(value)}"
    return os.path.expanduser(word)


def _message(error: Exception) -> str:
    text = str(error)
    if "Original Traceback (most recent call last)" in text:  # of a process that loads images
        text = text.rstrip().splitlines()[-1].partition(": ")[2]
    return text or type(error).__name__


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _say(text: str, error: BaseException) -> None:
    """Say something on standard error; what all processes of a machine find, once for each machine."""
    rank = os.environ.get("RANK", "0")
    if not isinstance(error, (*_OF_ALL, _UsageError)) or os.environ.get("LOCAL_RANK", "0") == "0":
        print(text if rank == "0" else f"process {rank}: {text}", file=sys.stderr)
