# SPDX-License-Identifier: Apache-2.0
"""The order of the changes, and options that make no sense."""

import numpy as np
import pytest
import torch

from tests.data.transforms.drawn_samples import Scripted, draw_sample
from unisegment.data.transforms import cropping, resizing
from unisegment.data.transforms.training import TrainTransform


def test_the_transform_flips_then_resizes_then_jitters():
    sample = draw_sample(53, 31)
    transform = TrainTransform(
        flip_prob=0.5, shortest_edge=37, longest_edge=61, jitter_size=(23, 19), jitter_scale=(0.5, 1.5)
    )
    changed = transform(sample, Scripted(0.4, 0.8, 0.3))
    expected = resizing.resize(cropping.flip(sample), (61, 36))
    expected = cropping.large_scale_jitter(expected, (23, 19), (0.5, 1.5), Scripted(0.8, 0.3))
    np.testing.assert_array_equal(changed.image, expected.image)
    assert torch.equal(changed.target.id_map, expected.target.id_map)


def test_without_options_only_half_of_the_samples_are_flipped():
    sample = draw_sample(5, 3)
    assert TrainTransform()(sample, Scripted(0.5)) is sample
    np.testing.assert_array_equal(TrainTransform()(sample, Scripted(0.49)).image, sample.image[:, ::-1])
    assert TrainTransform(flip_prob=0.0)(sample, Scripted(0.0)) is sample


def test_the_same_generator_state_gives_the_samedraw_sample():
    transform = TrainTransform(jitter_size=(23, 19))
    first, second = (transform(draw_sample(53, 31), np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip_prob": 1.5}, "flip_prob must be in"),
        ({"longest_edge": 1333}, "set shortest_edge"),
        ({"shortest_edge": ()}, r"shortest_edge must be 1 to 16,384 pixels, got \(\)"),
        ({"shortest_edge": (512, 0)}, "shortest_edge must be 1 to 16,384 pixels"),
        ({"shortest_edge": 8, "longest_edge": 0}, "longest_edge must be 1 to 2,147,483,647 pixels"),
        ({"crop_size": (512, 0)}, "crop_size must be 1 to 16,384 pixels"),
        ({"jitter_size": (-1, 512)}, "jitter_size must be 1 to 16,384 pixels"),
        ({"crop_size": (512, 512), "crop_category_max_area": 0.0}, r"crop_category_max_area must be in \(0, 1\]"),
        ({"crop_category_max_area": 0.75}, "set crop_size"),
        ({"pad_to_crop": True}, "set crop_size"),
        ({"crop_size": (512, 512), "jitter_size": (512, 512)}, "leave out either"),
        ({"jitter_scale": (2.0, 0.1)}, "the smaller one first"),
        ({"jitter_scale": (0.0, 1.0)}, "above 0"),
        ({"jitter_scale": (0.1, 1e9)}, "up to 10"),
        ({"jitter_size": (2**20, 2**20)}, "jitter_size must be 1 to 16,384 pixels"),
    ],
)
def test_senseless_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrainTransform(**options)
