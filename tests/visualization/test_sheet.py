# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from PIL import Image

from tests.visualization.pictures import HEIGHT, WIDTH, id_map_of, image_of, infos_of, predictions_of_all_kinds
from unisegment.structures import PanopticPrediction
from unisegment.visualization import draw_sheet, label_colors, sheet
from unisegment.visualization.errors import draw_compared
from unisegment.visualization.fonts import Lettering

NAMES = {0: "car", 4: "sky"}


def test_a_sheet_shows_all_side_by_side_with_a_legend():
    predictions = predictions_of_all_kinds()
    shown = {title: predictions[title] for title in ("semantic", "instance", "panoptic")}
    drawn = draw_sheet(np.full((HEIGHT, WIDTH, 3), (90, 9, 9), np.uint8), shown, NAMES)
    height = round(640 * HEIGHT / WIDTH)
    # Four panels stand two by two.
    assert 2 * 640 < drawn.width < 2.2 * 640
    assert 2 * height < drawn.height < 2.6 * height
    pixels, colors = np.asarray(drawn), label_colors({**NAMES, 1: "road"})
    top, left = sheet._MARGIN + round(1.5 * sheet._TITLE_SIZE), sheet._MARGIN
    np.testing.assert_array_equal(pixels[top + height // 2, left + 300], (90, 9, 9))
    for row, column in ((0, 1), (1, 0), (1, 1)):
        y = top + row * (height + round(1.5 * sheet._TITLE_SIZE) + sheet._GAP)
        x = left + column * (640 + sheet._GAP)
        assert (pixels[y - 30 : y - 2, x : x + 200] < 128).any()  # a title
        mixed = 0.6 * np.array(colors[4]) + 0.4 * (np.array([90, 9, 9]) @ [0.299, 0.587, 0.114])
        np.testing.assert_allclose(pixels[y + 20, x + 20], mixed, atol=2)
    legend = pixels[-80:].reshape(-1, 3)
    for label in (0, 4):
        assert (legend == colors[label]).all(axis=1).sum() > 200
    assert not (legend == colors[1]).all(axis=1).any()


@pytest.mark.parametrize(("number", "columns"), [(0, 1), (1, 2), (2, 3), (3, 2), (4, 3), (5, 3)])
def test_panels_stand_in_up_to_three_columns(number, columns):
    prediction = predictions_of_all_kinds()["panoptic"]
    drawn = draw_sheet(image_of(), {f"number {place}": prediction for place in range(number)})
    assert columns * 640 < drawn.width < columns * 640 + 120
    assert drawn.height > -(-(number + 1) // columns) * 640 * HEIGHT / WIDTH


@pytest.mark.parametrize("size", [(1201, 2003), (1, 1), (2, 5000), (5000, 2)])
def test_images_of_any_size_fit(size):
    prediction = PanopticPrediction(id_map_of(*size), infos_of(1, 2, 3))
    drawn = draw_sheet(image_of(*size), {"panoptic": prediction})
    assert drawn.width < 2 * 640 + 120
    assert drawn.height < 640 + 240


def test_palettes_and_scores_are_passed_on():
    prediction = {"panoptic": predictions_of_all_kinds()["panoptic"]}
    plain = np.asarray(draw_sheet(image_of(), prediction, NAMES))
    for keywords in ({"palette": "colorblind"}, {"palette": {4: (1, 2, 3)}}, {"scores": True}):
        other = np.asarray(draw_sheet(image_of(), prediction, NAMES, **keywords))
        assert other.shape == plain.shape
        assert (other != plain).any()


def test_void_stands_in_the_legend_where_there_is_any():
    full = PanopticPrediction(torch.ones(HEIGHT, WIDTH, dtype=torch.int32), infos_of(4))
    some = PanopticPrediction(id_map_of(), infos_of(4, 4, 4))
    strips = [np.asarray(draw_sheet(image_of(), {"a": one}, {4: "sky"}))[-60:, 150:] for one in (full, some)]
    assert (strips[0] == 255).all()
    assert (strips[1] < 128).any()


@pytest.mark.parametrize("kind", ["semantic", "instance", "panoptic"])
def test_with_an_annotation_the_errors_of_the_last_prediction_are_shown(kind):
    predictions = {kind: predictions_of_all_kinds()[kind]}
    target = predictions_of_all_kinds()["id map"]
    plain, both = (draw_sheet(image_of(), predictions, NAMES, target=one) for one in (None, target))
    # The annotation and the errors make two by two of the image and one prediction.
    assert 2 * 640 < plain.width == both.width < 2 * 640 + 120
    size = (round(640 * HEIGHT / WIDTH), 640)
    errors, entries = draw_compared(
        Image.fromarray(image_of()), predictions[kind], target, NAMES, None, size, Lettering(), sheet._TEXT_SCALE
    )
    pixels = np.asarray(both)
    top = sheet._MARGIN + 2 * round(1.5 * sheet._TITLE_SIZE) + size[0] + sheet._GAP
    left = sheet._MARGIN + size[1] + sheet._GAP
    np.testing.assert_array_equal(pixels[top : top + size[0], left : left + size[1]], errors)
    assert entries[0].name == ("right 100.0 %" if kind == "semantic" else "right 3")
    assert (pixels[-60:] == entries[0].color).all(axis=-1).sum() > 200


def test_of_instances_things_alone_are_compared(monkeypatch):
    compared = []
    monkeypatch.setattr(sheet, "draw_compared", lambda *given: compared.append(given[4]) or (image_panel, []))
    image_panel = Image.new("RGB", (640, 402))
    for kind in ("instance", "panoptic"):
        predictions = {kind: predictions_of_all_kinds()[kind]}
        draw_sheet(image_of(), predictions, NAMES, target=predictions_of_all_kinds()["id map"], thing_label_ids={0})
    assert compared == [{0}, None]


def test_an_annotation_alone_has_no_errors():
    drawn = draw_sheet(image_of(), {}, NAMES, target=predictions_of_all_kinds()["id map"])
    assert 2 * 640 < drawn.width < 2 * 640 + 120
    assert drawn.height < 640
