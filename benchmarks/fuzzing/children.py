# SPDX-License-Identifier: Apache-2.0
"""Inputs in, what each of them led to out: tried in forks of this process, which has imported everything.

A fork tries several inputs, one after the other, and says before and after each what it is at: forking a process of
half a gigabyte costs more than most inputs do. One that ends its fork ends no other: the rest goes on in the next fork.
"""

import faulthandler
import json
import os
import re
import resource
import select
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fuzzing.watch import watch

SECONDS = 20
"""Of a processor that an input may take; of waiting, three times as many."""
MEMORY = 4 * 2**30
"""Bytes that a fork may take beside what it shares with its parent."""
_STACK = re.compile(r'File "([^"\n]+)", line \d+ in (\S+)')  # as faulthandler writes it, innermost first
_PLACE = re.compile(r'File "([^"\n]+)", line \d+, in (\S+)')
FAILURES = ("crash", "hang", "traceback", "ran code")


class Trial(Protocol):
    """One input."""

    may_connect: bool

    def write(self, folder: Path) -> None:
        """Put its files into a folder."""

    def open(self) -> tuple[str, str]:
        """Open them in the working folder; return "read", or "refused" and why."""


@dataclass(frozen=True)
class Outcome:
    """What an input led to.

    Args:
        what: "read", "refused" in the way that is promised, or one of `FAILURES`.
        where: Of a failure, what tells it from others: the type of an error and the places that it passed.
        message: Of a failure or an error, its text.
        seconds: How long it took.
        trace: Of a failure, the stack.
    """

    what: str
    where: str = ""
    message: str = ""
    seconds: float = 0.0
    trace: str = ""


@dataclass
class _Fork:
    """A fork, what it is to try, and how far it is."""

    trials: list[Trial]
    pid: int
    pipe: int
    folder: Path
    started: float
    used: float = 0.0
    rest: bytes = b""
    outcomes: list[Outcome] = field(default_factory=list)
    deed: dict[str, str] | None = None
    is_late: bool = False


def try_all(batches: Iterable[Sequence[Trial]], jobs: int, folder: Path) -> Iterator[tuple[Trial, Outcome]]:
    """Give every input with its outcome, as they come.

    Args:
        batches: Inputs that one fork may try one after the other.
        jobs: Forks at a time.
        folder: Where they work.
    """
    waiting, forks, num_forks = iter(batches), dict[int, _Fork](), 0
    postponed: list[list[Trial]] = []
    while True:
        while len(forks) < jobs:
            batch = postponed.pop() if postponed else next(waiting, None)
            if batch is None:
                break
            num_forks += 1
            fork = _start(list(batch), folder / f"fork-{num_forks}", [fork.pipe for fork in forks.values()])
            forks[fork.pipe] = fork
        if not forks:
            return
        for pipe in select.select(list(forks), [], [], 0.2)[0]:
            if not _listen(forks[pipe]):
                fork = forks.pop(pipe)
                yield from _end(fork)
                rest = fork.trials[len(fork.outcomes) :]
                if rest:
                    postponed.append(rest)
        for fork in forks.values():
            _check_time(fork)


def try_alone(trial: Trial, folder: Path) -> Outcome:
    """Return the outcome of one input in a fork of its own."""
    ((_, outcome),) = try_all([[trial]], 1, folder)
    return outcome


def _start(trials: list[Trial], folder: Path, others: list[int]) -> _Fork:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 98
        try:
            for pipe in (reading, *others):
                os.close(pipe)
            _be_child(trials, folder, lambda line: os.write(writing, json.dumps(line).encode() + b"\n"))
            status = 0
        except BaseException:  # of the campaign itself
            Path(f"{folder}.trace").write_text(traceback.format_exc())
        finally:
            os._exit(status)
    os.close(writing)
    return _Fork(trials, pid, reading, folder, time.monotonic())


def _listen(fork: _Fork) -> bool:
    """Take in what a fork says; tell whether it goes on."""
    said = os.read(fork.pipe, 2**20)
    *lines, fork.rest = (fork.rest + said).split(b"\n")
    for line in lines:
        content = json.loads(line)
        if "deed" in content:
            fork.deed = content
        else:
            fork.outcomes.append(Outcome(**content))
            fork.started, fork.used = time.monotonic(), _processor_seconds(fork.pid)
    return bool(said)


