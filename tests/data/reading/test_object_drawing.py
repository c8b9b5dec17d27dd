# SPDX-License-Identifier: Apache-2.0
"""Objects become one id map, or as many as lie on one another."""

import numpy as np

from tests.data.map_files import segments
from unisegment.data.reading.object_drawing import draw_objects


def test_objects_side_by_side_are_one_map():
    drawn = [(4, False, np.array([0, 1])), (2, False, np.array([], dtype=np.int64)), (4, True, np.array([5]))]
    target = draw_objects(drawn, (2, 3))
    assert target.masks is target.layers is None
    assert target.id_map.shape == (2, 3)
    assert segments(target) == [(4, False, [[1, 1, 0], [0, 0, 0]]), (4, True, [[0, 0, 0], [0, 0, 1]])]


def test_objects_that_overlap_are_in_several_layers():
    drawn = [(4, False, np.array([0, 1])), (2, True, np.array([1, 2])), (3, False, np.array([5]))]
    target = draw_objects(drawn, (2, 3))
    assert target.layers.tolist() == [0, 1, 0]
    assert target.id_map.tolist() == [[[1, 1, 0], [0, 0, 3]], [[0, 2, 2], [0, 0, 0]]]
    assert segments(target) == [
        (4, False, [[1, 1, 0], [0, 0, 0]]),
        (2, True, [[0, 1, 1], [0, 0, 0]]),
        (3, False, [[0, 0, 0], [0, 0, 1]]),
    ]


def test_no_objects():
    target = draw_objects([], (2, 3))
    assert (len(target), target.size) == (0, (2, 3))
