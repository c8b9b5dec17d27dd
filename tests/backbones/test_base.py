# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from unisegment.backbones.base import Backbone, crop_to_strides, pad_to_multiple


class Pyramid(Backbone):
    """A backbone whose maps can be told to be wrong."""

    def __init__(self, channels=(2, 3), strides=(4, 8), gives=None):
        super().__init__(channels, strides)
        self.gives = gives

    def extract(self, pixel_values):
        height, width = pixel_values.shape[-2:]
        right = [(c, -(-height // s), -(-width // s)) for c, s in zip(self.channels, self.strides, strict=True)]
        return [torch.zeros(len(pixel_values), *shape) for shape in self.gives or right]

    def load_pretrained(self, name_or_path):
        raise ValueError(f"{name_or_path!r} has no weights for this backbone.")


def test_maps_as_promised_pass_also_for_odd_sizes():
    features = Pyramid()(torch.zeros(2, 3, 37, 51))
    assert [tuple(feature.shape) for feature in features] == [(2, 2, 10, 13), (2, 3, 5, 7)]


@pytest.mark.parametrize(
    "gives", [[(2, 10, 13)], [(2, 10, 13), (4, 5, 7)], [(2, 13, 10), (3, 7, 5)], [(2, 10, 13), (3, 10, 13)]]
)
def test_maps_other_than_promised_are_named(gives):
    with pytest.raises(ValueError, match=r"Pyramid gave maps .* for an image of 37x51; channels \(2, 3\) at strides"):
        Pyramid(gives=gives)(torch.zeros(1, 3, 37, 51))


@pytest.mark.parametrize(("channels", "strides"), [((2,), (4, 8)), ((2, 3), (8, 4)), ((2, 3), (4, 4))])
def test_an_impossible_promise_is_named(channels, strides):
    with pytest.raises(ValueError, match="one map for each stride, strides ascending"):
        Pyramid(channels, strides)


def test_padding_lies_at_bottom_and_right():
    images = torch.rand(2, 3, 37, 51) + 1
    padded = pad_to_multiple(images, 16)
    assert padded.shape == (2, 3, 48, 64)
    assert torch.equal(padded[..., :37, :51], images)
    assert padded.count_nonzero() == images.numel()
    assert torch.equal(pad_to_multiple(padded, 16), padded)


def test_maps_of_padded_images_are_cropped_to_the_promise():
    maps = [torch.rand(2, 5, 12, 16), torch.rand(2, 7, 6, 8)]
    cropped = crop_to_strides(maps, (37, 51), (4, 8))
    assert [tuple(feature.shape[2:]) for feature in cropped] == [(10, 13), (5, 7)]
    assert torch.equal(cropped[0], maps[0][:, :, :10, :13])
