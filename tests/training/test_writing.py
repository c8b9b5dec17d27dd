# SPDX-License-Identifier: Apache-2.0
import math
import os
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.warm_processes import run_code, run_warm
from unisegment.training import writing
from unisegment.training.writing import LogFile, WriteError, cut_log, read_lines, replaced_folder, restore, write_file

SMALL_FILES_ONLY = """
import resource, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from unisegment.training.writing import LogFile, WriteError, replaced_folder, write_file
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
folder = Path(sys.argv[1])

def text():
    write_file(folder / "text", "x" * 5000)

def log():
    lines = LogFile(folder / "log")
    for number in range(1000):
        lines.write({"step": number})

def pickled_tensors():
    with replaced_folder(folder / "model") as partial:
        torch.save(torch.zeros(5000), partial / "weights")

def safetensors():
    with replaced_folder(folder / "model") as partial:
        save_file({"a": torch.zeros(5000)}, partial / "weights")

for write in (text, log, pickled_tensors, safetensors):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))
    try:
        write()
    except WriteError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        print(write.__name__, error)
"""


def replace_with(path, name):
    with replaced_folder(path) as partial:
        (partial / name).write_text(name)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_replaced_only_when_it_is_complete(tmp_path):
    target = tmp_path / "model"
    replace_with(target, "old")

    def break_off():
        with replaced_folder(target) as partial:
            (partial / "new").write_text("2")
            raise OSError("no space")

    with pytest.raises(WriteError, match=r"partial-model could not be written: no space \(\d+ MiB are free there\)"):
        break_off()
    assert names(target) == ["old"]
    replace_with(target, "new")
    assert names(target) == ["new"]
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("moment", range(4))
def test_whenever_it_is_killed_one_of_both_is_there(tmp_path, monkeypatch, moment):
    target = tmp_path / "model"
    replace_with(target, "old")
    moments = iter(range(100))

    def killed_at(function):
        def run(*arguments, **settings):
            if next(moments) == moment:
                raise KeyboardInterrupt
            return function(*arguments, **settings)

        return run

    monkeypatch.setattr(writing, "flush", killed_at(writing.flush))
    monkeypatch.setattr(writing.Path, "replace", killed_at(writing.Path.replace))
    with pytest.raises(KeyboardInterrupt):
        replace_with(target, "new")
    monkeypatch.undo()
    restore(target)
    assert names(tmp_path) == ["model"]
    assert names(target) in (["old"], ["new"])
    restore(target)
    assert names(tmp_path) == ["model"]


def test_a_file_is_replaced_whole(tmp_path):
    write_file(tmp_path / "a", "one")
    write_file(tmp_path / "a", "two")
    assert (tmp_path / "a").read_text() == "two"
    assert names(tmp_path) == ["a"]


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no limit of file sizes")
def test_what_does_not_fit_is_an_error_that_leaves_nothing_behind(tmp_path):
    (tmp_path / "text").write_text("before")
    replace_with(tmp_path / "model", "before")
    status, output, errors = run_warm(run_code, SMALL_FILES_ONLY, tmp_path)
    assert status == 0, errors
    messages = output.splitlines()
    assert [message.split()[0] for message in messages] == ["text", "log", "pickled_tensors", "safetensors"]
    assert all("could not be written" in message and "MiB are free there" in message for message in messages)
    assert (tmp_path / "text").read_text() == "before"
    assert names(tmp_path / "model") == ["before"]
    assert names(tmp_path) == ["log", "model", "text"]


def test_the_log_is_cut_back_to_a_step(tmp_path):
    log = tmp_path / "log.jsonl"
    cut_log(log, 2)
    assert not log.exists()
    assert read_lines(log) == []
    log.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4, "lo')
    assert read_lines(log) == [{"step": 1}, {"step": 2}, {"step": 3}]
    cut_log(log, 2)
    assert log.read_text() == '{"step": 1}\n{"step": 2}\n'


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")
def test_a_full_disk_is_said_when_the_log_meets_it_and_stays_said():
    log = LogFile(Path("/dev/full"))
    with pytest.raises(WriteError, match=r"/dev/full could not be written.*run\.resume=auto"), closing(log):
        log.write({"step": 1})


def test_json_has_no_word_for_infinity(tmp_path):
    log = LogFile(tmp_path / "log")
    log.write({"step": 1, "loss": math.nan, "names": ["a"], "norm": math.inf, "lr": 0.5})
    assert read_lines(tmp_path / "log") == [{"step": 1, "loss": None, "names": ["a"], "norm": None, "lr": 0.5}]
    log.close()
    LogFile(None).write({"step": 1})
