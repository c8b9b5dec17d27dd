# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from tests.visualization.pictures import COLORS, NOTHING, image_of, predictions_of_all_kinds
from unisegment.visualization import draw, label_colors
from unisegment.visualization.fonts import Lettering
from unisegment.visualization.legend import Entry, draw_legend
from unisegment.visualization.painting import hatch, stripes


def test_a_legend_is_added_below():
    prediction = predictions_of_all_kinds()["panoptic"]
    plain, with_legend = (np.asarray(draw(image_of(), prediction, {4: "sky"}, legend=on)) for on in (False, True))
    np.testing.assert_array_equal(with_legend[: len(plain)], plain)
    strip = with_legend[len(plain) :]
    for color in (COLORS[0], label_colors({4: "sky"})[4]):
        assert (strip == color).all(axis=-1).sum() > 150
    # Three labels would be one chip more, and there is void.
    hatched = hatch(np.full((20, 20), 128, np.float32), stripes((20, 20))).astype(np.uint8)
    chips = np.lib.stride_tricks.sliding_window_view(strip[..., 0], (15, 15))
    assert (chips == hatched[:15, :15]).all(axis=(-1, -2)).any()


def test_a_legend_of_nothing_is_void():
    assert draw(image_of(), NOTHING, legend=True).height > 503


def test_names_in_a_legend_are_cut_where_they_are_too_long():
    prediction = predictions_of_all_kinds()["semantic"]
    picture = draw(image_of(), prediction, {0: "very " * 99 + "long", 4: "a\nname\tof lines"}, legend=True)
    strip = np.asarray(picture)[503:]
    assert picture.width == 800
    assert (strip[:, -15:] == 255).all()


def test_a_long_legend_takes_several_lines_and_holds_all():
    entries = [Entry(name, (place, 99, 255 - place)) for place, name in enumerate(["long name"] * 60)]
    strip = np.asarray(draw_legend(entries, 700, 20, Lettering()))
    assert strip.shape[1] == 700
    for entry in entries:
        assert (strip == entry.color).all(axis=-1).sum() > 300
    assert draw_legend(entries[:3], 700, 20, Lettering()).height < 25


def test_names_longer_than_the_legend_are_cut():
    strip = np.asarray(draw_legend([Entry("W" * 500, (0, 0, 0))], 300, 20, Lettering()))
    assert strip.shape == (22, 300, 3)
    assert (strip[:, -6:] == 255).all()
    assert (strip[:, 200:280] < 128).any()


@pytest.mark.parametrize(("size", "width"), [((300, 2), 320), ((2, 50_000), 50_000), ((1, 1), 800)])
def test_narrow_pictures_have_a_legend_that_is_read(size, width):
    labels = torch.full(size, 3)
    picture, plain = (draw(image_of(*size), labels, {3: "sky"}, legend=on) for on in (True, False))
    assert picture.width == width
    assert plain.height + 30 < picture.height < plain.height + 80
