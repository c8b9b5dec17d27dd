# SPDX-License-Identifier: Apache-2.0
"""Every format has a reader, under the name that recipes use."""

from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image

from tests.checking.data_sets import WRITERS
from tests.data.map_files import write_image, write_map
from tests.data.rows import semantic_rows, write_names
from unisegment.data import formats, image_reading
from unisegment.data.annotated_images import AnnotatedImages, OnlyAnnotated, with_range
from unisegment.data.formats import open_data_set
from unisegment.data.label_spaces import MatchedSamples
from unisegment.runs.recipe import DataRecipe


def test_recipes_know_every_format():
    assert {*get_args(get_type_hints(DataRecipe)["format"])} == {*formats._READERS, "synthetic"}


@pytest.mark.parametrize("data_format", formats._READERS)
def test_an_empty_folder_is_refused_by_every_reader(tmp_path, data_format):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        open_data_set(data_format, tmp_path, "train")


def test_a_folder_is_opened(tmp_path):
    write_image(tmp_path / "images/training/a.jpg", (2, 3))
    write_map(tmp_path / "annotations/training/a.png", [[1] * 3] * 2)
    samples = open_data_set("ade20k_semantic", str(tmp_path), "train")
    assert isinstance(samples, AnnotatedImages)
    assert [sample.image_id for sample in samples] == ["a"]


def test_options_reach_the_reader(tmp_path):
    semantic_rows().save_to_disk(tmp_path)
    write_names(tmp_path)
    samples = open_data_set("hugging_face", tmp_path, "val", splits={"val": "train[2:4]"})
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
    expected = open_data_set(data_format, tmp_path, "train")[0]
    turned(file, 6)
    sample = open_data_set(data_format, tmp_path, "train", exif="stored")[0]
    assert np.array_equal(sample.image, expected.image)
    assert torch.equal(sample.target.binary_masks(), expected.target.binary_masks())
    with pytest.raises(ValueError, match=r"as it is stored, set data\.exif=stored"):
        open_data_set(data_format, tmp_path, "train")[0]
    turned(file, 3)
    assert np.array_equal(open_data_set(data_format, tmp_path, "train")[0].image, np.rot90(expected.image, 2))


def test_maps_are_turned_like_images(tmp_path):
    WRITERS["png_semantic"](tmp_path)
    expected = open_data_set("png_semantic", tmp_path, "train")[0].target.id_map.numpy()
    turned(tmp_path / "images/train/a.jpg", 6)
    turned(tmp_path / "labels/train/a.png", 6)
    for exif, turns in (("upright", 3), ("stored", 0)):
        id_map = open_data_set("png_semantic", tmp_path, "train", exif=exif)[0].target.id_map.numpy()
        assert np.array_equal(id_map, np.rot90(expected, turns))


@pytest.mark.parametrize("data_format", WRITERS)
def test_the_range_is_that_of_images_and_not_of_maps(tmp_path, data_format):
    WRITERS[data_format](tmp_path)
    file = next(tmp_path.rglob("train/a.jpg"))
    expected = open_data_set(data_format, tmp_path, "train")[0]
    scan = np.random.default_rng(0).integers(47, 1028, expected.image.shape[:2], dtype=np.uint16)
    Image.fromarray(scan).save(file, "PNG")
    samples = open_data_set(data_format, tmp_path, "train", range=(100, 610))
    levels = np.rint((scan.clip(100, 610) - 100.0) / 2)
    assert samples[0].image.tolist() == np.dstack([levels] * 3).tolist()
    assert torch.equal(samples[0].target.binary_masks(), expected.target.binary_masks())
    image_reading._warned.cache_clear()
    assert len(np.unique(with_range(samples, "dtype")[0].image)) == 5
    # So are those of data sets that are made of it.
    for made in (
        OnlyAnnotated(samples),
        MatchedSamples(samples, samples.categories, {label: label for label in samples.id2label}),
    ):
        assert made.reading.range == (100, 610)
        assert len(np.unique(with_range(made, "dtype")[0].image)) == 5
        assert np.array_equal(made[0].image, samples[0].image)
    assert samples.reading.range == (100, 610)


def test_options_that_make_no_sense_are_refused(tmp_path):
    for options, message in (({"exif": "turned"}, "exif must be"), ({"range": [3, 2]}, "range must be")):
        with pytest.raises(ValueError, match=message):
            open_data_set("png_semantic", tmp_path, "train", **options)


def test_unknown_formats_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no data set format 'voc', only coco_panoptic, coco_instance, "):
        open_data_set("voc", tmp_path, "train")
