# SPDX-License-Identifier: Apache-2.0
"""Damaged and hostile files are opened in every way that the library has, and what goes wrong is counted.

Whole small files of every kind are made, then changed: values, keys, opcodes, headers and bytes. An input holds if it
is opened, or refused by a ValueError or OSError (a command: by status 1 or 2 and one line, or one for each image that
is left out). It fails by

- a crash: the process died of a signal;
- a hang: it took more than 20 s of a processor, or waited for a minute;
- a traceback: another error, which commands do not turn into a line; MemoryError, beyond 4 GiB, among them;
- ran code: a pickle, tag or config made it run or import something, connect, or write outside of its folder, which an
  audit hook of Python sees and stops.

Every input is tried in a fork of this process, which has imported everything, and follows from `--seed`, its kind and
its number alone. Of failures of one kind, one type and one place the smallest is kept, tried again alone, without those
of its changes that it does not need:

    python benchmarks/fuzz.py --inputs 100000 --jobs 2
    python benchmarks/fuzz.py --only weights:731
"""

import argparse
import importlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch
from fuzzing.children import FAILURES, Outcome, try_all, try_alone
from fuzzing.kinds import WORKING_FOLDER, Door, Kind, make_kinds
from fuzzing.mutations import SPECIAL_FILES, mutate
from fuzzing.seeds import make_seeds

PER_FORK = 20
"""Inputs that a fork tries at most."""


@dataclass(frozen=True)
class Input:
    """Files of which some are damaged.

    Args:
        kind: Their kind.
        number: Their number in it.
        door: What opens them.
        changes: What is changed, one after the other: a file, and what decides how.
        may_connect: See `Kind`.
    """

    kind: str
    number: int
    door: Door
    changes: tuple[tuple[str, int], ...]
    may_connect: bool = False

    @classmethod
    def draw(cls, name: str, kind: Kind, number: int, seed: int) -> "Input":
        """Return the input of a number."""
        rng = Random(f"{seed} {name} {number}")
        door = rng.choices(kind.doors, [door.weight for door in kind.doors])[0]
        count = rng.choice((1, 1, 1, 2, 2, 3, 5))
        changes = tuple((rng.choice(door.damaged), rng.randrange(2**63)) for _ in range(count))
        return cls(name, number, door, changes, kind.may_connect)

    def damaged(self) -> dict[str, bytes | str]:
        """Return what is in the files that are damaged, or what lies in their place."""
        files: dict[str, bytes | str] = {}
        for name, decision in self.changes:
            content, rng = files.get(name, self.door.files[name]), Random(decision)
            is_special = isinstance(content, str) or rng.random() < 0.01
            files[name] = rng.choice(SPECIAL_FILES) if is_special else mutate(name, content, rng)
        return files

    def write(self, folder: Path) -> None:
        """Put all files into a folder."""
        for name, content in {**self.door.files, **self.damaged()}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content.replace(WORKING_FOLDER, str(folder).encode()))
            elif content == "folder":
                path.mkdir()
            elif content == "loop":
                path.symlink_to(path.name)

    def open(self) -> tuple[str, str]:
        """Open them as the library does, in the working folder."""
        try:
            self.door.open()
        except (ValueError, OSError) as error:
            return "refused", str(error)
        return "read", ""

    @property
    def size(self) -> int:
        """Bytes that are damaged, as far as they differ in number, and changes."""
        return 100 * len(self.changes) + sum(len(content) for content in self.damaged().values())


def main() -> None:
    """Run the campaign, and print and save what it found."""
    arguments = parse_arguments()
    os.environ.pop("HF_HUB_OFFLINE", None)  # else nothing would try to connect
    os.environ["UNISEGMENT_KERNELS"] = "torch"  # a compiler would be run
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name).resolve()
        kinds = prepare(folder / "seeds")
        if arguments.only:
            sys.exit(try_one(arguments, kinds, folder))
        campaign = Campaign(folder, kinds, arguments)
        campaign.run()
        sys.exit(campaign.report())


