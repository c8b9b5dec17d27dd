# SPDX-License-Identifier: Apache-2.0
"""Every format has a reader, under the name that recipes use."""

from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image

from tests.checking.data_sets import WRITERS
from tests.data.map_files import write_image, write_map
from tests.data.rows import save, semantic_rows, write_names
from tests.recipes import small_trees
from unisegment.data import formats
from unisegment.data.annotated_images import AnnotatedImages, with_range
from unisegment.data.formats import guess_format, open_data_set
from unisegment.data.label_spaces import MatchedSamples
from unisegment.data.reading import image_reading
from unisegment.data.splitting import only_annotated
from unisegment.runs.data_recipe import DataRecipe


def test_recipes_know_every_format():
    assert {*get_args(get_type_hints(DataRecipe)["format"])} == {*formats.FORMATS, "auto"}


@pytest.mark.parametrize("data_format", formats.FORMATS)
def test_an_empty_folder_is_refused_by_every_reader(tmp_path, data_format):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        open_data_set(tmp_path, data_format, "train")


def test_a_folder_is_opened(tmp_path):
    write_image(tmp_path / "images/training/a.jpg", (2, 3))
    write_map(tmp_path / "annotations/training/a.png", [[1] * 3] * 2)
    samples = open_data_set(str(tmp_path), "ade20k_semantic", "train")
    assert isinstance(samples, AnnotatedImages)
    assert [sample.image_id for sample in samples] == ["a"]


def test_options_reach_the_reader(tmp_path):
    semantic_rows().save_to_disk(tmp_path)
    write_names(tmp_path)
    samples = open_data_set(tmp_path, "hugging_face", "val", splits={"val": "train[2:4]"})
    assert [sample.file_name for sample in samples] == ["2.png", "3.png"]


def turned(file, orientation):
    """Say that an image file is to be turned; its pixels stay what they are."""
    with Image.open(file) as image:
        exif = image.getexif()
        exif[0x0112] = orientation
        image.save(file, "PNG", exif=exif)


@pytest.mark.parametrize("data_format", WRITERS)
def test_annotations_of_images_as_they_are_stored(tmp_path, data_format):
    WRITERS[data_format](tmp_path)
    file = next(tmp_path.rglob("train/a.jpg"))
    expected = open_data_set(tmp_path, data_format, "train")[0]
    turned(file, 6)
    sample = open_data_set(tmp_path, data_format, "train", exif="stored")[0]
    assert np.array_equal(sample.image, expected.image)
    assert torch.equal(sample.target.binary_masks(), expected.target.binary_masks())
    with pytest.raises(ValueError, match=r"as it is stored, set data\.exif=stored"):
        open_data_set(tmp_path, data_format, "train")[0]
    turned(file, 3)
    assert np.array_equal(open_data_set(tmp_path, data_format, "train")[0].image, np.rot90(expected.image, 2))


def test_maps_are_turned_like_images(tmp_path):
    WRITERS["png_semantic"](tmp_path)
    expected = open_data_set(tmp_path, "png_semantic", "train")[0].target.id_map.numpy()
    turned(tmp_path / "images/train/a.jpg", 6)
    turned(tmp_path / "labels/train/a.png", 6)
    for exif, turns in (("upright", 3), ("stored", 0)):
        id_map = open_data_set(tmp_path, "png_semantic", "train", exif=exif)[0].target.id_map.numpy()
        assert np.array_equal(id_map, np.rot90(expected, turns))


@pytest.mark.parametrize("data_format", WRITERS)
def test_the_range_is_that_of_images_and_not_of_maps(tmp_path, data_format):
    WRITERS[data_format](tmp_path)
    file = next(tmp_path.rglob("train/a.jpg"))
    expected = open_data_set(tmp_path, data_format, "train")[0]
    scan = np.random.default_rng(0).integers(47, 1028, expected.image.shape[:2], dtype=np.uint16)
    Image.fromarray(scan).save(file, "PNG")
    samples = open_data_set(tmp_path, data_format, "train", range=(100, 610))
    levels = np.rint((scan.clip(100, 610) - 100.0) / 2)
    assert samples[0].image.tolist() == np.dstack([levels] * 3).tolist()
    assert torch.equal(samples[0].target.binary_masks(), expected.target.binary_masks())
    image_reading._warned.cache_clear()
    assert len(np.unique(with_range(samples, "dtype")[0].image)) == 5
    # So are those of data sets that are made of it.
    for made in (
        only_annotated(samples),
        MatchedSamples(samples, samples.categories, {label: label for label in samples.id2label}),
    ):
        assert made.reading.range == (100, 610)
        assert len(np.unique(with_range(made, "dtype")[0].image)) == 5
        assert np.array_equal(made[0].image, samples[0].image)
    assert samples.reading.range == (100, 610)


