# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
from PIL import Image

from tests.inference.reads_colours import SAMPLES, make_predictor
from unisegment.data.export import EXPORT_FORMATS
from unisegment.inference.export_run import export_predictions
from unisegment.inference.picture_export import pictures_of
from unisegment.runs.part_folder import OtherRunError


def export(folder, task="panoptic", **options):
    formats = {**EXPORT_FORMATS, "pictures": pictures_of(task)}
    return export_predictions(make_predictor(), SAMPLES, folder, "pictures", formats=formats, **options)


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_every_image_is_drawn_and_its_segments_are_listed(tmp_path, task):
    assert export(tmp_path, task)["new"] == len(SAMPLES)
    listed = json.loads((tmp_path / "predictions.json").read_text())
    assert [entry["name"] for entry in listed] == [f"{number}.png" for number in range(len(SAMPLES))]
    for entry, sample in zip(listed, SAMPLES, strict=True):
        assert entry["task"] == task
        with Image.open(tmp_path / entry["picture"]) as picture:
            height, width = sample.size
            assert picture.width >= width
            assert picture.height == pytest.approx(picture.width * height / width, abs=1)
        assert {info["label"] for info in entry["segments_info"]} <= {"disc", "ring", "sky"}
    assert any(entry["segments_info"] for entry in listed)


def test_another_task_does_not_go_on_in_the_folder(tmp_path):
    export(tmp_path)
    assert export(tmp_path)["new"] == 0
    with pytest.raises(OtherRunError, match=r"task='semantic' \(before: 'panoptic'\)"):
        export(tmp_path, "semantic")


def test_each_image_is_told_of_when_it_is_written(tmp_path):
    told = []

    def tell(image, predictions):
        assert (tmp_path / image.file_name).is_file()
        assert np.array_equal(image.pixels, SAMPLES[len(told)].image)
        told.append((image.file_name, *predictions))

    export(tmp_path, on_image=tell)
    assert told == [(f"{number}.png", "panoptic") for number in range(len(SAMPLES))]
