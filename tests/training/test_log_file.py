# SPDX-License-Identifier: Apache-2.0
import math
import os
from contextlib import closing
from pathlib import Path

import pytest

from unisegment.files import WriteError
from unisegment.training.log_file import LogFile, cut_log, read_lines


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
