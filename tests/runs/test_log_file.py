# SPDX-License-Identifier: Apache-2.0
import math
import os
from contextlib import closing
from pathlib import Path

import pytest

from unisegment.files import WriteError
from unisegment.runs.log_file import LogFile, cut_log, read_lines, read_metrics
from unisegment.runs.settings import RecipeError


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
    with pytest.raises(WriteError, match=r"/dev/full could not be written: No space left.*Make room"), closing(log):
        log.write({"step": 1})


def test_json_has_no_word_for_infinity(tmp_path):
    log = LogFile(tmp_path / "log")
    log.write({"step": 1, "loss": math.nan, "names": ["a"], "norm": math.inf, "lr": 0.5})
    assert read_lines(tmp_path / "log") == [{"step": 1, "loss": None, "names": ["a"], "norm": None, "lr": 0.5}]
    log.close()
    LogFile(None).write({"step": 1})


@pytest.mark.parametrize("line", [b"{", b"7", b"{}", b'{"step": "1"}', b'{"step": true}', b"\xff}", b"[" * 99999, b""])
def test_a_damaged_line_is_named_unless_it_is_the_last_and_half(tmp_path, line):
    log = tmp_path / "log.jsonl"
    log.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 2}\n')
    with pytest.raises(RecipeError, match=r"log\.jsonl, line 2, is damaged: .*Remove that line, and give the same"):
        cut_log(log, 2)
    log.write_bytes(b'{"step": 1}\n\x00\x00')
    assert read_lines(log) == [{"step": 1}]


def test_a_link_in_place_of_the_log_is_not_written_to(tmp_path):
    log, precious = tmp_path / "log.jsonl", tmp_path / "precious"
    log.symlink_to(precious)
    for _ in ("nothing there", "something there"):
        with pytest.raises(RecipeError, match=r"log\.jsonl is no file of its own, .*remove it"):
            cut_log(log, 2)
        precious.write_text("mine")
    assert precious.read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not valid JSON"),
        (b'{"step": 3, "fini', "is not valid JSON"),
        (b"\xff", "is not valid JSON"),
        (b"[" * 99999, "is not valid JSON"),
        (b"[]", "it must hold an object with step and finished"),
        (b"{}", "it has no step"),
        (b'{"step": "3"}', "step is '3'"),
        (b'{"step": 3, "finished": 1}', "finished is 1"),
        (b'{"step": 3, "finished": true, "pq": "0.5"}', "pq is '0.5'"),
    ],
)
def test_damaged_scores_are_named(tmp_path, content, said):
    file = tmp_path / "metrics.json"
    file.write_bytes(content)
    with pytest.raises(RecipeError) as error:
        read_metrics(file)
    assert str(error.value).startswith(f"{file} is damaged: ")
    assert said in str(error.value)
    assert str(error.value).endswith("Remove it, and give the same command again.")


def test_scores_may_be_missing_or_null(tmp_path):
    (tmp_path / "metrics.json").write_text('{"step": 3, "pq": null, "miou": 0, "task": []}')
    assert read_metrics(tmp_path / "metrics.json") == {"step": 3, "pq": None, "miou": 0, "task": []}
