# SPDX-License-Identifier: Apache-2.0
"""What all commands share: words in, an exit status out, and one line on standard error that says what went wrong."""

import errno
import io
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from unisegment.errors import FAILED, INTERRUPTED, ForeseenError

# typer's own copy of click, or click, from release to release.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]
_ClickError: type[Any] = typer.BadParameter.__mro__[2]
_FORESEEN = (ValueError, OSError, ForeseenError)
"""Of which messages say what to do."""
_CTRL_C_OF_TYPER = 130
"""Its status where no command runs yet; earlier releases abort."""
_ENDS = (KeyboardInterrupt, typer.Abort)
_OF_WORKER = re.compile(r"Original Traceback \(most recent call last\):\n.*\n [^\n]*\n([\w.]+):? ?(.*)", re.DOTALL)
"""The end of what torch adds to errors of processes that load images."""
_OF_CONNECTION = re.compile(r"\bgloo\b|\bNCCL\b|\bTCPStore\b")
"""In what torch says where a process of a run does not reach another one; gloo's errors have no type of their own."""
_NO_ACCESS = "Change its permissions, or name another one."
_WHAT_HELPS = {
    errno.EACCES: _NO_ACCESS,
    errno.EPERM: _NO_ACCESS,
    errno.ENOENT: "See whether its name is right.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ENOSPC: "Make room there.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n), or take fewer workers.",
}
_OTHERWISE = "See whether the disk or network share is in order."
_OF_LOADER = re.compile(r"DataLoader (worker|timed out)|A process that loads images has died")
"""How it begins when a process that loads images is no longer there, or hangs."""
_DEBUG = "unisegment.debug"
_LONGEST_LINE = 2000


def _note_debug(context: typer.Context, value: bool) -> None:
    if value:
        context.meta[_DEBUG] = True  # of all commands of a line


def _debug(
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show the traceback of an error, too.", callback=_note_debug, expose_value=False),
    ] = False,
) -> None: ...


_template = typer.Typer(add_completion=False)
_template.command()(_debug)
(_DEBUG_OPTION,) = typer.main.get_command(_template).params


class Commands(TyperGroup):
    """Commands that end with 0 when they are done, 1 when they failed, 2 when misused, and 75 when interrupted.

    What goes wrong is one line, `error: …`; `--debug` shows where it was found before that. An exception that nobody
    foresaw is a fault of this library, and the line says so. In words that begin with `~`, and in values of options
    that do, that is the user's own folder: shells leave it in `--data=~/mine`, and in quotes.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for command in (self, *self.commands.values()):
            command.params.append(_DEBUG_OPTION)

    def main(  # type: ignore[override]  # the others are typer's, and are handed on
        self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **settings: Any
    ) -> Any:
        """Run the command that words name, and exit; with `standalone_mode=False` return its status."""
        words = [_at_home(word) for word in (sys.argv[1:] if args is None else args)]
        for stream in (sys.stdout, sys.stderr):  # names of files need not be text
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            status = super().main(words, standalone_mode=False, **settings)
            if status == _CTRL_C_OF_TYPER:
                raise typer.Abort
        except _UsageError as error:
            if not words:
                error.show()  # all the help
            else:
                place = error.ctx.command_path if error.ctx else "unisegment"
                said = one_line(error.format_message()).replace(": Value error, ", ": ")  # which pydantic puts there
                _say(f"error: {said}{'' if said.endswith(('.', '?')) else '.'} See `{place} --help`.", error)
            status = error.exit_code
        except typer.Abort as error:  # which Ctrl-C becomes where no command runs yet
            _say("Interrupted.", error)
            status = INTERRUPTED
        except OSError as error:  # where help cannot be written
            _say(f"error: {_message(error)}", error)
            status = FAILED
        if not standalone_mode:
            return status
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run a command and return its status."""
        try:
            with _interrupted_by_sigterm():
                result = super().invoke(ctx)
        except KeyboardInterrupt as error:
            _say("Interrupted.", error)
            raise typer.Exit(INTERRUPTED) from error
        except (_ClickError, typer.Exit, typer.Abort, BrokenPipeError):  # misuse, an end, and `| head`, say
            raise
        except Exception as error:
            if isinstance(error, ForeseenError) and error.exit_status == INTERRUPTED:
                _say(one_line(str(error)), error)
                raise typer.Exit(INTERRUPTED) from error
            if ctx.meta.get(_DEBUG):
                traceback.print_exception(error)
            _say(f"error: {_message(error)}", error)
            raise typer.Exit(FAILED) from error
        processes = sys.modules.get("accelerate.state")
        if processes is not None and processes.PartialState._shared_state:
            processes.PartialState().destroy_process_group()
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
    """Return what went wrong, and, where nobody foresaw it, that it should be reported."""
    kind, text = type(error).__name__, str(error)
    of_worker = _OF_WORKER.search(text)
    if of_worker is not None:  # a process that loads images
        kind, text = of_worker.groups()
    if isinstance(error, OSError) and text.startswith(f"[Errno {error.errno}]"):
        text = _by_system(error) or text
    # Those of torch by name: who has not imported it cannot have raised them, and need not wait for it now.
    kinds = {base.__name__ for base in type(error).__mro__}
    if kinds & {"MemoryError", "OutOfMemoryError"} or "can't allocate memory" in text:
        text = f"there is not enough memory: {text.rstrip('.') or kind}. Take smaller batches, images or models."
    elif "DistError" in kinds or (kind == "RuntimeError" and _OF_CONNECTION.search(text)):
        text = (
            "the connection to another process of this run was lost: see what that process printed, or whether it was "
            f"killed, and start the same command again ({text.rstrip('.')})."
        )
    elif kind == "RuntimeError" and _OF_LOADER.match(text):
        text = (
            f"a process that loads images was killed, has died or hangs ({text.rstrip('.')}). Mostly memory is short: "
            "let fewer of them load (data.workers in a recipe, --workers), and start the same command again."
        )
    elif not isinstance(error, _FORESEEN):
        text = (
            f"{kind}: {text.rstrip('.')}. This is a fault of unisegment, which should have said what is wrong: please "
            "report it, with what the same command shows with --debug."
        )
    return one_line(text) or kind


def _by_system(error: OSError) -> str | None:
    """Return what the system alone says of a file, in words; None where it says what is no matter of files."""
    file = error.filename
    if isinstance(file, str | bytes):
        place = os.fsdecode(file)
    elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        place = "The output of this command, or a temporary file (TMPDIR says where),"
    else:
        return None
    return f"{place} cannot be used: {error.strerror}. {_WHAT_HELPS.get(error.errno or 0, _OTHERWISE)}"


def one_line(text: str) -> str:
    """Return a text without line breaks and control characters, and without the middle of a long one."""
    line = "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in " ".join(text.split())
    )
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE // 2]} … {line[-_LONGEST_LINE // 2 :]}"


def _say(text: str, error: BaseException) -> None:
    """Say something on standard error; what all processes of a machine find, once for each machine."""
    rank = os.environ.get("RANK", "0")
    by_all = error.found_by_all if isinstance(error, ForeseenError) else isinstance(error, (_UsageError, *_ENDS))
    if not by_all or os.environ.get("LOCAL_RANK", "0") == "0":
        print(text if rank == "0" else f"process {rank}: {text}", file=sys.stderr)
