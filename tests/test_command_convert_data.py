# SPDX-License-Identifier: Apache-2.0
"""`unisegment convert-data` opens what check-data opens, and says what it wrote and what it could not."""

from collections import Counter

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.checking import data_sets
from tests.data import mask_trees
from tests.data.rows import save, semantic_rows, write_names
from tests.data.writing.scenes import CATEGORIES, Scenes
from unisegment.cli import app
from unisegment.data.formats import open_data_set
from unisegment.runs.data_conversion import convert_data


def run(*words):
    return CliRunner().invoke(app, ["convert-data", *map(str, words)])


@pytest.fixture
def data(tmp_path):
    convert_data(
        {"train": Scenes(tmp_path / "train"), "val": Scenes(tmp_path / "val")}, tmp_path / "data", "coco_panoptic"
    )
    return tmp_path / "data"


def test_all_splits_are_written_and_what_is_lost_is_said(tmp_path, data):
    result = run(data, tmp_path / "out", "--to", "yolo_segmentation")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "Reading train, val as coco_panoptic.",
        f"{tmp_path / 'out'}: images: 4 of train, 4 of val; 8 of them new, all read back",
    ]
    assert "not written: 6 segments of stuff, as the format is for objects alone" in result.stderr
    assert "not written: 2 crowds" in result.stderr
    assert len(open_data_set(tmp_path / "out", None, "val")) == 4
    again = run(data, tmp_path / "out", "--to", "yolo_segmentation")
    assert "finished before, nothing to do" in again.stdout
    assert again.exit_code == 0
    # Another conversion does not go on there.
    result = run(data, tmp_path / "out", "data.void_ids=[7]", "--to", "yolo_segmentation")
    assert result.exit_code == 1
    assert "holds results of another run" in result.stderr


def test_parts_recipes_and_overrides(tmp_path, data):
    recipe = tmp_path / "mine.yaml"
    others = "schedule: {max_steps: 1}\nrun: {output_dir: x}\n"
    recipe.write_text(f"data: {{root: {data}, format: coco_panoptic}}\n{others}")
    result = run(recipe, tmp_path / "a", "--to", "coco_instance", "--split", "val", "data.void_ids=[64]")
    assert result.exit_code == 0, result.output
    assert [category.name for category in open_data_set(tmp_path / "a", None, "val").categories] == ["cow"]
    result = run(data, tmp_path / "b", "--to", "labelme", "data.val_share=0.25", "--images=link")
    assert "images: 3 of train, 1 of val" in result.stdout
    result = run(data, tmp_path / "c", "--to", "labelme", "model.pretrained=x")
    assert (result.exit_code, "only keys of `data` can be set" in result.stderr) == (1, True)


TREES = {
    "pascal_voc": mask_trees.pascal_voc,
    "pascal_voc of CVAT": mask_trees.cvat_masks,
    "supervisely": mask_trees.supervisely,
    "png_per_object": mask_trees.data_science_bowl,
    **data_sets.WRITERS,
}
"""What writes a data set, by the name of its format and more."""


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("to", ["coco_panoptic", "labelme"])
def test_data_sets_of_other_tools_are_converted_as_they_are(tmp_path, name, to):
    """Labels and areas of what is written are those of what was read."""
    TREES[name](tmp_path / "data")
    result = run(tmp_path / "data", tmp_path / "out", "--to", to)
    assert result.exit_code == 0, result.output
    assert f"as {name.split()[0]}." in result.stdout
    source, read = (open_data_set(tmp_path / folder, None, "train") for folder in ("data", "out"))
    assert len(read) == len(source) > 0
    assert areas(read) == areas(source, all_segments=to == "coco_panoptic")


def areas(images, all_segments=True):
    """Return the pixels of each category, or of the objects that are no crowd."""
    found = Counter()
    for sample in images:
        columns = (sample.target.labels.tolist(), sample.target.is_crowd.tolist(), sample.target.binary_masks())
        for label, is_crowd, mask in zip(*columns, strict=True):
            category = images.categories[label]
            if all_segments or (category.is_thing and not is_crowd):
                found[category.name] += int(mask.sum())
    return found


def test_rows_become_folders_and_regions_become_objects(tmp_path):
    save(tmp_path / "rows", semantic_rows())
    write_names(tmp_path / "rows/saved")
    result = run(tmp_path / "rows/saved", tmp_path / "out", "--to", "coco_instance", "--components", "4")
    assert result.exit_code == 0, result.output
    read = open_data_set(tmp_path / "out", None, "train")
    assert len(read) == 7
    # The number of the row is in the first pixel and 9 elsewhere; 0 is void.
    assert sorted(read.categories[label].id for label in read[4].target.labels.tolist()) == [4, 9]
    assert [len(sample.target) for sample in read] == [1] + [2] * 6
    np.testing.assert_array_equal(read[4].image, np.full((3, 2, 3), 4))


def test_stuff_of_another_data_set_fills_what_is_free(tmp_path, data):
    run(data, tmp_path / "objects", "--to", "coco_instance")
    run(data, tmp_path / "semantic", "--to", "png_semantic")
    words = ("--to", "coco_panoptic", "--stuff", tmp_path / "semantic")
    result = run(tmp_path / "objects", tmp_path / "both", *words)
    assert result.exit_code == 0, result.output
    read, expected = (open_data_set(root, None, "val") for root in (tmp_path / "both", data))
    assert sorted(category.name for category in read.categories) == sorted(category.name for category in CATEGORIES)
    names = ["d.jpg", "a.png"]
    for sample, original in zip(read, expected, strict=True):
        if sample.file_name.endswith(tuple(names)):
            found, wanted = (
                sorted(
                    (images.categories[label].name, mask.numpy().tobytes())
                    for label, mask in zip(item.target.labels.tolist(), item.target.binary_masks(), strict=True)
                )
                for images, item in ((read, sample), (expected, original))
            )
            assert found == wanted


def test_unreadable_images_are_left_out_where_that_is_asked_for(tmp_path, data):
    file = data / "train/a.png"
    file.write_bytes(file.read_bytes()[:100])
    result = run(data, tmp_path / "out", "--to", "coco_instance", "--split", "train")
    assert result.exit_code == 1
    assert "a.png: it cannot be read" in result.stderr
    result = run(data, tmp_path / "out", "--to", "coco_instance", "--split", "train", "--on-error", "skip")
    assert result.exit_code == 0
    assert "3 of train" in result.stdout
    assert "left out: " in result.stderr


def test_misuse_is_said(tmp_path, data):
    run(data, tmp_path / "semantic", "--to", "png_semantic")
    for root, words in ((data, ()), (tmp_path / "semantic", ("--stuff", tmp_path / "semantic"))):
        result = run(data, root / "out", "--to", "labelme", *words)
        assert (result.exit_code, "of which it would become a part: choose another" in result.stderr) == (2, True)
        assert not (root / "out").exists()
    assert run(tmp_path, tmp_path / "out", "--to", "voc").exit_code == 2
    assert run(tmp_path, tmp_path / "out").exit_code == 2
    result = run(tmp_path / "nothing", tmp_path / "out", "--to", "labelme")
    assert (result.exit_code, "nothing does not exist" in result.stderr) == (1, True)
    assert not (tmp_path / "out").exists()
