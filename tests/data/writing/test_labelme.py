# SPDX-License-Identifier: Apache-2.0
"""Objects in LabelMe's JSON files: filled as the format says, the pieces of a group together."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.data.writing.scenes import CATEGORIES, Scenes, write
from unisegment.data.writing.labelme import LabelmeWriter
from unisegment.structures import Category

KEYS = {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"}
"""Those of LabelMe's own files."""


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own array class
def test_shapes_are_the_objects(tmp_path):
    images = Scenes(tmp_path / "source")
    fitted, lost = write(LabelmeWriter(tmp_path / "out", CATEGORIES), images)
    assert lost == [{"stuff": 1, "crowds": 1}, {}, {}, {"stuff": 2}]
    for path, target in zip(images.paths, fitted, strict=True):
        content = json.loads((tmp_path / f"out/train/{path.stem}.json").read_text())
        assert content.keys() == KEYS
        assert (content["imageHeight"], content["imageWidth"]) == target.size
        assert (tmp_path / "out/train" / content["imagePath"]).is_file()
        found: dict = {}
        for number, shape in enumerate(content["shapes"]):
            assert shape["shape_type"] == "polygon"
            polygon = np.array(shape["points"], dtype=float).ravel().tolist()
            filled = coco_mask.decode(coco_mask.frPyObjects([polygon], *target.size))[..., 0]
            key = (
                (shape["label"], "alone", number) if shape["group_id"] is None else (shape["label"], shape["group_id"])
            )
            found[key] = found.get(key, 0) + filled
        names = ["cow", "zebra crossing"]
        expected = sorted(
            (names[label], mask.tobytes())
            for label, mask in zip(target.labels.tolist(), target.binary_masks().numpy(), strict=True)
        )
        assert sorted((key[0], mask.astype(bool).tobytes()) for key, mask in found.items()) == expected


def test_names_are_all_that_there_is(tmp_path):
    writer = LabelmeWriter(tmp_path, [Category(5, "b", True, (0, 0, 0)), Category(2, "a", True, (0, 0, 0))])
    writer.close(["train"])
    assert (tmp_path / "labels.txt").read_text() == "__ignore__\n_background_\na\nb\n"
    with pytest.raises(ValueError, match=r"Two categories are named 'a', which LabelMe could not tell apart: rename"):
        LabelmeWriter(tmp_path, [Category(number, "a", True, (0, 0, 0)) for number in (1, 2)])
    for name in ("_background_", "", " a", "a\nb", "a\u2028b"):
        with pytest.raises(ValueError, match="cannot be a label of LabelMe, whose file lists one a line: rename it"):
            LabelmeWriter(tmp_path, [Category(1, name, True, (0, 0, 0))])