def test_options_that_make_no_sense_are_refused(tmp_path):
    for options, message in (({"exif": "turned"}, "exif must be"), ({"range": [3, 2]}, "range must be")):
        with pytest.raises(ValueError, match=message):
            open_data_set(tmp_path, "png_semantic", "train", **options)


def test_unknown_formats_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no data set format 'voc', only coco_panoptic, coco_instance, "):
        open_data_set(tmp_path, "voc", "train")


@pytest.mark.parametrize("data_format", sorted(formats.FORMATS.keys() & vars(small_trees).keys()))
def test_the_layout_of_a_folder_tells_its_format(tmp_path, data_format):
    getattr(small_trees, data_format)(tmp_path)
    assert guess_format(tmp_path) == guess_format(tmp_path, ["val"]) == data_format
    for split in ("train", "val"):
        guessed, named = open_data_set(tmp_path, split=split), open_data_set(tmp_path, data_format, split)
        assert len(guessed) > 0
        assert (len(guessed), guessed.categories) == (len(named), named.categories)


@pytest.mark.parametrize(
    ("files", "data_format"),
    [
        (["leftImg8bit/train/x/a.png", "gtFine/train/x/a_gtFine_labelTrainIds.png"], "cityscapes_semantic"),
        (["training/images/a.jpg", "training/labels/a.png"], "mapillary_vistas_semantic"),
        (["images/train/a.jpg", "instances/train/a.png"], "png_instance"),
        (["train/a.jpg", "train/_annotations.coco.json"], "coco_instance"),
        (["data/train-00000-of-00001.parquet"], "hugging_face"),
    ],
)
def test_further_layouts(tmp_path, files, data_format):
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert guess_format(tmp_path) == data_format


def test_data_sets_of_hugging_face_are_seen(tmp_path):
    save(tmp_path, semantic_rows())
    assert guess_format(tmp_path / "saved") == guess_format(tmp_path / "parquet") == "hugging_face"
    assert guess_format(tmp_path / "saved/train") == "hugging_face"
    for name in ("hf://datasets/user/cows", "s3://cows/{split}-*.parquet", str(tmp_path / "cows-*.parquet")):
        assert guess_format(name) == "hugging_face"


def test_what_cannot_be_told_is_refused_with_what_is_there(tmp_path):
    advice = r"Say which it is: data\.format=NAME, or --format NAME\.$"
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist\.$"):
        guess_format(tmp_path / "nowhere")
    with pytest.raises(
        ValueError,
        match=rf"no known format for the split train or val\. Looked for were, among others, .* It is empty\. {advice}",
    ):
        guess_format(tmp_path)
    for number in range(10):
        (tmp_path / f"{number}.txt").touch()
    holds = r"It holds 0\.txt, 1\.txt, 2\.txt, 3\.txt, 4\.txt, 5\.txt, 6\.txt, 7\.txt and 2 more\."
    with pytest.raises(ValueError, match=f"{holds} {advice}"):
        guess_format(tmp_path)
    (tmp_path / "images/val").mkdir(parents=True)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train2017.json").touch()
    nearest = r"coco_instance comes nearest: there is annotations/instances_train2017\.json, but no train2017\."
    with pytest.raises(ValueError, match=nearest):
        guess_format(tmp_path)
    (tmp_path / "train2017").mkdir()
    assert guess_format(tmp_path) == "coco_instance"
    (tmp_path / "labels/val").mkdir(parents=True)
    (tmp_path / "labels/val/a.png").touch()
    with pytest.raises(ValueError, match=rf"several formats \(coco_instance, png_semantic\)\. {advice}"):
        guess_format(tmp_path)


def test_images_and_annotations_may_lie_anywhere(tmp_path):
    WRITERS["coco_instance"](tmp_path / "data")
    expected = [sample.image_id for sample in open_data_set(tmp_path / "data", "coco_instance", "val")]
    (tmp_path / "data/annotations/instances_val.json").rename(tmp_path / "a.json")
    (tmp_path / "data/val").rename(tmp_path / "photos")
    places = {"annotations": {"val": "a.json"}, "images": {"val": "photos"}}
    found = open_data_set(tmp_path, "coco_instance", "val", **places)
    assert [sample.image_id for sample in found] == expected
    assert len(open_data_set(tmp_path, "coco_instance", "train", annotations="a.json", images="photos")) == 2
    with pytest.raises(ValueError, match=r"data\.annotations=a\.json is all for 'train'\. Give one for each split"):
        open_data_set(tmp_path, "coco_instance", "val", annotations="a.json", images="photos")
    with pytest.raises(ValueError, match=r"say where the rest lies, too: data\.images\."):
        open_data_set(tmp_path, "coco_instance", "train", annotations="a.json")
    # Names of splits in places are those that data sets have.
    valid = {"annotations": {"valid": "a.json"}, "images": {"valid": "photos"}}
    assert [sample.image_id for sample in open_data_set(tmp_path, "coco_instance", "val", **valid)] == expected
    # Shares are taken of what is found there.
    held_out = open_data_set(
        tmp_path, "coco_instance", "val", annotations="a.json", images="photos", val_share=0.5, split_seed=1
    )
    assert len(held_out) == 1


