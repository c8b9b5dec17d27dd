# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest
from PIL import Image

from tests.inference.reads_colours import NUM_LABELS, SAMPLES, ReadsColours, Torn, make_predictor, make_processor
from unisegment.inference import pictures
from unisegment.inference.pictures import draw_images
from unisegment.inference.predictor import Predictor


def test_chosen_images_are_drawn_one_after_the_other(monkeypatch):
    drawn = []

    def keep(image, predictions, id2label, **keywords):
        drawn.append(list(predictions))
        return Image.fromarray(image)

    monkeypatch.setattr(pictures, "draw_sheet", keep)
    found = draw_images(make_predictor(), SAMPLES, [4, 2], tasks=("semantic", "panoptic"))
    assert next(found)[0] == "00004_4.png"
    assert drawn == [["semantic", "panoptic"]]
    assert next(found)[0] == "00002_2.png"


def test_stuff_is_not_drawn_as_an_instance(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        pictures, "draw_sheet", lambda image, predictions, id2label, **keywords: drawn.append(predictions)
    )
    list(draw_images(make_predictor(), SAMPLES, [0]))
    labels = {kind: {info["label_id"] for info in drawn[0][kind].segments_info} for kind in ("instance", "panoptic")}
    assert labels == {"instance": {0}, "panoptic": {0, 2}}


def test_without_things_there_is_no_panel_of_instances(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        pictures, "draw_sheet", lambda image, predictions, id2label, **keywords: drawn.append(list(predictions))
    )
    predictor = Predictor(ReadsColours(), make_processor(stuff_label_ids=range(NUM_LABELS)))
    list(draw_images(predictor, SAMPLES, [0]))
    assert drawn == [["semantic", "panoptic"]]


def test_images_that_cannot_be_read_are_left_out_or_raise():
    problems = []
    found = draw_images(make_predictor(), Torn(SAMPLES), [1, 2], on_unreadable=problems.extend)
    assert [name for name, _ in found] == ["00002_2.png"]
    assert problems == ["1.png is gone"]
    with pytest.raises(FileNotFoundError):
        list(draw_images(make_predictor(), Torn(SAMPLES), [1]))


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("a/" + "é" * 126 + ".png", "00000_" + "é" * 75 + ".png"),
        ("caf\udce9.png", "00000_caf.png"),
        ("..", "00000_...png"),
    ],
)
def test_every_image_has_a_picture(monkeypatch, file_name, name):
    monkeypatch.setattr(pictures, "draw_sheet", lambda image, predictions, id2label, **keywords: Image.fromarray(image))
    samples = [replace(SAMPLES[0], file_name=file_name)]
    ((found, _),) = draw_images(make_predictor(), samples, [0], tasks=("semantic",))
    assert found == name
