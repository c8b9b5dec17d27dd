# SPDX-License-Identifier: Apache-2.0
"""Maps that were resized smoothly are told from those that were not."""

import numpy as np
from PIL import Image

from tests.checking.data_sets import id_map
from unisegment.data.reading.blended_maps import is_blended


def test_smooth_resizing_is_told_from_nearest():
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 19, (11, 13), dtype=np.uint8) * 10)
    for method in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS):
        assert is_blended(np.asarray(coarse.resize((101, 97), method)).astype(np.int32))
    assert not is_blended(np.asarray(coarse.resize((101, 97), Image.Resampling.NEAREST)).astype(np.int32))
    assert not is_blended(id_map((29, 37)).astype(np.int32))
    assert not is_blended(np.zeros((1, 1), np.int32))
    # Thin things between two others are not enough.
    poles = np.full((97, 101), 2, np.int32)
    poles[:, 50:] = 9
    poles[30:70, 49] = 5
    assert not is_blended(poles)
