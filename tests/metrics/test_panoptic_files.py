# SPDX-License-Identifier: Apache-2.0
"""Whatever the files of a panoptic evaluation hold, it is evaluated or refused by the name of file and entry."""

import json

import numpy as np
import pytest
from PIL import Image

from unisegment.metrics import panoptic_quality_from_files

INFOS = [{"id": 65, "category_id": 2}]


@pytest.fixture
def arguments(write_data_set):
    ids = np.full((2, 7), 65, dtype=np.int32)
    return write_data_set([(ids, INFOS, ids, INFOS)], [{"id": 2, "isthing": 1}])


@pytest.mark.parametrize("value", [{}, [[1]], "x" * 2000])
@pytest.mark.parametrize("key", ["image_id", "file_name", "segments_info", "id", "category_id", "area", "iscrowd"])
@pytest.mark.parametrize("place", [0, 2])
def test_values_of_another_kind_are_named(arguments, place, key, value):
    content = json.loads(arguments[place].read_text())
    entry = content["annotations"][0]
    owner, name = (entry, "") if key in entry else (entry["segments_info"][0], r"segments_info\[0\]: ")
    owner[key] = value
    arguments[place].write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=rf"{arguments[place].name} is not in .* format: annotations\[0\]: {name}{key}.* must be"
    ) as caught:
        panoptic_quality_from_files(*arguments)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("key", ["id", "category_id"])
@pytest.mark.parametrize("value", [None, 2**64, 1.5, float("nan"), True])
def test_numbers_are_whole_and_not_too_large(arguments, key, value):
    content = json.loads(arguments[2].read_text())
    content["annotations"][0]["segments_info"][0][key] = value
    arguments[2].write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"annotations\[0\]: segments_info\[0\]: {key} must be a whole number of"):
        panoptic_quality_from_files(*arguments)


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"\xff", b"[" * 10**5, b'{"annotations": [[]]}'])
@pytest.mark.parametrize("place", [0, 2])
def test_files_that_are_something_else_are_named(arguments, place, content):
    arguments[place].write_bytes(content)
    with pytest.raises(ValueError, match=arguments[place].name):
        panoptic_quality_from_files(*arguments)
    arguments[place].unlink()
    with pytest.raises(FileNotFoundError, match=arguments[place].name):
        panoptic_quality_from_files(*arguments)


@pytest.mark.parametrize("categories", [[{"id": 2}], [{"id": "2", "isthing": 1}], [2], [{"id": 2, "isthing": 1}] * 2])
def test_categories_are_checked(arguments, categories):
    content = json.loads(arguments[0].read_text()) | {"categories": categories}
    arguments[0].write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"{arguments[0].name} is not in COCO's panoptic format: .*categories"):
        panoptic_quality_from_files(*arguments)


@pytest.mark.parametrize("place", [1, 3])
def test_damaged_pictures_are_named(arguments, place):
    (file,) = arguments[place].glob("*.png")
    whole = file.read_bytes()
    for content in (b"", whole[:40], whole[:-30], whole[:20] + b"\x7f\xff\xff\xff" * 2 + whole[28:]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{file} cannot be read as an image"):
            panoptic_quality_from_files(*arguments)
    Image.new("I;16", (7, 2)).save(file)
    with pytest.raises(ValueError, match=rf"{file}: The image has mode I;16"):
        panoptic_quality_from_files(*arguments)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{file}: there is no such file"):
        panoptic_quality_from_files(*arguments)
