# SPDX-License-Identifier: Apache-2.0
"""What users name is understood, or refused with what to name instead."""

from pathlib import Path

import pytest

from tests.checking.data_sets import WRITERS
from unisegment.checking.sources import find_parts, sources_and_overrides
from unisegment.runs.settings import RecipeError

RECIPE = "data: {root: somewhere, format: png_semantic}\nschedule: {max_steps: 3}\nrun: {output_dir: out}\n"


def test_words_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b").mkdir()
    words = ["x.yaml", "data.workers=3", "a=b", "data.columns={image: photo}"]
    sources, overrides = sources_and_overrides(words)
    assert sources == ["x.yaml", "a=b"]
    assert overrides == {"data.workers": 3, "data.columns": {"image": "photo"}}


def test_a_recipe_says_all_about_its_data(tmp_path):
    (tmp_path / "a.yaml").write_text(RECIPE)
    parts = find_parts([str(tmp_path / "a.yaml")], None, ("train", "val"), {"data.root": "elsewhere"})
    assert [(part.name, part.data.format) for part in parts] == [
        ("elsewhere: train", "png_semantic"),
        ("elsewhere: val", "png_semantic"),
    ]
    (part,) = find_parts([str(tmp_path / "a.yaml")], "png_instance", ["val"])
    assert (part.data.format, part.split) == ("png_instance", "val")
    assert part.top_k == 100
    (part,) = find_parts(["quickstart"], None, ["val"], {"evaluation.top_k": 150})
    assert (part.data.format, part.top_k) == ("synthetic", 150)
    with pytest.raises(ValueError, match=r"One recipe is checked at a time"):
        find_parts([str(tmp_path / "a.yaml"), "more"])
    with pytest.raises(RecipeError, match=r"there is no key 'data\.rot'"):
        find_parts([str(tmp_path / "a.yaml")], None, ["val"], {"data.rot": "x"})


@pytest.mark.parametrize("data_format", WRITERS)
def test_the_format_of_a_folder_is_seen(tmp_path, data_format):
    WRITERS[data_format](tmp_path)
    parts = find_parts([str(tmp_path)])
    assert [(part.data.root, part.data.format, part.split) for part in parts] == [
        (str(tmp_path), data_format, "train"),
        (str(tmp_path), data_format, "val"),
    ]


def test_what_cannot_be_seen_must_be_said(tmp_path):
    with pytest.raises(ValueError, match=r"data\.format=auto: .* has the layout of no known format.*--format NAME"):
        find_parts([str(tmp_path)])
    WRITERS["coco_instance"](tmp_path)
    WRITERS["png_semantic"](tmp_path)
    with pytest.raises(ValueError, match=r"several formats \(coco_instance, png_semantic\)"):
        find_parts([str(tmp_path)])
    (part,) = find_parts([str(tmp_path)], "png_semantic", ["val"], {"data.workers": 0})
    assert (part.data.format, part.data.workers) == ("png_semantic", 0)
    with pytest.raises(ValueError, match=r"data\.root=nowhere, data\.format=auto: nowhere does not exist\.$"):
        find_parts(["nowhere"])
    (tmp_path / "annotations.txt").touch()
    with pytest.raises(ValueError, match=r"annotations.txt is not a folder"):
        find_parts([str(tmp_path / "annotations.txt")])
    with pytest.raises(ValueError, match=r"optim\.lr: of a folder, only keys of `data` can be set"):
        find_parts([str(tmp_path)], "png_semantic", ["val"], {"optim.lr": 1})
    with pytest.raises(ValueError, match=r"data\.format"):
        find_parts([str(tmp_path)], "voc")
    with pytest.raises(ValueError, match=r"Name a recipe"):
        find_parts([])


def test_an_address_is_read_by_hugging_face_and_stays_as_it_is():
    (part,) = find_parts(["hf://datasets/user/cows"], None, ["train"])
    assert (part.data.root, part.data.format) == ("hf://datasets/user/cows", "hugging_face")
    with pytest.raises(ValueError, match=r"root=s3://cows is an address, .* not coco_panoptic"):
        find_parts(["s3://cows"], "coco_panoptic")


def test_names_on_the_hub_need_their_format():
    (part,) = find_parts(["user/name"], "hugging_face", ["train"], {"data.columns": {"image": "photo"}})
    assert part.data.reader_options["columns"] == {"image": "photo"}


def test_files_may_be_named_one_by_one():
    (part,) = find_parts(["x/a.json", "x/images"])
    assert (part.data.format, part.name, part.data.root) == ("coco_instance", "x/a.json", "x")
    assert (part.data.annotations, part.data.images) == tuple(
        str(Path(name).absolute()) for name in ("x/a.json", "x/images")
    )
    (part,) = find_parts(["x/a.json", "x/images", "x/maps"])
    assert (part.data.format, part.data.segments) == ("coco_panoptic", str(Path("x/maps").absolute()))
    for wrong in (["x/a.json"], ["x/a.json", "b", "c", "d"]):
        with pytest.raises(ValueError, match=r"A JSON file comes with the folder of its images"):
            find_parts(wrong)
    with pytest.raises(ValueError, match=r"A JSON file comes with"):
        find_parts(["x/a.json", "b"], "coco_panoptic")
