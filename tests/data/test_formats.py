# SPDX-License-Identifier: Apache-2.0
"""Every format has a reader, under the name that recipes use."""

from typing import get_args, get_type_hints

import pytest

from tests.data.map_files import write_image, write_map
from tests.data.rows import semantic_rows, write_names
from unisegment.data import formats
from unisegment.data.annotated_images import AnnotatedImages
from unisegment.data.formats import open_data_set
from unisegment.training.recipe import DataRecipe


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


def test_unknown_formats_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no data set format 'voc', only coco_panoptic, coco_instance, "):
        open_data_set("voc", tmp_path, "train")
