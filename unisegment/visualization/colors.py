# SPDX-License-Identifier: Apache-2.0
"""Names of labels in, colours out: the same name has the same colour in every checkpoint, data set and process.

Names of the well-known data sets have the colours of a table. Of other names the last words count, so that "gravel
road" is a shade of "road". What is still unknown has one of 192 colours by a hash of the name, so that two such names
look alike once in 192 times: give such labels colours of your own. Numbers count through 512 colours.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import UInt8

from unisegment.visualization.color_table import COLORS
from unisegment.visualization.oklab import is_shown, to_lab, to_lch, to_rgb

Color: TypeAlias = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""
Palette: TypeAlias = Literal["natural", "colorblind"] | Mapping[int, Color]
"""Things are vivid and stuff is muted and as people know it, or: colours that also those who see no difference of red
and green tell apart, or: colours of one's own by label, such as a data set's; other labels are then as in "natural"."""

_NAMED = ("natural", "colorblind")
_NUM_COLORS = 512
_NUM_HASHED = {"natural": 192, "colorblind": 64}
"""How many colours are for unknown names. More would be so close that many look alike, instead of few being equal."""
_FIRST_COLOR = (0.65, 0.16, -1.7)
"""A blue, in OKLab's lightness, chroma and hue."""
_MOST_WORDS = 3
"""Words of the longest names in the table."""
_SHADES = 0.12
"""How much lighter or darker than its label an instance is, in OKLab's lightness; twice that for extreme colours."""


def short_name(name: str) -> str:
    """Return a name without its synonyms behind a comma and without the endings of COCO's stuff: "tree-merged"."""
    first = re.split(r";|,(?!\d)", name)[0].strip()
    return re.sub(r"([\s_-]+(other|merged|stuff))+$", "", first) or name


def label_colors(id2label: Mapping[int, str], palette: Palette = "natural") -> dict[int, Color]:
    """Return the colour of each label.

    Args:
        id2label: Name of each label.
        palette: See `Palette`.

    Raises:
        ValueError: When there is no such palette, or a colour of one's own is not three numbers from 0 to 255.
    """
    own = palette if isinstance(palette, Mapping) else {}
    named = "natural" if isinstance(palette, Mapping) else palette
    if named not in _NAMED:
        raise ValueError(f"palette must be one of {', '.join(_NAMED)}, or a dict from label to color, got {palette!r}.")
    return {
        label: _checked(label, own[label]) if label in own else _color_of_name(str(name), named)
        for label, name in id2label.items()
    }


def _checked(label: int, color: Color) -> Color:
    values = np.asarray(color)
    if values.shape != (3,) or values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
        raise ValueError(f"palette[{label}] must be red, green and blue, each from 0 to 255, got {color!r}.")
    return int(values[0]), int(values[1]), int(values[2])


@cache
def _color_of_name(name: str, palette: str) -> Color:
    words = [word for word in re.split(r"[\W_]+", short_name(name).casefold()) if word]
    number = int.from_bytes(sha256(" ".join(words).encode("utf-8", "replace")).digest()[:4], "big")
    for start in range(len(words))[-_MOST_WORDS:]:
        known = " ".join(words[start:])
        color = COLORS.get(known) or COLORS.get(known.removesuffix("s"))
        if color is not None:
            shift = 0 if start == 0 else _SHADES * (2 * (number / 2**32) - 1)
            return _shaded(color[_NAMED.index(palette)], shift)
    if words and words[-1].isdecimal() and len(words[-1]) < 9 and words[:-1] in ([], ["label"]):
        return _spread_colors(palette)[int(words[-1]) % _NUM_COLORS]
    return _spread_colors(palette)[number % _NUM_HASHED[palette]]


@cache
def _spread_colors(palette: str) -> list[Color]:
    """Return colours of which each is the farthest from all before it."""
    lightest, darkest = (0.85, 0.55) if palette == "natural" else (0.92, 0.4)
    grid = np.meshgrid(
        np.linspace(darkest, lightest, 9), np.linspace(0.07, 0.2, 9), np.linspace(-np.pi, np.pi, 73)[1:], indexing="ij"
    )
    candidates = np.stack(grid, axis=-1).reshape(-1, 3)
    candidates = candidates[is_shown(candidates)]
    # Who sees no difference of red and green sees almost nothing of OKLab's second axis.
    points = to_lab(candidates) * [1, 1 if palette == "natural" else 0.1, 1]
    chosen = [int(np.abs(candidates - _FIRST_COLOR).sum(axis=1).argmin())]
    distance = np.full(len(points), np.inf)
    while len(chosen) < _NUM_COLORS:
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(distance.argmax()))
    return [(red, green, blue) for red, green, blue in to_rgb(candidates[chosen]).tolist()]


def segment_colors(labels: Sequence[int], colors: Mapping[int, Color]) -> UInt8[np.ndarray, "n 3"]:
    """Return the colour of its label for the first segment of a label, and lighter and darker ones for the others."""
    seen: dict[int, int] = {}
    found = np.zeros((len(labels), 3), dtype=np.uint8)
    for index, label in enumerate(labels):
        number = seen[label] = seen.get(label, -1) + 1
        # Multiples of the golden ratio spread evenly over a line however many there are.
        shift = 0 if number == 0 else _SHADES * (2 * ((0.5 + 0.6180340 * number) % 1) - 1)
        found[index] = _shaded(colors[label], shift)
    return found


@cache
def _shaded(color: Color, shift: float) -> Color:
    """Return a colour of the same hue that is lighter, or darker if `shift` is negative."""
    if shift == 0:
        return color
    lightness, chroma, hue = to_lch(color)
    # Not so dark or light that the hue would not be seen.
    wanted = min(max(lightness, 0.3 + _SHADES), 0.95 - _SHADES) + shift
    if abs(wanted - lightness) < 0.02:
        wanted += 0.03
    # The most colourful of this hue that a screen shows.
    paler = np.array([(wanted, chroma * part, hue) for part in np.linspace(1, 0, 41)])
    red, green, blue = to_rgb(paler[is_shown(paler)][:1])[0].tolist()
    return red, green, blue


def plate_color(color: Color) -> Color:
    """Return a dark colour of the same hue, on which white is read well."""
    _, chroma, hue = to_lch(color)
    red, green, blue = to_rgb(np.array([(0.27, min(chroma, 0.055), hue)]))[0].tolist()
    return red, green, blue
