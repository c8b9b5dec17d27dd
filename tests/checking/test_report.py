# SPDX-License-Identifier: Apache-2.0
"""Reports are written whole, whatever the names in them."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unisegment.checking.contact_sheet import draw_image
from unisegment.checking.figures import Figures
from unisegment.checking.page import Picture
from unisegment.checking.report import Report, prepare_folder, write_report
from unisegment.files import WriteError

PICTURE = Picture("caf\udce9.jpg", draw_image(np.zeros((3, 5, 3), dtype=np.uint8)))


def part_with(file):
    listed = [{"file": file, "detail": "one line\nand another"}, {"file": "b", "detail": ""}]
    finding = {"kind": "empty-file", "severity": "error", "meaning": "It is.", "count": 1207, "listed": listed}
    return {
        "name": "r: train", "format": "png_semantic", "split": "train", "images": 3000, "checked": 2000, "opened": 0,
        "errors": 1207, "warnings": 3, "findings": [finding], **Figures(None).as_dict(),
    }  # fmt: skip


def test_a_table_has_a_line_for_each_kind():
    report = Report([part_with("x/" * 50 + "a.jpg")], 1.5)
    assert (report.num_errors, report.num_warnings) == (1207, 3)
    first, second, last = report.table().splitlines()
    assert first == "r: train (png_semantic): 0 of 3,000 images opened, 2,000 tried"
    assert second.split()[:3] == ["error", "empty-file", "1,207"]
    assert second.endswith("x/x/a.jpg: one line")
    assert last == "1,207 errors, 3 warnings"


def test_names_that_are_no_text_are_written(tmp_path):
    report = Report([part_with("caf\udce9.jpg")], 1.5, [PICTURE])
    write_report(report, tmp_path / "a/b")
    content = json.loads((tmp_path / "a/b/report.json").read_text())
    assert content["parts"][0]["findings"][0]["listed"][0]["file"] == "caf\udce9.jpg"
    assert (content["errors"], content["warnings"], content["seconds"]) == (1207, 3, 1.5)
    assert "caf\\udce9.jpg" in (tmp_path / "a/b/report.html").read_text(encoding="utf-8")
    with Image.open(tmp_path / "a/b/samples.jpg") as sheet:
        assert sheet.format == "JPEG"


def test_an_earlier_report_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    write_report(Report([part_with("a.jpg")], 1.5, [PICTURE]), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write = Path.write_bytes

    def full(self, content):
        write(self, content[:9])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(WriteError, match=r"No space left on device.* Make room there"):
            write_report(Report([part_with("b.jpg")], 2.5), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "notes").write_text("mine")
    prepare_folder(tmp_path)
    write_report(Report([part_with("b.jpg")], 2.5), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "report.html", "report.json"]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"errors": 3}', "[" * 100_000], ids=range(5))
def test_reports_of_something_else_are_left_alone(tmp_path, content):
    prepare_folder(tmp_path / "new")
    (tmp_path / "samples.jpg").write_text("mine")
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(ValueError, match=r"(report\.json|samples\.jpg) would be replaced, but is not known"):
        prepare_folder(tmp_path)
    with pytest.raises(WriteError, match="A file is in the way"):
        prepare_folder(tmp_path / "samples.jpg" / "sub")
