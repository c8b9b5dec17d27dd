# SPDX-License-Identifier: Apache-2.0
import numpy as np
import torch

from tests.visualization.pictures import HEIGHT, WIDTH, id_map_of, image_of, infos_of, predictions_of_all_kinds
from unisegment.structures import PanopticPrediction
from unisegment.visualization import distinct_colors, draw, draw_sheet, sheet
from unisegment.visualization.fonts import Lettering


def test_a_sheet_shows_all_side_by_side_with_a_legend():
    predictions = predictions_of_all_kinds()
    shown = {title: predictions[title] for title in ("semantic", "instance", "panoptic")}
    drawn = draw_sheet(image_of(), shown, {0: "car", 4: "sky"})
    height, width = HEIGHT * 6, WIDTH * 6
    assert drawn.width > 4 * width
    assert drawn.height > height
    pixels = np.asarray(drawn)
    panels = [np.asarray(draw(image_of(), prediction, {0: "car", 4: "sky"})) for prediction in shown.values()]
    top = sheet._MARGIN + round(1.6 * sheet._TITLE_SIZE)
    for number, panel in enumerate(panels, 1):
        left = sheet._MARGIN + number * (width + sheet._GAP)
        np.testing.assert_array_equal(pixels[top : top + height, left : left + width], panel)
        assert (pixels[:top, left : left + width] < 128).any()
    legend = pixels[top + height :].reshape(-1, 3)
    for label in (0, 4):
        assert (legend == distinct_colors(5)[label]).all(axis=1).sum() > 200
    assert not (legend == distinct_colors(5)[2]).all(axis=1).any()


def test_a_long_legend_takes_several_lines():
    id_map = torch.arange(60).reshape(5, 12).repeat_interleave(13, 0).repeat_interleave(11, 1)
    prediction = PanopticPrediction(id_map, [{"id": i, "label_id": i, "score": 1.0} for i in range(60)])
    sheets = [
        draw_sheet(image_of(65, 132), {"panoptic": prediction}, dict.fromkeys(range(60), n)) for n in ("i", "long name")
    ]
    assert sheets[1].height > sheets[0].height
    assert sheets[1].width == sheets[0].width
    places, bottom = sheet._legend_places(dict.fromkeys(range(60), "long name"), 700, 11, Lettering())
    assert len(set(places.values())) == 60
    assert max(left for left, _ in places.values()) < 700 - sheet._MARGIN
    assert max(top for _, top in places.values()) < bottom


def test_large_images_are_shrunk_on_a_sheet():
    large = PanopticPrediction(id_map_of(1201, 2003), infos_of(1, 2, 3))
    drawn = draw_sheet(image_of(1201, 2003), {"panoptic": large})
    assert drawn.width < 2 * 1024 + 200
    assert draw_sheet(image_of(), {}).width < 6 * WIDTH + 100
