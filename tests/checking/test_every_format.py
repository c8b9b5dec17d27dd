# SPDX-License-Identifier: Apache-2.0
"""Every format that there is can be checked: sound data have no error, and damaged files are named."""

import pytest

from tests.checking.damage_kinds import cut
from tests.checking.format_trees import TREES
from unisegment.checking import check, check_data
from unisegment.checking.opening import open_part
from unisegment.checking.sources import find_parts
from unisegment.data.formats import FORMATS
from unisegment.data.problems import CollectedProblems


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    """Do everything in this process, which is quicker for so few images."""
    monkeypatch.setattr(check, "run_parallel", lambda task, numbers, *_: ((place, task(place)) for place in numbers))


def errors_of(root, name, splits=("train",)):
    """Return the files of all errors by their kind, and what else the report says of the parts."""
    report = check_data(find_parts([str(root)], name, splits), root / "out", workers=1, pictures=0, progress=False)
    found = {
        finding["kind"]: [item["file"] for item in finding["listed"]]
        for part in report.parts
        for finding in part["findings"]
        if finding["severity"] == "error"
    }
    return found, report.parts


def first_files(root, name):
    """Return the image of the first sample, and what annotates it."""
    opened = open_part(find_parts([str(root)], name, ["train"])[0], CollectedProblems())
    files = opened.files(0)
    return files.image, files.label_map or files.source or next(root.glob(f"train/*/{files.image.stem}/*.png"))


def test_every_format_is_tried():
    assert TREES.keys() == FORMATS.keys()


@pytest.mark.parametrize("name", TREES)
def test_sound_data_have_no_errors(tmp_path, name):
    TREES[name](tmp_path)
    found, parts = errors_of(tmp_path, name, ("train", "val"))
    assert found == {}
    assert [(part["images"], part["opened"]) for part in parts] == [(4, 4), (2, 2)]
    assert all(part["segments"] > 0 for part in parts)


@pytest.mark.parametrize("name", [name for name in TREES if name != "hugging_face"])
def test_damaged_files_are_named(tmp_path, name):
    TREES[name](tmp_path)
    image, annotation = first_files(tmp_path, name)
    content = image.read_bytes()
    cut(image)
    found, (part,) = errors_of(tmp_path, name)
    assert found == {"truncated-image": [str(image)]}
    assert part["opened"] == 3
    image.write_bytes(content)
    annotation.write_bytes(b"nonsense")
    _, (part,) = errors_of(tmp_path, name)
    errors = [finding["listed"] for finding in part["findings"] if finding["severity"] == "error"]
    assert str(annotation) in str(errors)


def test_rows_with_broken_files_are_numbered(tmp_path):
    TREES["hugging_face"](tmp_path, broken="c")
    found, (part,) = errors_of(tmp_path, "hugging_face")
    assert found == {"unreadable-sample": [f"{tmp_path}: train[2]"]}
    assert part["opened"] == 3
