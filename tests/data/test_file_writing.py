# SPDX-License-Identifier: Apache-2.0
import sys

import pytest

from tests.warm_processes import run_code, run_warm
from unisegment.data.file_writing import FileWriteError, write_whole

FULL = """
import resource, sys
from pathlib import Path
from tests.warm_processes import run_code, run_warm
from unisegment.data.file_writing import FileWriteError, write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
file = Path(sys.argv[1])
write_whole(file, lambda partial: partial.write_text("old"))
try:
    write_whole(file, lambda partial: partial.write_text("x" * 5000))
except FileWriteError as error:
    print(error)
"""


def test_a_file_appears_when_it_is_complete(tmp_path):
    file = tmp_path / "folder" / "name.txt"

    def write(partial):
        partial.write_text("new")
        assert not file.exists()
        assert partial.parent == file.parent

    write_whole(file, write)
    assert file.read_text() == "new"
    assert [path.name for path in file.parent.iterdir()] == ["name.txt"]


def test_what_was_there_stays(tmp_path):
    file = tmp_path / "name.txt"
    file.write_text("old")

    def write(partial):
        partial.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(FileWriteError, match=r"name\.txt could not be written: No space left .* MiB are free there"):
        write_whole(file, write)
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["name.txt"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of file sizes")
def test_a_full_disk(tmp_path):
    status, output, errors = run_warm(run_code, FULL, tmp_path / "a")
    assert status == 0, errors
    assert "a could not be written: File too large" in output
    assert (tmp_path / "a").read_text() == "old"
