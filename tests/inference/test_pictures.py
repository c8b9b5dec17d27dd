# SPDX-License-Identifier: Apache-2.0
import pytest
from PIL import Image

from tests.inference.reads_colours import SAMPLES, Torn, make_predictor
from unisegment.inference import pictures
from unisegment.inference.pictures import draw_images


def test_chosen_images_are_drawn_one_after_the_other(monkeypatch):
    drawn = []

    def keep(image, predictions, id2label):
        drawn.append(list(predictions))
        return Image.fromarray(image)

    monkeypatch.setattr(pictures, "draw_sheet", keep)
    found = draw_images(make_predictor(), SAMPLES, [4, 2], tasks=("semantic", "panoptic"))
    assert next(found)[0] == "00004_4.png"
    assert drawn == [["semantic", "panoptic", "annotation"]]
    assert next(found)[0] == "00002_2.png"


def test_images_that_cannot_be_read_are_left_out_or_raise():
    problems = []
    found = draw_images(make_predictor(), Torn(SAMPLES), [1, 2], on_unreadable=problems.extend)
    assert [name for name, _ in found] == ["00002_2.png"]
    assert problems == ["1.png is gone"]
    with pytest.raises(FileNotFoundError):
        list(draw_images(make_predictor(), Torn(SAMPLES), [1]))
