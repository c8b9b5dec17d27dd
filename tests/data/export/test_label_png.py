# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.export.predictions import export_all
from unisegment.data.categories import label_names
from unisegment.data.export import open_export
from unisegment.data.export.categories import categories_of_labels
from unisegment.data.export.format import ExportedImage
from unisegment.data.export.label_png import category_map
from unisegment.structures import Category, SemanticPrediction

IMAGE = ExportedImage("a", "folder/a.jpg", (29, 43))


def categories(*ids):
    return [Category(number, f"name {number}", False, (0, 0, 0)) for number in ids]


@pytest.mark.parametrize(("ids", "mode"), [((7, 0, 255), "L"), ((7, 256, 65535), "I;16")])
def test_pixels_hold_ids_of_categories(tmp_path, ids, mode):
    predictions = export_all(open_export("label_png", tmp_path, categories(*ids)), [IMAGE], [0])
    with Image.open(tmp_path / "labels" / "folder" / "a.png") as picture:
        assert picture.mode == mode
        written = np.asarray(picture)
    assert np.array_equal(written, np.array(ids)[predictions["a"]["semantic"].numpy()])
    assert [entry["id"] for entry in json.loads((tmp_path / "categories.json").read_text())] == list(ids)


@pytest.mark.parametrize(("ids", "void"), [([7, 0, 254], 255), ([7, 0, 255], 65535), ([7, 256, 9], 65535)])
def test_void_is_no_category(ids, void):
    infos = [{"id": label, "label_id": label, "score": 0.5} for label in range(3)]
    prediction = SemanticPrediction(torch.tensor([[0, 1, 2]]), infos)
    pixels = category_map(prediction.filter(labels=[0, 2]), ids)
    assert pixels.tolist() == [[ids[0], void, ids[2]]]
    assert pixels.dtype == (np.uint8 if void == 255 else np.uint16)


def test_ade20k_is_written_as_its_own_files_are(tmp_path):
    ade20k = categories_of_labels(label_names("ade20k"), [])
    predictions = export_all(open_export("label_png", tmp_path, ade20k), [IMAGE], [0])
    with Image.open(tmp_path / "labels" / "folder" / "a.png") as picture:
        assert np.array_equal(np.asarray(picture), predictions["a"]["semantic"].numpy() + 1)


def test_ids_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="from 0 to 65535 for PNG files, got 1 to 65536"):
        export_all(open_export("label_png", tmp_path, categories(1, 65536)), [IMAGE], [0])
