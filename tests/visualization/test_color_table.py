# SPDX-License-Identifier: Apache-2.0
"""Classes of one data set are told apart, by any eyes, and stuff looks as people know it."""

import numpy as np
import pytest

from tests.visualization.eyes import NAMES, NO_GREEN, NO_RED, closest, colors_of
from unisegment.data.categories import COCO_PANOPTIC
from unisegment.visualization import oklab


# A difference of 2.3 is just noticeable.
@pytest.mark.parametrize(
    ("data_set", "bound"),
    [("COCO", 7), ("ADE20K", 7), ("Vistas", 6), ("Cityscapes", 14), ("CamVid", 14), ("scenes", 30)],
)
def test_classes_of_one_data_set_differ(data_set, bound):
    assert closest(colors_of(NAMES[data_set])) > bound


@pytest.mark.parametrize("eyes", [None, NO_GREEN, NO_RED])
@pytest.mark.parametrize(
    ("data_set", "bound"),
    [("COCO", 3), ("ADE20K", 3), ("Vistas", 4), ("Cityscapes", 9), ("CamVid", 9), ("scenes", 9)],
)
def test_eyes_that_see_no_red_or_green_tell_classes_apart(data_set, bound, eyes):
    assert closest(colors_of(NAMES[data_set], "colorblind"), eyes) > bound


def test_the_natural_palette_is_not_safe_for_all_eyes():
    # So that there is a reason for the other one.
    assert closest(colors_of(NAMES["Cityscapes"]), NO_GREEN) < closest(
        colors_of(NAMES["Cityscapes"], "colorblind"), NO_GREEN
    )


@pytest.mark.parametrize(
    ("names", "hues"),
    [
        ("tree; vegetation; grass; field; plant; palm; terrain; potted plant; Tree-merged; grass-merged", (110, 160)),
        ("sky; sky-other-merged; sea; river; lake; water-other; swimming pool; waterfall", (195, 270)),
        ("dirt-merged; soil; earth; sand; building; building-other-merged; house", (10, 105)),
    ],
)
def test_stuff_has_its_own_hue(names, hues):
    for name in names.split("; "):
        (color,) = colors_of([name])
        _, chroma, hue = oklab.to_lch(color)
        assert hues[0] <= np.degrees(hue) % 360 <= hues[1], name
        assert chroma > 0.03, name


def test_roads_are_grey_and_snow_is_white():
    for color in colors_of(["road", "sidewalk", "pavement-merged", "gravel", "runway"]):
        assert np.ptp(color) < 40
    assert min(*colors_of(["snow"])) > 220


def test_vivid_things_stand_out_of_muted_stuff():
    chroma = {name: oklab.to_lch(color)[1] for name, color in zip(NAMES["COCO"], colors_of(NAMES["COCO"]), strict=True)}
    things = [chroma[name] for name, is_thing in COCO_PANOPTIC.items() if is_thing]
    stuff = [chroma[name] for name, is_thing in COCO_PANOPTIC.items() if not is_thing]
    assert np.median(things) > 1.5 * np.median(stuff)
