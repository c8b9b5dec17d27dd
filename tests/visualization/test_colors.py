# SPDX-License-Identifier: Apache-2.0
"""The colour of a label is that of its name, everywhere; instances have shades of it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.visualization.eyes import NAMES, NO_GREEN, closest, colors_of
from unisegment.visualization import colors, label_colors, oklab
from unisegment.visualization.colors import segment_colors


def test_a_name_has_one_colour_however_it_is_spelled_and_whatever_its_number():
    known = label_colors({3: "tree", 9: "sky"})
    assert label_colors({0: "Tree-merged", 1: "sky-other-merged"}) == {0: known[3], 1: known[9]}
    assert label_colors({7: "trees", 2: "vegetation"}) == {7: known[3], 2: known[3]}
    assert len(set(colors_of(["dairy_cow", "DAIRY COW", "dairy cow, cattle"]))) == 1


def test_of_unknown_names_the_last_word_counts():
    names = [f"{kind} grass" for kind in ("tall", "wet", "dead", "mown")]
    hues = [np.degrees(oklab.to_lch(color)[2]) for color in colors_of([*names, "grass"])]
    assert np.ptp(hues) < 4
    assert len(set(colors_of([*names, "grass"]))) == 5


def test_names_of_any_kind_have_a_colour():
    names = [
        "",
        " ",
        ",",
        "汽车",
        "Möwe",
        "-",
        "LABEL_7",
        "7",
        "10000000000",
        "a" * 9999,
        "9" * 9999,
        "a " * 9999,
        "\udcff",
        "²",
    ]
    colors = list(colors_of(names))
    assert all(0 <= value <= 255 for color in colors for value in color)
    assert colors[6] == colors[7]


def test_unknown_names_seldom_look_alike():
    names = [f"{word}{ending}" for word in ("gizmo", "rivet", "weld", "dent", "blob") for ending in "abcdefghijklmnop"]
    colors = [colors_of(names, palette) for palette in ("natural", "colorblind")]
    assert len(set(colors[0])) > 60
    assert closest(set(colors[0])) > 7
    assert closest(set(colors[1]), NO_GREEN) > 3


def test_numbers_are_told_apart():
    assert closest(colors_of(map(str, range(20)))) > 20
    assert closest(colors_of(map(str, range(12)), "colorblind"), NO_GREEN) > 12
    assert len(set(colors_of(map(str, range(300))))) == 300


def test_colours_are_the_same_in_every_process():
    names = ["widget", "blue widget", "汽车", "5", "road", "gravel road"]
    # Without the package around it, which takes seconds to import.
    folder = str(Path(colors.__file__).parent)
    code = (
        "import sys, types; package = types.ModuleType('unisegment.visualization'); "
        f"package.__path__ = [{folder!r}]; sys.modules[package.__name__] = package; "
        f"from unisegment.visualization.colors import label_colors; print(label_colors(dict(enumerate({names!r}))))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "17", "PYTHONIOENCODING": "utf-8"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(label_colors(dict(enumerate(names))))


def test_colours_of_a_data_set_go_first():
    own = label_colors({0: "sky", 1: "road", 2: "cow"}, {0: (1, 2, 3), 2: np.array([4, 5, 6], np.uint8)})
    assert own == {0: (1, 2, 3), 1: label_colors({1: "road"})[1], 2: (4, 5, 6)}


@pytest.mark.parametrize(
    ("palette", "message"),
    [
        ("loud", r"palette must be one of natural, colorblind, or a dict from label to color, got 'loud'"),
        ({0: (1, 2)}, r"palette\[0\] must be red, green and blue, each from 0 to 255, got \(1, 2\)"),
        ({0: (0.5, 0.1, 0.9)}, r"palette\[0\] must be red, green and blue"),
        ({0: (256, 0, 0)}, r"palette\[0\] must be red, green and blue"),
        ({0: "red"}, r"palette\[0\] must be red, green and blue"),
    ],
)
def test_bad_palettes_are_refused(palette, message):
    with pytest.raises(ValueError, match=message):
        label_colors({0: "sky"}, palette)


@pytest.mark.parametrize("palette", ["natural", "colorblind"])
def test_instances_keep_the_hue_of_their_class(palette):
    for color in colors_of([*NAMES["COCO"], *NAMES["ADE20K"]], palette):
        shades = segment_colors([5] * 7, {5: color})
        assert tuple(shades[0].tolist()) == color
        lightness, chroma, hue = np.array([oklab.to_lch(tuple(shade)) for shade in shades.tolist()]).T
        assert np.abs(lightness - lightness[0]).max() < 0.25
        # Of a grey there is no hue, and of a dark colour a step in 8 bits is a wide angle.
        turned = np.angle(np.exp(1j * (hue - hue[0]))) * chroma
        assert np.abs(turned).max() < 0.006
        assert np.ptp(lightness) > 0.15
        assert np.diff(np.sort(lightness[:4])).min() > 0.01
