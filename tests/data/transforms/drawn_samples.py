# SPDX-License-Identifier: Apache-2.0
"""Random samples, and random numbers that are known."""

import numpy as np
import torch

from tests.data.map_files import in_form
from unisegment.structures import Sample, SegmentationTarget


class Scripted(np.random.Generator):
    """A generator whose random numbers, all in [0, 1], are known."""

    def __init__(self, *numbers):
        super().__init__(np.random.PCG64(0))
        self.numbers = list(numbers)

    def uniform(self, low=0.0, high=1.0):
        return low + (high - low) * self.numbers.pop(0)


def draw_sample(height, width, form="id_map"):
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    id_map = torch.from_numpy(generator.choice([7, 2**24 - 1, 0], size=(height, width)).astype(np.int32))
    target = in_form(SegmentationTarget(labels=[3, 1], id_map=id_map, segment_ids=[7, 2**24 - 1]), form)
    return Sample(image, 5, "five.jpg", target=target)