def _check_time(fork: _Fork) -> None:
    if fork.is_late:
        os.kill(fork.pid, signal.SIGKILL)  # a round after it was asked
    elif _processor_seconds(fork.pid) - fork.used > SECONDS or time.monotonic() - fork.started > 3 * SECONDS:
        fork.is_late = True
        os.kill(fork.pid, signal.SIGUSR1)  # says where it is


def _processor_seconds(pid: int) -> float:
    """Return how long a process has computed: on a busy machine, it may wait for long without any fault of its own."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _end(fork: _Fork) -> Iterable[tuple[Trial, Outcome]]:
    """Return what a fork has found that has ended, by itself or not."""
    os.close(fork.pipe)
    _, status = os.waitpid(fork.pid, 0)
    if len(fork.outcomes) < len(fork.trials):
        fork.outcomes.append(_broken_off(fork, status))
    shutil.rmtree(fork.folder, ignore_errors=True)
    Path(f"{fork.folder}.trace").unlink(missing_ok=True)
    return zip(fork.trials, fork.outcomes, strict=False)


def _broken_off(fork: _Fork, status: int) -> Outcome:
    seconds = time.monotonic() - fork.started
    if fork.deed is not None:
        return Outcome("ran code", fork.deed["where"], fork.deed["deed"], seconds, fork.deed["trace"])
    trace = Path(f"{fork.folder}.trace")
    text = trace.read_text(errors="replace") if trace.exists() else ""
    where = _where(_STACK.findall(text.rpartition("Current thread")[2]))
    if fork.is_late:
        return Outcome("hang", where, "no end", seconds, text)
    end = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"
    return Outcome("crash", f"{end} {where}", end, seconds, text)


def _where(places: list[tuple[str, str]]) -> str:
    """Return the innermost function, and the innermost one of the library."""
    named = [f"{'/'.join(Path(file).parts[-2:])}:{function}" for file, function in places]
    ours = [name for name, (file, _) in zip(named, places, strict=True) if "/unisegment/" in file]
    return " in ".join(dict.fromkeys([*named[:1], *ours[:1]]))


def _be_child(trials: list[Trial], folder: Path, report: Callable[[Any], Any]) -> None:
    """Try inputs one after the other, and report what each led to."""
    trace = open(f"{folder}.trace", "w")  # noqa: SIM115  # until the end
    folder.mkdir()
    output = os.open(folder / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(output, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    faulthandler.enable(trace)
    faulthandler.register(signal.SIGUSR1, trace, chain=False)
    warnings.simplefilter("ignore")
    _limit()
    os.environ["TMPDIR"] = os.environ["HOME"] = str(folder)

    def tell(deed: str) -> None:
        frames = traceback.extract_stack()[:-3]
        places = [(frame.filename, frame.name) for frame in reversed(frames)]
        report(
            {
                "deed": deed,
                "where": f"{deed.partition(' ')[0]} {_where(places)}",
                "trace": "".join(traceback.format_list(frames[-30:])),
            }
        )

    watch(folder, tell, trials[0].may_connect)
    for number, trial in enumerate(trials):
        place = folder / str(number)
        place.mkdir()
        os.chdir(place)
        os.truncate(output, 0)
        trial.write(place)
        started = time.monotonic()
        outcome = _outcome(trial)
        report({**outcome, "seconds": time.monotonic() - started})
        os.chdir(folder)
        shutil.rmtree(place, ignore_errors=True)


def _limit() -> None:
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY, in_use + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))


def _outcome(trial: Trial) -> dict[str, Any]:
    try:
        what, message = trial.open()
        return {"what": what, "message": _short(message)}
    except BaseException as error:
        text = getattr(error, "trace", None)  # of an error that a command has caught
        if text is None:
            text = "".join(traceback.format_exception(error, limit=-30))
        last = text.rpartition("Traceback (most recent call last):\n")[2]
        kind = next((line for line in last.splitlines() if line[:1].strip()), "").partition(":")[0].rpartition(".")[2]
        where = f"{kind} {_where(_PLACE.findall(last)[::-1])}"
        return {"what": "traceback", "where": where, "message": _short(str(error)), "trace": _short(text, 20000)}


def _short(text: str, most: int = 1000) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"
