# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.export.predictions import random_predictions
from unisegment import save
from unisegment.ops.masks import rgb_to_ids
from unisegment.ops.rle import decode_rle
from unisegment.structures import SemanticPrediction

FOUND = random_predictions(3, (29, 43), [0, 1], 3)


def read(path):
    infos = json.loads(path.with_suffix(".json").read_text())["segments_info"]
    with Image.open(path) as picture:
        return np.asarray(picture), infos


def test_panoptic(tmp_path):
    save(tmp_path / "new" / "a.png", FOUND["panoptic"], {0: "cat", 1: "dog"})
    pixels, infos = read(tmp_path / "new" / "a.png")
    assert np.array_equal(rgb_to_ids(pixels), FOUND["panoptic"].segmentation.numpy())
    for info, old in zip(infos, FOUND["panoptic"].segments_info, strict=True):
        assert info.get("label") == {0: "cat", 1: "dog"}.get(old["label_id"])
        assert {key: info[key] for key in old} == old


def test_instances_keep_masks_that_overlap(tmp_path):
    save(str(tmp_path / "a.png"), FOUND["instance"])
    _, infos = read(tmp_path / "a.png")
    assert torch.equal(decode_rle([info["segmentation"] for info in infos]), FOUND["instance"].masks)
    assert "segmentation" not in FOUND["instance"].segments_info[0]


@pytest.mark.parametrize(("factor", "dtype"), [(1, np.uint8), (200, np.uint16)])
def test_semantic(tmp_path, factor, dtype):
    labels = FOUND["semantic"].segmentation * factor
    save(tmp_path / "a.png", SemanticPrediction(labels, [{"id": 0, "label_id": 0, "score": 0.5}]))
    pixels, _ = read(tmp_path / "a.png")
    assert np.array_equal(pixels, labels.numpy())
    assert pixels.dtype == dtype


@pytest.mark.parametrize(("label", "dtype"), [(254, np.uint8), (255, np.uint16), (256, np.uint16)])
def test_void_of_labels_is_the_largest_number(tmp_path, label, dtype):
    info = {"id": label, "label_id": label, "score": 0.5}
    whole = SemanticPrediction(torch.tensor([[0, label]]), [info | {"id": 0, "label_id": 0}, info])
    save(tmp_path / "a.png", whole.filter(labels=[label]))
    pixels, infos = read(tmp_path / "a.png")
    assert pixels.tolist() == [[np.iinfo(dtype).max, label]]
    assert pixels.dtype == dtype
    assert infos == [info]


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match=r"saved as a \.png file"):
        save(tmp_path / "a.jpg", FOUND["panoptic"])
    with pytest.raises(ValueError, match="one of unisegment's predictions"):
        save(tmp_path / "a.png", {"segmentation": 1})
