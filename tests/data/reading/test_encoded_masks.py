# SPDX-License-Identifier: Apache-2.0
"""Masks in base64: the pixels that went in come out, and whatever else stands there is refused before it grows."""

import base64
import re
import struct
import zlib

import numpy as np
import pytest

from tests.data.mask_trees import bitmap
from unisegment.data.reading.encoded_masks import pixels_of_encoded_mask, read_encoded_mask

RING = [[1, 1, 1], [1, 0, 0], [1, 1, 1], [0, 0, 1]]


def _packed(content):
    return base64.b64encode(zlib.compress(content)).decode()


def _png_head(width, height):
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", width, height, 8, 0, 0, 0, 0) + b"\0" * 4


@pytest.mark.parametrize("mode", ["palette", "alpha", "grey"])
def test_pixels_lie_where_the_corner_says(mode):
    """As a palette of two colours, one transparent, as the tool writes them; with an alpha channel; or in grey."""
    stored = bitmap(RING, (5, 2), mode)["bitmap"]
    drawn = np.zeros((7, 11), int)
    drawn.ravel()[pixels_of_encoded_mask(stored["data"], stored["origin"], (7, 11))] = 1
    expected = np.zeros((7, 11), int)
    expected[2:6, 5:8] = RING
    assert drawn.tolist() == expected.tolist()


def test_masks_may_be_compressed_once_or_twice():
    stored = bitmap(RING, (0, 0))["bitmap"]["data"]
    plain = base64.b64encode(zlib.decompress(base64.b64decode(stored))).decode()
    for text, is_compressed in ((stored, True), (plain, False)):
        mask = read_encoded_mask(text, (4, 3), is_compressed=is_compressed)
        assert mask.astype(int).tolist() == RING
        with pytest.raises(ValueError, match=r"a mask of 4x3 .* does not lie in the image of 3x4"):
            read_encoded_mask(text, (3, 4), is_compressed=is_compressed)


@pytest.mark.parametrize("corner", [(-1, 0), (0, -1), (9, 0), (0, 4), (2**31 - 1, 0)])
def test_a_mask_lies_in_its_image(corner):
    stored = bitmap(RING, corner)["bitmap"]
    with pytest.raises(ValueError, match=rf"mask of 4x3 .* x = {corner[0]}, y = {corner[1]} .* in the image of 7x11"):
        pixels_of_encoded_mask(stored["data"], stored["origin"], (7, 11))


@pytest.mark.parametrize(
    ("data", "corner", "message"),
    [
        (None, [0, 0], "data must be a text, got None"),
        ("eJw!", [0, 0], "data must be base64"),
        ("é", [0, 0], "data must be base64"),
        (base64.b64encode(b"no zlib").decode(), [0, 0], "data must be compressed by zlib: "),
        (base64.b64encode(zlib.compress(b"a" * 99)[:-6]).decode(), [0, 0], "by zlib: it ends too early"),
        (_packed(b"GIF89a" + b"\0" * 40), [0, 0], "data must be a PNG file, got other bytes"),
        (_packed(b"\x89PNG\r\n\x1a\n"), [0, 0], "data must be a PNG file, got other bytes"),
        (_packed(_png_head(3, 3)), [0, 0], "data cannot be read as an image"),
        (_packed(_png_head(50_000, 50_000)), [0, 0], "a mask of 50000x50000 .* does not lie in the image"),
        (_packed(b"\x89PNG\r\n\x1a\n" + b"\0" * 10**6), [0, 0], "has more than 65690 bytes, too many for its image"),
        (bitmap(RING, (0, 0))["bitmap"]["data"], [0], r"origin must be \[x, y\], got \[0\]"),
        (bitmap(RING, (0, 0))["bitmap"]["data"], {"x": 0}, r"origin must be \[x, y\]"),
        (bitmap(RING, (0, 0))["bitmap"]["data"], [0.5, 0], r"origin must be a whole number .*, got 0\.5"),
    ],
)
def test_what_is_no_mask_is_refused(data, corner, message):
    with pytest.raises(ValueError, match=message):
        pixels_of_encoded_mask(data, corner, (7, 11))


def test_a_message_is_a_line():
    with pytest.raises(ValueError, match=re.compile(r"\A.{10,200}\Z")):
        pixels_of_encoded_mask("x" * 10**6, [0, 0], (7, 11))
