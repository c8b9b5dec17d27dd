# SPDX-License-Identifier: Apache-2.0
"""A damaged data set comes out without the damage, opens as it is, and nothing of it was changed in place."""

import json

import pytest

from tests.checking.damage import DAMAGES, write_damaged
from tests.checking.damage_kinds import INSTANCES
from tests.checking.data_sets import WRITERS, edit_json
from unisegment.checking import check, check_data, fixing
from unisegment.checking.fixing import fix_data
from unisegment.checking.sources import find_parts
from unisegment.data.problems import KINDS

FIXED = {
    "outside-image", "duplicate-annotation-id", "duplicate-category-id", "duplicate-image-id", "duplicate-segment-id",
    "odd-iscrowd", "odd-isthing", "unknown-image", "unknown-category", "empty-annotation", "degenerate-polygon",
    "bad-polygon", "bad-run-lengths", "wrong-run-length-size", "unlisted-segment", "undrawn-segment", "id-too-large",
}  # fmt: skip
"""Kinds of problems of which none is left; of wrong sizes, those where the JSON file is wrong."""


def kinds_in(root, folder, splits=("train", "val")):
    parts = find_parts([str(root)], None, splits)
    report = check_data(parts, folder, workers=1, pictures=0, progress=False)
    return {finding["kind"] for part in report.parts for finding in part["findings"]}


@pytest.fixture
def one_process(monkeypatch):
    """Do everything in this process, which is quicker for so few images."""
    for module in (check, fixing):
        monkeypatch.setattr(
            module, "run_parallel", lambda task, numbers, *_: ((place, task(place)) for place in numbers)
        )


def content_of(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    "damage",
    [
        damage
        for damage in DAMAGES
        if damage.data_format.startswith("coco") and damage.kind in FIXED and damage.file.endswith(".json")
    ],
    ids=lambda damage: damage.name,
)
def test_damage_is_fixed(tmp_path, damage, one_process):
    write_damaged(damage, tmp_path / "data")
    before = content_of(tmp_path / "data")
    changes = fix_data(find_parts([str(tmp_path / "data")], None, ["train"]), tmp_path / "fixed")
    assert content_of(tmp_path / "data") == before
    assert changes.counts.total() > 0
    found = kinds_in(tmp_path / "fixed", tmp_path / "out", ["train"])
    assert not found & FIXED
    assert not {kind for kind in found if KINDS[kind].severity == "error"} - {"nothing-to-learn"}
    listed = json.loads((tmp_path / "fixed/changes.json").read_text())
    assert listed["counts"] == changes.counts
    assert len(listed["changes"]) == changes.counts.total()


@pytest.mark.parametrize("data_format", ["coco_instance", "coco_panoptic"])
def test_sound_data_stay_as_they_are(tmp_path, data_format):
    WRITERS[data_format](tmp_path / "data")
    changes = fix_data(find_parts([str(tmp_path / "data")]), tmp_path / "fixed")
    assert changes.counts == {}
    assert kinds_in(tmp_path / "fixed", tmp_path / "out") == set()
    for name in (path.relative_to(tmp_path / "data") for path in content_of(tmp_path / "data")):
        ours, theirs = tmp_path / "fixed" / name, tmp_path / "data" / name
        if name.suffix == ".json":
            assert {**json.loads(theirs.read_text()), "info": {}} == json.loads(ours.read_text())
        else:
            assert ours.samefile(theirs)


def test_a_copy_is_made_again_and_nothing_else_is_replaced(tmp_path):
    WRITERS["coco_instance"](tmp_path / "data")
    parts = find_parts([str(tmp_path / "data")])
    fix_data(parts, tmp_path / "fixed")
    fix_data(parts, tmp_path / "fixed")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.txt").touch()
    for name, message in (
        ("data", "never fixed in place"),
        ("data/new", "never fixed in place"),
        ("data/train/new", "never fixed in place"),
        (".", "never fixed in place"),
        ("mine", "a.txt would be replaced"),
    ):
        with pytest.raises(ValueError, match=message):
            fix_data(parts, tmp_path / name)


def test_other_formats_are_converted_first(tmp_path):
    WRITERS["png_semantic"](tmp_path / "data")
    with pytest.raises(
        ValueError, match=r"png_semantic: write it as one of them first, `unisegment convert-data .*data DST"
    ):
        fix_data(find_parts([str(tmp_path / "data")]), tmp_path / "fixed")
    WRITERS["coco_instance"](tmp_path / "more")
    parts = find_parts([str(tmp_path / "data"), str(tmp_path / "more")])
    with pytest.raises(ValueError, match="One data set is fixed at a time"):
        fix_data(parts, tmp_path / "fixed")


def test_files_without_splits_and_given_ones(tmp_path):
    WRITERS["coco_instance"](tmp_path / "data")
    (tmp_path / "data" / INSTANCES).rename(tmp_path / "data/mine.json")
    edit_json(tmp_path / "data/mine.json", lambda content: content["annotations"][0].update(iscrowd=2))
    fix_data(find_parts([str(tmp_path / "data/mine.json"), str(tmp_path / "data/train")]), tmp_path / "fixed")
    assert kinds_in(tmp_path / "fixed", tmp_path / "out") == {"no-data"}  # of the other split
    edit_json(tmp_path / "data/mine.json", lambda content: content.clear())
    (tmp_path / "data/mine.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        fix_data(find_parts([str(tmp_path / "data/mine.json"), str(tmp_path / "data/train")]), tmp_path / "fixed")
    assert (tmp_path / "fixed/changes.json").exists()