@pytest.mark.parametrize(
    ("data_format", "places", "reason"),
    [
        ("coco_instance", {"segments": "x"}, r"data\.segments is not for format=coco_instance"),
        ("hugging_face", {"annotations": "x"}, r"data\.annotations is not for format=hugging_face"),
        ("supervisely", {"annotations": "x", "images": "x"}, r"meta of the format supervisely cannot lie elsewhere"),
        ("pascal_voc_semantic", {"annotations": "x", "images": "x"}, r"say where the rest lies, too: data\.segments\."),
        ("png_per_object", {"annotations": "x", "images": "y"}, r"y does not exist\.$"),
    ],
)
def test_places_that_do_not_go_with_a_format_are_refused(tmp_path, data_format, places, reason):
    with pytest.raises((ValueError, FileNotFoundError), match=reason):
        open_data_set(tmp_path, data_format, **places)


def test_at_other_places_files_are_as_the_format_says(tmp_path):
    WRITERS["coco_panoptic"](tmp_path / "coco")
    places = {"annotations": "coco/annotations/panoptic_train.json", "images": "coco/train"}
    assert open_data_set(tmp_path, "ade20k_panoptic", **places).hidden_segments
    assert not open_data_set(tmp_path, "coco_panoptic", **places).hidden_segments
    write_image(tmp_path / "a/x/a_leftImg8bit.png", (2, 3))
    write_map(tmp_path / "b/x/a_gtFine_labelIds.png", [[7] * 3] * 2)
    assert open_data_set(tmp_path, "cityscapes_semantic", images="a", annotations="b")[0].target.labels.tolist() == [0]
    write_map(tmp_path / "b/x/a_leftImg8bit.png", [[1] * 3] * 2)
    own = open_data_set(tmp_path, "png_semantic", images="a", annotations="b", categories=["sky", "road"])
    assert own[0].target.labels.tolist() == [1]


@pytest.mark.parametrize("split", ["", ".", "..", "*", "../other", "train[:5]", "/"])
@pytest.mark.parametrize("data_format", [None, "coco_instance"])
def test_names_of_no_split_are_refused(tmp_path, data_format, split):
    WRITERS["coco_instance"](tmp_path)
    with pytest.raises(ValueError, match=r"split must be the name of a part of the data set"):
        open_data_set(tmp_path, data_format, split)


def test_the_format_is_seen_by_the_split_that_is_asked_for(tmp_path):
    WRITERS["coco_instance"](tmp_path)
    for name in ("annotations/instances_{}.json", "{}"):
        (tmp_path / name.format("train")).rename(tmp_path / name.format("holdout"))
        (tmp_path / name.format("val")).rename(tmp_path / name.format("other"))
    assert len(open_data_set(tmp_path, split="holdout")) == 4
    assert len(open_data_set(tmp_path, split="val", splits={"train": "other", "val": "holdout[:3]"})) == 3


def test_a_data_set_without_splits_says_how_to_hold_images_out(tmp_path):
    small_trees.png_semantic(tmp_path)
    for folder in ("images", "labels"):
        (tmp_path / folder / "val").rename(tmp_path / f"{folder} elsewhere")
        for file in (tmp_path / folder / "train").iterdir():
            file.rename(tmp_path / folder / file.name)
        (tmp_path / folder / "train").rmdir()
    assert guess_format(tmp_path, ["val"]) == "png_semantic"
    assert len(open_data_set(tmp_path)) == 3
    advice = (
        r"no split 'val' of the format png_semantic\. The data set has no splits: all of it is 'train'\. Hold some "
    )
    with pytest.raises(
        FileNotFoundError, match=rf"{advice}of its images out: data\.val_share=0\.1, .* --split train\.$"
    ):
        open_data_set(tmp_path, split="val")


@pytest.mark.parametrize("data_format", formats.FORMATS)
def test_every_format_says_what_it_is(data_format):
    known = formats.FORMATS[data_format]
    assert known.name == data_format
    assert known.summary
    assert known.labels
    assert {*known.tasks} <= {"panoptic", "instance", "semantic"}


def test_a_list_of_one_split_is_not_taken_for_all_images(tmp_path):
    for name in ("a", "b"):
        write_image(tmp_path / f"JPEGImages/{name}.jpg", (2, 3))
        write_map(tmp_path / f"SegmentationClass/{name}.png", [[1] * 3] * 2)
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("a\n")
    assert len(open_data_set(tmp_path)) == 1
    with pytest.raises(FileNotFoundError, match=r"no split 'val' .*; or move them, with their annotation, to a split"):
        open_data_set(tmp_path, split="val")
