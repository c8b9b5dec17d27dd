# SPDX-License-Identifier: Apache-2.0
import pytest

from unisegment.models.eomt.mask_annealing import mask_probability


@pytest.mark.parametrize(
    ("progress", "expected"), [(0, 1), (0.199, 1), (0.2, 1), (0.3, 0.75**0.9), (0.4, 0.5**0.9), (0.6, 0), (1, 0)]
)
def test_falls_from_one_to_nothing_between_start_and_end(progress, expected):
    assert mask_probability(progress, 0.2, 0.6, 0.9) == pytest.approx(expected)


def test_can_fall_at_once():
    assert mask_probability(0.49, 0.5, 0.5, 0.9) == 1
    assert mask_probability(0.5, 0.5, 0.5, 0.9) == 0
