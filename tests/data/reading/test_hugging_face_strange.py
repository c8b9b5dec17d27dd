# SPDX-License-Identifier: Apache-2.0
"""Rows of Parquet files that hold something else than they should: a ValueError that names the row, and no crash."""

import io
import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from unisegment.data.reading.hugging_face_images import HuggingFaceImages


def _png(pixels):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="png")
    return content.getvalue()


IMAGE = _png(np.zeros((5, 7, 3), dtype=np.uint8))
MAP = _png(np.ones((5, 7), dtype=np.uint8))


def _open(tmp_path, role, annotation, **cells):
    file = tmp_path / "rows.parquet"
    row = {"image": IMAGE, "annotation": annotation} | cells
    parquet.write_table(pa.table({name: [cell] for name, cell in row.items()}), file)
    columns = {"image": "image", role: "annotation"} | {name: name for name in cells if name != "image"}
    return HuggingFaceImages.open(str(file), "train", columns=columns, categories={1: "cow", 2: "sky"})


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1.0, 1.0, 8.0, 4294967296.0, 8.0, 8.0]], r"a polygon has y = 4294967296\.0, too far outside"),
        ([[1.0, 1.0, -1e300, 4.0, 8.0, 8.0]], r"a polygon has x = -1e\+300, too far outside"),
        ({"size": [5, 7], "counts": [-1, 36]}, r"run lengths \(RLE\)"),
        ({"size": [2**30, 2**30], "counts": "zz"}, "run lengths are of size"),
        ({"size": [2**40, 1], "counts": "0"}, "size must be a whole number of 32 bits"),
        ([["a"]], "a polygon must be a list of numbers"),
        (None, "segmentation must be a list of polygons"),
        ([1.0, 2.0, 3.0, 4.0], "got a polygon 1.0"),
    ],
)
@pytest.mark.parametrize("form", [lambda objects: objects, json.dumps])
def test_objects_that_cannot_be_drawn_are_named(tmp_path, form, segmentation, message):
    rows = _open(tmp_path, "objects", form([{"category_id": 1, "segmentation": segmentation}]))
    with pytest.raises(ValueError, match=rf"rows\.parquet\[train\]\[0\]: an object cannot be drawn, .*{message}"):
        rows[0]


@pytest.mark.parametrize(
    ("role", "cells", "message"),
    [
        ("semantic", {"annotation": 7}, "column 'annotation' must hold an image, its bytes or its path, got 7"),
        ("semantic", {"annotation": {"bytes": 5, "path": 3}}, "must hold the bytes of an image, got 5"),
        ("semantic", {"annotation": {"bytes": None, "path": "a\0"}}, "must be a text of 1 to 1024 characters without"),
        ("semantic", {"annotation": MAP, "image": 1.5}, "column 'image' must hold an image"),
        ("semantic", {"annotation": MAP, "image_id": [1]}, "image_id must be a whole number of 64 bits or a text"),
        ("panoptic", {"annotation": MAP, "segments_info": "[" * 10**5}, "column 'segments_info' is not valid JSON"),
        ("panoptic", {"annotation": MAP, "segments_info": '[{"id": 1180591620717411303424}]'}, "id must be a whole"),
        ("panoptic", {"annotation": MAP, "segments_info": '[{"id": 1, "category_id": {}}]'}, "category_id must be a w"),
        ("objects", {"annotation": {"category_id": [1], "segmentation": [[], []]}}, "lists of equal length"),
    ],
)
def test_cells_of_another_kind_are_named(tmp_path, role, cells, message):
    rows = _open(tmp_path, role, **cells)
    with pytest.raises(ValueError, match=rf"rows\.parquet\[train\]\[0\]: .*{message}"):
        rows[0]


@pytest.mark.parametrize(
    "features", ["[1]", '{"image": {"names": 5, "_type": "ClassLabel"}}', '{"image": {"_type": "Value"}}', "[" * 10**5]
)
def test_what_a_file_says_of_its_columns_may_be_anything(tmp_path, features):
    file = tmp_path / "rows.parquet"
    said = f'{{"info": {{"features": {features}}}}}'
    table = pa.table({"image": [IMAGE], "label": [MAP]}).replace_schema_metadata({"huggingface": said})
    parquet.write_table(table, file)
    with pytest.raises(ValueError, match=r"rows\.parquet: what it says of its columns cannot be read"):
        HuggingFaceImages.open(str(file), "train", categories={1: "cow"})
