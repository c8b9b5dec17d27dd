# SPDX-License-Identifier: Apache-2.0
"""Sizes mean what they mean in transformers; those of results may be images, see the tests of post-processing."""

import copy
import pickle

import numpy as np
import pytest
from PIL import Image
from transformers import Mask2FormerImageProcessorPil
from transformers.image_utils import SizeDict

from unisegment.models.image_sizes import size_keys
from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor


def test_keys_of_sizes_are_attributes():
    for size in ({"height": 37, "width": 53}, {"shortest_edge": 37, "longest_edge": 53}):
        ours, stock = (cls(size=size).size for cls in (UniSegmentImageProcessor, Mask2FormerImageProcessorPil))
        for name in ("height", "width", "shortest_edge", "longest_edge", "max_height", "max_width"):
            assert getattr(ours, name) == getattr(stock, name)
    assert size_keys((37, 53), 0).height == 37
    with pytest.raises(AttributeError, match="A size has no 'depth'"):
        _ = ours.depth
    assert copy.deepcopy(ours) == pickle.loads(pickle.dumps(ours)) == ours


@pytest.mark.parametrize("shape", [(53, 71), (71, 53), (20, 131), (97, 97), (480, 641)])
def test_a_frame_is_filled_as_in_transformers(shape):
    size = {"max_height": 83, "max_width": 101}
    expected = Mask2FormerImageProcessorPil().resize(
        np.zeros((3, *shape), np.uint8), SizeDict(**size), resample=Image.Resampling.BILINEAR
    )
    assert size_keys(size, 0).of(shape) == expected.shape[1:]


def test_the_long_side_may_have_no_limit():
    assert size_keys(37, None) == {"shortest_edge": 37} == size_keys({"shortest_edge": 37, "longest_edge": None}, None)
    assert size_keys(37, None).of((10, 1000)) == (37, 3700)
    assert size_keys(37, 53) == {"shortest_edge": 37, "longest_edge": 53}
    assert size_keys({"shortest_edge": 37, "longest_edge": 41}, None).of((10, 1000)) == (1, 41)
