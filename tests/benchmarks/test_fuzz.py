# SPDX-License-Identifier: Apache-2.0
import os
import pickle
import signal
import sys
import time
from pathlib import Path
from random import Random

import pytest

from tests.warm_processes import WarmProcess, run_script, run_warm

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


class Mark:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch RAN_CODE",)


class Trial:
    """Does something instead of opening files."""

    may_connect = False

    def __init__(self, name, action):
        self.name, self.action = name, action

    def write(self, folder):
        (folder / "file").write_text(self.name)

    def open(self):
        assert Path("file").read_text() == self.name
        try:
            self.action()
        except ValueError as error:
            return "refused", str(error)
        return "read", ""


TRIALS = {
    "read": [Path.cwd, lambda: Path("mine").write_text("")],
    "refused": [lambda: int("a")],
    "crash": [lambda: os.kill(os.getpid(), signal.SIGSEGV), lambda: os._exit(0)],
    "traceback": [lambda: {}["a"], lambda: bytearray(6 * 2**30)],
    "ran code": [
        lambda: os.system("true"),
        lambda: pickle.loads(pickle.dumps(Mark())),
        lambda: Path("../../others").write_text(""),
        lambda: Path(f"/tmp/{os.getpid()}").mkdir(),
        lambda: __import__("socket").create_connection(("127.0.0.1", 9)),
        lambda: __import__("urllib.request").request.urlopen("http://127.0.0.1:9"),
        lambda: exec("RAN_CODE = 1"),
    ],
}


def try_all_in_one_fork(folder):
    sys.path.insert(0, str(BENCHMARKS))
    from fuzzing import children

    hang, last = Trial("hang", lambda: time.sleep(600)), Trial("read", Path.cwd)
    trials = [Trial(what, action) for what, actions in TRIALS.items() for action in actions]
    batches = [[*trials, last], trials[:2]]
    found = list(children.try_all(batches, 2, Path(folder)))
    children.SECONDS = 1  # for the others, a busy machine must not make a hang of them
    found += children.try_all([[hang, last]], 1, Path(folder))
    for trial, outcome in found:
        assert outcome.what == trial.name, outcome
    assert sorted(id(trial) for trial, _ in found) == sorted(map(id, [*batches[0], *batches[1], hang, last]))


def test_what_an_input_does_is_seen_and_harms_no_other(tmp_path):
    status, _, errors = run_warm(try_all_in_one_fork, tmp_path)
    assert status == 0, errors
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.yaml", "a.pkl", "a.pth", "a.safetensors", "a.png", "a.jpg"])
def test_the_same_number_makes_the_same_input_of_anything(name, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from fuzzing.mutations import mutate

    whole = {"json": b'{"a": [1, {"b": 2.5}], "c": "d"}', "yaml": b"a: {b: [1, 2]}\nc: d\n", "jsonl": b'{"a": 1}\n' * 3}
    content = whole.get(name.partition(".")[2], pickle.dumps({"a": [1, (2, "b")]}))
    found = [content]
    for number in range(300):
        found.append(mutate(name, found[-1] if number % 5 else content, Random(number)))
        assert mutate(name, found[-2] if number % 5 else content, Random(number)) == found[-1]
    assert len(set(found)) > 200


@pytest.mark.parametrize(
    ("status", "said", "outcome"),
    [
        (None, "out: 2 images", "read"),
        (1, "error: a.json is no list of images", "error: a.json is no list of images"),
        (1, "out: 1 image\nleft out: b.png does not exist.", "left out: b.png does not exist."),
        (1, "out: 2 images", "status 1"),
        (0, "error: but it went on", "status 0"),
        (3, "error: something else", "status 3"),
        (1, "error: one\nerror: two", "status 1"),
        (1, "error: This is a fault of unisegment", "status 1"),
    ],
)
def test_commands_that_end_as_promised_hold(tmp_path, monkeypatch, status, said, outcome):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from fuzzing import kinds

    (tmp_path / "work").mkdir()
    (tmp_path / "said.txt").write_text(said + "\n")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(kinds, "app", lambda *_, **__: status)
    command = kinds._command("predict")
    if outcome == "read":
        command()
        return
    with pytest.raises(kinds.CommandError if outcome.startswith("status") else ValueError, match=outcome):
        command()


def run_fuzz(*words):
    sys.path.insert(0, str(BENCHMARKS))
    run_script(BENCHMARKS / "fuzz.py", *words)


def test_damaged_and_hostile_files_are_read_or_refused(tmp_path):
    places = ("--failures", tmp_path / "failures", "--output", tmp_path / "fuzz.json")
    process = WarmProcess(run_fuzz, "--inputs", 2000, *places)
    output, errors = process.communicate()
    assert process.returncode == 0, output + errors