def prepare(folder: Path) -> dict[str, Kind]:
    """Return all kinds, of files made in a folder, and import whatever opening them needs.

    It is all done in a fork, so that this process never computes and stays free of threads.
    """
    folder.mkdir()
    said, modules = folder.with_suffix(".txt"), folder.with_suffix(".modules")
    pid = os.fork()
    if pid == 0:
        output = os.open(said, os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        try:
            make_seeds(folder)
            open_whole(make_kinds(folder), folder.with_suffix(".whole"))
            modules.write_text("\n".join(name for name in sys.modules if name != "__main__"))
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0, said.read_text()[-4000:]
    for name in modules.read_text().splitlines():
        with suppress(ImportError):
            importlib.import_module(name)
    return make_kinds(folder)


def open_whole(kinds: dict[str, Kind], folder: Path) -> None:
    """Open files that are not damaged by every door; all must be read."""
    for name, kind in kinds.items():
        for number, door in enumerate(kind.doors):
            place = folder / f"{name}-{number}"
            place.mkdir(parents=True)
            os.chdir(place)
            (folder / "said.txt").write_text("")
            Input(name, 0, door, ()).write(place)
            door.open()


@dataclass
class Failure:
    """Inputs of one kind that fail in one way at one place: the smallest of them, and how many there are."""

    smallest: Input
    outcome: Outcome
    count: int = 0
    is_alone: bool = True


class Campaign:
    """All inputs, and what became of them.

    Args:
        folder: To work in.
        kinds: All kinds.
        arguments: Of the command line.
    """

    def __init__(self, folder: Path, kinds: dict[str, Kind], arguments: argparse.Namespace) -> None:
        self.folder, self.arguments = folder, arguments
        self.kinds = {name: kind for name, kind in kinds.items() if name in arguments.kinds}
        self.counts = {name: Counter() for name in self.kinds}
        self.times: dict[str, list[float]] = {name: [] for name in self.kinds}
        self.failures: dict[tuple[str, str, str], Failure] = {}
        self.seconds = 0.0

    def run(self) -> None:
        """Try all inputs, then those that fail once more, each alone and with as few changes as it takes."""
        began = said = time.monotonic()
        for trial, outcome in try_all(self._batches(), self.arguments.jobs, self.folder):
            self._count(trial, outcome)
            if time.monotonic() - said > 10:
                said = time.monotonic()
                print(f"{self.tried} inputs, {len(self.failures)} distinct failures", file=sys.stderr, flush=True)
        self.seconds = time.monotonic() - began
        for failure in self.failures.values():
            self._reduce(failure)

    @property
    def tried(self) -> int:
        """How many inputs were tried."""
        return sum(counts.total() for counts in self.counts.values())

    def _batches(self) -> Iterator[list[Input]]:
        """Give the inputs of each fork, kinds in turn."""
        whole = sum(kind.share for kind in self.kinds.values())
        batches = []
        for name, kind in self.kinds.items():
            numbers = range(round(self.arguments.inputs * kind.share / whole))
            starts = numbers[::PER_FORK]
            batches += [(start / len(numbers), name, numbers[start : start + PER_FORK]) for start in starts]
        for _, name, numbers in sorted(batches, key=lambda batch: batch[:2]):
            yield [Input.draw(name, self.kinds[name], number, self.arguments.seed) for number in numbers]

    def _count(self, trial: Input, outcome: Outcome) -> None:
        self.counts[trial.kind][outcome.what] += 1
        self.times[trial.kind].append(outcome.seconds)
        if outcome.what in FAILURES:
            failure = self.failures.setdefault(_identity(trial, outcome), Failure(trial, outcome))
            failure.count += 1
            if trial.size < failure.smallest.size:
                failure.smallest, failure.outcome = trial, outcome

    def _reduce(self, failure: Failure) -> None:
        """Leave out the changes that a failure does not need."""
        wanted = _identity(failure.smallest, failure.outcome)
        outcome = try_alone(failure.smallest, self.folder)
        failure.is_alone = _identity(failure.smallest, outcome) == wanted
        for change in failure.smallest.changes if failure.is_alone else ():
            fewer = tuple(other for other in failure.smallest.changes if other != change)
            trial = replace(failure.smallest, changes=fewer)
            if fewer and _identity(trial, outcome := try_alone(trial, self.folder)) == wanted:
                failure.smallest, failure.outcome = trial, outcome

    def report(self) -> int:
        """Print and save everything; return the exit status, 1 where something failed."""
        print(f"{'kind':12} {'tried':>7} {'read':>7} {'refused':>8}  " + "  ".join(FAILURES) + "  slowest")
        for name, counts in self.counts.items():
            failed = "  ".join(f"{counts[what]:{len(what)}}" for what in FAILURES)
            numbers = f"{counts.total():7} {counts['read']:7} {counts['refused']:8}"
            print(f"{name:12} {numbers}  {failed}  {max(self.times[name]):5.1f} s")
        print(f"{self.tried} inputs in {self.seconds:.0f} s, {len(self.failures)} distinct failures")
        distinct = [self._describe(failure) for failure in self.failures.values()]
        report = {
            "what": "damaged and hostile files, opened in every way",
            "python": platform.python_version(),
            "torch": torch.__version__,
            "seed": self.arguments.seed,
            "seconds": round(self.seconds),
            "jobs": self.arguments.jobs,
            "inputs": self.tried,
            "distinct failures": distinct,
            "kinds": {
                name: {"tried": counts.total(), **{what: counts[what] for what in ("read", "refused", *FAILURES)}}
                | {"seconds": round(sum(self.times[name])), "slowest seconds": round(max(self.times[name]), 1)}
                for name, counts in self.counts.items()
            },
        }
        self.arguments.output.write_text(json.dumps(report, indent=2) + "\n")
        return int(bool(distinct))

    def _describe(self, failure: Failure) -> dict[str, str | int]:
        trial, outcome = failure.smallest, failure.outcome
        place = save(trial, outcome, self.arguments.failures)
        alone = "" if failure.is_alone else ", only after others in one process"
        print(f"\n{trial.kind}:{trial.number}, {trial.door.name}: {outcome.what}, {failure.count} times{alone}")
        print(f"  {outcome.where}\n  {' '.join(outcome.message.split())[:300]}\n  {place}")
        fields = {"input": f"{trial.kind}:{trial.number}", "door": trial.door.name, "count": failure.count}
        return fields | {"what": outcome.what, "where": outcome.where, "message": outcome.message}


def _identity(trial: Input, outcome: Outcome) -> tuple[str, str, str]:
    return trial.kind, outcome.what, outcome.where


def save(trial: Input, outcome: Outcome, folder: Path) -> Path:
    """Write the damaged files of an input, and what it led to, into a folder of its own; return that."""
    place = folder / f"{trial.kind}-{trial.number}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    files = {name: content for name, content in trial.damaged().items() if isinstance(content, bytes)}
    for name, content in files.items():
        (place / Path(name).name).write_bytes(content)
    others = [f"{name}: {content}" for name, content in trial.damaged().items() if isinstance(content, str)]
    lines = [trial.door.name, *trial.damaged(), *others, outcome.what, outcome.where, outcome.message, outcome.trace]
    (place / "what.txt").write_text("\n".join(lines))
    return place


def try_one(arguments: argparse.Namespace, kinds: dict[str, Kind], folder: Path) -> int:
    """Try one input, say what it leads to, and return the exit status."""
    name, _, number = arguments.only.partition(":")
    trial = Input.draw(name, kinds[name], int(number), arguments.seed)
    outcome = try_alone(trial, folder)
    print(f"{trial.door.name}: {outcome.what} {outcome.where}\n{outcome.message}\n{outcome.trace}")
    print(save(trial, outcome, arguments.failures))
    return int(outcome.what in FAILURES)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    root = Path(__file__).parent
    names = ("images", "instances", "panoptic", "exports", "configs", "processors", "recipes", "weights", "states")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="forks at a time")
    parser.add_argument("--kinds", nargs="+", choices=names, default=names)
    parser.add_argument("--only", metavar="KIND:NUMBER", help="try one input, and say what it leads to")
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"), help="folder for inputs that fail")
    parser.add_argument("--output", type=Path, default=root / "results" / "fuzz.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
