# SPDX-License-Identifier: Apache-2.0
"""A PNG file for each object: the layouts that are known, the objects in them, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from tests.data import mask_trees
from tests.data.mask_trees import AREAS, BOXES, FIRST, SECOND, SIZE
from unisegment.data.formats import guess_format, open_data_set
from unisegment.data.problems import CollectedProblems
from unisegment.ops.masks import boxes_from_masks, segment_areas


def _check_both_objects(target):
    assert boxes_from_masks(target.binary_masks()).tolist() == BOXES
    assert segment_areas(target).tolist() == AREAS
    assert target.labels.tolist() == [0, 0]


@pytest.fixture
def bowl(tmp_path):
    mask_trees.data_science_bowl(tmp_path)
    return tmp_path


def test_data_science_bowl(bowl):
    assert guess_format(bowl) == "png_per_object"
    images = open_data_set(bowl)
    assert [images[index].image_id for index in range(len(images))] == ["00ae65", "0bda51"]
    assert images.id2label == {0: "object"}
    assert images.stuff_label_ids == []
    _check_both_objects(images[0].target)
    assert images.files(0).num_annotations == 2
    with pytest.raises(FileNotFoundError, match="no split 'val'"):
        open_data_set(bowl, split="val")
    assert [len(open_data_set(bowl, split=split, val_share=0.5)) for split in ("train", "val")] == [1, 1]


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("layout", ["{split}/{name}/images|{split}/{name}/masks", "{split}/images|{split}/masks/{name}",
                                    "images/{split}|masks/{split}/{name}"])  # fmt: skip
def test_splits(tmp_path, layout, split):
    for name in ("a", "b"):
        for part in ("train", "valid"):
            images, masks = layout.format(split=part, name=name).split("|")
            mask_trees.image(tmp_path / images / f"{name}.jpg")
            mask_trees.masks(tmp_path / masks, FIRST, SECOND)
    assert guess_format(tmp_path) == "png_per_object"
    images = open_data_set(tmp_path, split=split)
    assert [images[index].image_id for index in range(len(images))] == ["a", "b"]
    assert ("valid" in images[0].file_name) == (split == "val")
    _check_both_objects(images[1].target)


@pytest.mark.parametrize("layout", ["{name}/images|{name}/masks", "images|masks/{name}"])
def test_trees_without_splits(tmp_path, layout):
    for name in ("a", "b"):
        images, masks = layout.format(name=name).split("|")
        mask_trees.image(tmp_path / images / f"{name}.jpg")
        mask_trees.masks(tmp_path / masks, FIRST, SECOND)
    assert guess_format(tmp_path) == "png_per_object"
    _check_both_objects(open_data_set(tmp_path)[1].target)


def test_folders_of_label_maps_are_another_thing(tmp_path):
    """Images beside PNG files of whole images, in three ways: not recognised as one PNG file for each object."""
    for number, (images, masks) in enumerate([("images", "masks"), ("train/images", "train/masks"),
                                              ("images/train", "masks/train")]):  # fmt: skip
        root = tmp_path / str(number)
        for name in ("a", "b"):
            mask_trees.image(root / images / f"{name}.png")
            mask_trees.image(root / masks / f"{name}.png")
        with pytest.raises(ValueError, match="layout of no known format"):
            guess_format(root)


def test_the_class_may_have_a_name(bowl):
    assert open_data_set(bowl, categories=["nucleus"]).id2label == {0: "nucleus"}
    (category,) = open_data_set(bowl, categories={7: "nucleus"}).categories
    assert (category.id, category.is_thing) == (7, True)
    with pytest.raises(ValueError, match=r"data\.categories must name one class, .* got nucleus, cell"):
        open_data_set(bowl, categories=["nucleus", "cell"])


def test_objects_may_overlap_be_empty_and_be_of_any_kind(bowl):
    folder = bowl / "stage1_train/00ae65/masks"
    drawn = np.zeros(SIZE, np.uint8)
    drawn[FIRST] = 1
    for file in folder.iterdir():
        file.unlink()
    Image.fromarray(drawn).save(folder / "a.png")
    Image.fromarray(drawn[..., None] * np.array([0, 0, 3], np.uint8)).save(folder / "b.png")
    Image.fromarray(np.dstack([drawn] * 3 + [np.full(SIZE, 255, np.uint8)])).save(folder / "c.png")
    Image.fromarray(np.dstack([drawn, np.full(SIZE, 255, np.uint8)])).save(folder / "d.png")
    Image.fromarray(drawn.astype(np.uint16) * 65535).save(folder / "e.png")
    Image.fromarray(drawn > 0).save(folder / "f.PNG", format="PNG")
    mask_trees.palette_png(folder / "g.png", drawn)
    Image.fromarray(drawn * 0).save(folder / "h.png")
    images = open_data_set(bowl)
    target = images[0].target
    assert segment_areas(target).tolist() == [24] * 7
    assert target.layers.tolist() == [*range(7)]
    assert (images.files(0).num_annotations, images.labels_in(0)) == (8, {0})


def test_an_image_without_objects_has_an_empty_folder(bowl):
    for file in (bowl / "stage1_train/00ae65/masks").iterdir():
        file.unlink()
    images = open_data_set(bowl)
    assert (len(images), len(images[0].target), images.labels_in(0)) == (2, 0, set())


def test_other_files_are_refused(bowl):
    folder = bowl / "stage1_train/00ae65/masks"
    images = open_data_set(bowl)
    Image.fromarray(np.zeros((20, 12), np.uint8)).save(folder / "0000.png")
    with pytest.raises(
        ValueError, match=r"masks.0000\.png: it is 20x12 \(height x width\), but .*00ae65\.png says 12x20"
    ):
        images[0]
    (folder / "0000.png").write_bytes(b"GIF")
    with pytest.raises(ValueError, match=r"masks.0000\.png: it cannot be read as an image"):
        images[0]
    for file in folder.iterdir():
        file.unlink()
    (folder / "a.npy").touch()
    with pytest.raises(ValueError, match=r"masks: it holds no PNG file, but others, such as a\.npy"):
        images[0]
    (folder / "a.npy").unlink()
    folder.rmdir()
    with pytest.raises(FileNotFoundError, match=r"masks: there is no such folder .* make an empty one"):
        images[0]
    assert images.files(0).num_annotations is None


def test_what_is_missing_is_said_or_left_out(bowl):
    train = bowl / "stage1_train"
    mask_trees.image(train / "0bda51/images/other.png")
    mask_trees.image(train / "1/images/1.png")
    mask_trees.image(train / "2/images/2.png")
    (train / "2/masks").mkdir()
    problems = CollectedProblems()
    assert guess_format(bowl) == "png_per_object"
    images = open_data_set(bowl, problems=problems)
    assert [images[index].image_id for index in range(len(images))] == ["00ae65", "2"]
    assert [(problem.kind, problem.file.removeprefix(f"{train}/")) for problem in problems.errors()] == [
        ("wrong-structure", "0bda51/images"),
        ("missing-label-map", "1/masks"),
    ]
    with pytest.raises(ValueError, match=r"0bda51/images: it must hold one image, but holds 2"):
        open_data_set(bowl)


def test_what_is_missing_beside_each_other(tmp_path):
    for name in ("a.jpg", "a.png", "b.jpg", "c.jpg"):
        mask_trees.image(tmp_path / "images" / name)
    (tmp_path / "images/notes.txt").touch()
    for name in ("a", "c", "d"):
        mask_trees.masks(tmp_path / "masks" / name, FIRST)
    problems = CollectedProblems(thorough=True)
    images = open_data_set(tmp_path, problems=problems)
    assert [images[index].file_name.removeprefix(f"{tmp_path}/") for index in range(len(images))] == ["images/c.jpg"]
    assert {kind["kind"]: kind["listed"][0]["file"].removeprefix(f"{tmp_path}/") for kind in problems.as_dicts()} == {
        "missing-label-map": "masks/b",
        "same-name-images": "images/a.jpg",
        "unlisted-label-map": "masks/d",
    }
