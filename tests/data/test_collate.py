# SPDX-License-Identifier: Apache-2.0
"""Images of different size lie at the top left of one canvas, with 0 and void around them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers.image_transforms import normalize, rescale

from unisegment.data.collate import Collate, normalize_image, pad_images, pad_target, padded_size
from unisegment.structures import Sample, SegmentationTarget

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def _image(height, width):
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _sample(height, width, **fields):
    id_map = torch.arange(height * width).reshape(height, width) % 3
    target = SegmentationTarget(labels=[5, 2, 8], id_map=id_map, segment_ids=[0, 1, 2], **fields)
    return Sample(_image(height, width), 1, "one.jpg", target=target)


def test_normalisation_is_that_of_transformers():
    image = _image(7, 5)
    expected = normalize(rescale(image, 1 / 255, dtype=np.float64), MEAN, STD).transpose(2, 0, 1)
    result = normalize_image(image, MEAN, STD)
    assert result.dtype == torch.float32
    assert result.is_contiguous()
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_normalisation_can_fill_a_part_of_a_canvas():
    canvas = torch.full((3, 11, 13), 9.0)
    normalize_image(_image(7, 5), MEAN, STD, out=canvas[:, 2:9, 3:8])
    assert torch.equal(canvas[:, 2:9, 3:8], normalize_image(_image(7, 5), MEAN, STD))
    assert (canvas == 9).sum() == 3 * (11 * 13 - 7 * 5)


def test_normalisation_with_another_scale_leaves_the_image_as_it_is():
    image = _image(7, 5)
    before = image.copy()
    result = normalize_image(image, [3.0, 1.0, 2.0], [2.0, 2.0, 4.0], rescale_factor=0.5)
    np.testing.assert_array_equal(image, before)
    assert result[0, 4, 3] == (image[4, 3, 0] / 2 - 3) / 2
    assert result[2, 0, 1] == (image[0, 1, 2] / 2 - 2) / 4


def test_read_only_and_mirrored_images_can_be_normalised():
    image = _image(7, 5)
    mirrored = image[:, ::-1]
    mirrored.setflags(write=False)
    assert torch.equal(normalize_image(mirrored, MEAN, STD), normalize_image(image, MEAN, STD).flip(2))


@pytest.mark.parametrize(
    ("sizes", "divisor", "expected"),
    [([(31, 65), (33, 2)], 32, (64, 96)), ([(32, 64)], 32, (32, 64)), (iter([(31, 7), (5, 11)]), 1, (31, 11))],
)
def test_the_canvas_holds_all_sizes(sizes, divisor, expected):
    assert padded_size(sizes, divisor) == expected


def test_images_are_padded_with_zeros_at_the_bottom_and_right():
    images = [torch.full((2, 3, 5), 7.0), torch.full((2, 4, 2), 8.0)]
    pixel_values, pixel_mask = pad_images(images, (5, 7))
    assert pixel_values.shape == (2, 2, 5, 7)
    assert pixel_mask.dtype == torch.int64
    assert (pixel_values[0, :, :3, :5] == 7).all()
    assert (pixel_values[1, :, :4, :2] == 8).all()
    assert pixel_values[0].sum() == 7 * 2 * 3 * 5
    assert torch.equal(pixel_mask, (pixel_values[:, 0] != 0).long())
    with pytest.raises(ValueError, match=r"Cannot pad 3x5 .* smaller 5x3"):
        pad_images(images, (5, 3))


@pytest.mark.parametrize("segment_ids", [[0, 1, 2], [1, 2], [0, 2], [2**24 - 1]])
def test_targets_are_padded_with_void(segment_ids):
    id_map = torch.tensor(segment_ids).repeat(3, 7)
    target = SegmentationTarget(labels=[1] * len(segment_ids), id_map=id_map, segment_ids=segment_ids)
    padded = pad_target(target, (5, 29))
    assert padded.size == (5, 29)
    assert torch.equal(padded.binary_masks()[:, :3, : id_map.shape[1]], target.binary_masks())
    assert padded.binary_masks().sum() == id_map.numel()


def test_masks_are_padded_with_false():
    target = SegmentationTarget(labels=[1], masks=torch.ones(1, 3, 5))
    padded = pad_target(target, (5, 7)).masks
    assert padded.sum() == 15
    assert padded[0, :3, :5].all()
    with pytest.raises(ValueError, match=r"Cannot pad 3x5"):
        pad_target(target, (2, 7))


def test_a_batch_has_one_canvas_and_no_crowds():
    samples = [_sample(3, 5), _sample(7, 2, is_crowd=torch.tensor([False, True, False]))]
    batch = Collate(MEAN, STD, size_divisor=4)(samples)
    assert set(batch) == {"pixel_values", "pixel_mask", "mask_labels", "class_labels"}
    assert batch["pixel_values"].shape == (2, 3, 8, 8)
    assert torch.equal(batch["pixel_values"][1, :, :7, :2], normalize_image(samples[1].image, MEAN, STD))
    assert batch["pixel_mask"].sum(dim=(1, 2)).tolist() == [15, 14]
    assert [target.size for target in batch["mask_labels"]] == [(8, 8), (8, 8)]
    assert [labels.tolist() for labels in batch["class_labels"]] == [[5, 2, 8], [5, 8]]
    first, second = (target.binary_masks() for target in batch["mask_labels"])
    assert torch.equal(first[:, :3, :5], samples[0].target.binary_masks())
    assert torch.equal(second[:, :7, :2], samples[1].target.binary_masks()[[0, 2]])
    assert second.sum() == samples[1].target.binary_masks()[[0, 2]].sum()


def test_an_image_of_crowds_alone_stays_in_the_batch():
    sample = _sample(3, 5, is_crowd=torch.ones(3, dtype=torch.bool))
    batch = Collate(MEAN, STD)([sample])
    assert batch["class_labels"][0].shape == (0,)
    assert batch["mask_labels"][0].binary_masks().shape == (0, 32, 32)


def test_bad_samples_are_refused_by_name():
    sample = _sample(3, 5)
    with pytest.raises(ValueError, match=r"one.jpg: the image is 7x5 .*target is 3x5"):
        Collate(MEAN, STD)([replace(sample, image=_image(7, 5))])
    with pytest.raises(ValueError, match=r"one.jpg: the image is empty \(0x5"):
        Collate(MEAN, STD)([replace(sample, image=_image(0, 5))])
    with pytest.raises(ValueError, match=r"one.jpg: pad_size is too small. Cannot pad 3x5"):
        Collate(MEAN, STD, size_divisor=2, pad_size=(5, 3))([sample])


def test_what_lies_beyond_an_image_may_have_a_colour():
    images = [torch.zeros(3, 2, 3), torch.zeros(3, 4, 5)]
    canvas, mask = pad_images(images, (4, 5), (1.0, 2.0, 3.0))
    for channel, number in enumerate((1.0, 2.0, 3.0)):
        assert torch.equal(canvas[0, channel], number * (1 - mask[0]))
    assert not canvas[1].any()
    sample = Sample(_image(3, 5), 0, "a.png", target=SegmentationTarget(labels=[], masks=torch.zeros(0, 3, 5)))
    batch = Collate(MEAN, STD, size_divisor=4, padding=(1.0, 2.0, 3.0))([sample])
    assert batch["pixel_values"][0, :, 3].T.tolist() == [[1, 2, 3]] * 8
    assert Collate(MEAN, STD, size_divisor=4)([sample])["pixel_values"][0, :, 3].abs().max() == 0
