# SPDX-License-Identifier: Apache-2.0
"""Whole transforms against a naive version, written from the order and the formulas of the original code.

The naive version knows one boolean mask for each segment and resizes them by formulas. Colours have tests of their own.
"""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from tests.data.map_files import in_form
from unisegment.data.transforms import cropping, resizing
from unisegment.data.transforms.color import ssd_color
from unisegment.data.transforms.training import TrainTransform
from unisegment.runs.data_recipe import DataRecipe
from unisegment.runs.recipe import Recipe, RunRecipe, ScheduleRecipe, load_recipe
from unisegment.structures import Sample, SegmentationTarget
from unisegment.training.batches import TransformedSamples

LABELS = [3, 1, 3, 0, 2]
IDS = [7, 2**24 - 1, 70_000, 1, 900]
CROWD = [False, True, False, False, False]


def _sample(height, width, form="id_map", seed=0):
    """Five segments, the last one without a pixel, and void between them, in blocks."""
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    blocks = generator.choice([*IDS[:4], 5], size=(height // 5 + 1, width // 4 + 1))
    id_map = torch.from_numpy(blocks.repeat(5, 0).repeat(4, 1)[:height, :width].astype(np.int32))
    target = SegmentationTarget(labels=LABELS, id_map=id_map, segment_ids=IDS, is_crowd=CROWD)
    return Sample(image, 5, "five.jpg", target=in_form(target, form))


def _naive_edges(size, shortest, longest):
    height, width = (Fraction(side * shortest, min(size)) for side in size)
    if longest is not None and max(height, width) > longest:
        height, width = (side * longest / max(height, width) for side in (height, width))
    return tuple(max(int(side + Fraction(1, 2)), 1) for side in (height, width))


def _naive_nearest(masks, size, nearest):
    def places(old, new):
        if nearest == "center":
            return [(2 * index + 1) * old // (2 * new) for index in range(new)]
        return [index * old // new for index in range(new)]

    return masks[:, places(masks.shape[1], size[0])][:, :, places(masks.shape[2], size[1])]


def _naive_pad(image, masks, size):
    canvas, wide = np.full((*size, 3), 128, np.uint8), np.zeros((len(masks), *size), bool)
    canvas[: image.shape[0], : image.shape[1]] = image
    wide[:, : image.shape[0], : image.shape[1]] = masks
    return canvas, wide


def _naive_resize(image, masks, size, nearest):
    image = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    return image, _naive_nearest(masks, size, nearest)


def _naive_window(image, masks, size, max_area, generator):
    height, width = (min(old, new) for old, new in zip(image.shape, size, strict=False))
    for _ in range(10 if max_area < 1 else 1):
        top = generator.integers(image.shape[0] - height + 1)
        left = generator.integers(image.shape[1] - width + 1)
        window = masks[:, top : top + height, left : left + width]
        categories = np.full((height, width), 255)
        for label, mask in zip(LABELS, window, strict=True):
            categories[mask] = label
        counts = np.unique(categories[categories != 255], return_counts=True)[1]
        if len(counts) > 1 and counts.max() < counts.sum() * max_area:
            break
    return image[top : top + height, left : left + width], window


def _naive_original(image, masks, options, generator):
    """Resize, crop, colours, flip and padding: the way of ADE20K, Cityscapes and Mapillary Vistas."""
    edge = options.shortest_edge[generator.integers(len(options.shortest_edge))]
    size = _naive_edges(image.shape[:2], edge, options.longest_edge)
    image, masks = _naive_resize(image, masks, size, options.nearest)
    image, masks = _naive_window(image, masks, options.crop_size, options.crop_category_max_area, generator)
    image = ssd_color(image, generator) if options.ssd_color else image
    if generator.uniform() < 0.5:
        image, masks = image[:, ::-1], masks[:, :, ::-1]
    if options.pad_to_crop:
        image, masks = _naive_pad(image, masks, options.crop_size)
    return image, masks


def _naive_jitter(image, masks, options, generator):
    """Flip and large scale jitter: the way of COCO."""
    if generator.uniform() < 0.5:
        image, masks = np.ascontiguousarray(image[:, ::-1]), masks[:, :, ::-1]
    wanted = np.array(options.jitter_size)
    scale = (generator.uniform(*options.jitter_scale) * wanted / image.shape[:2]).min()
    size = tuple(int(side) for side in np.round(np.multiply(image.shape[:2], scale)))
    image, masks = _naive_resize(image, masks, size, options.nearest)
    top, left = np.round(np.maximum(np.array(size) - wanted, 0) * generator.uniform()).astype(int)
    window = slice(top, top + wanted[0]), slice(left, left + wanted[1])
    return _naive_pad(image[window], masks[:, *window], options.jitter_size)


def _check(transform, naive, sample, seed):
    masks = sample.target.binary_masks().numpy()
    ours, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
    changed = transform(sample, ours)
    image, masks = naive(sample.image, masks, transform, theirs)
    assert np.abs(changed.image.astype(int) - image).max() <= 1
    keep = masks.any((1, 2)) if transform.drop_empty else np.full(len(masks), True)
    np.testing.assert_array_equal(changed.target.binary_masks(), masks[keep])
    assert changed.target.labels.tolist() == np.array(LABELS)[keep].tolist()
    assert changed.target.is_crowd.tolist() == np.array(CROWD)[keep].tolist()
    assert ours.bit_generator.state == theirs.bit_generator.state
    assert (changed.image_id, changed.file_name) == (5, "five.jpg")


# Odd lengths: the centre of a new pixel then never lies on a border, where rounding errors would decide.
@pytest.mark.parametrize("form", ["id_map", "layers"])
@pytest.mark.parametrize("size", [(53, 97), (71, 31), (13, 7), (1, 1), (1, 37)])
@pytest.mark.parametrize(
    "options",
    [
        {"crop_size": (29, 41), "pad_to_crop": True, "ssd_color": True, "nearest": "corner", "drop_empty": True},
        {"crop_size": (29, 41), "pad_to_crop": True, "crop_category_max_area": 0.4},
        {"crop_size": (17, 11), "crop_category_max_area": 0.75, "nearest": "corner"},
        {"crop_size": (1, 1), "drop_empty": True},
        {"crop_size": (211, 307), "ssd_color": True},
    ],
)
def test_crops_are_those_of_the_original(options, size, form):
    transform = TrainTransform(shortest_edge=(23, 38, 61, 76), longest_edge=103, **options)
    for seed in range(4):
        _check(transform, _naive_original, _sample(*size, form), seed)


@pytest.mark.parametrize("form", ["id_map", "layers"])
@pytest.mark.parametrize("size", [(53, 97), (71, 31), (13, 7), (1, 1)])
@pytest.mark.parametrize("options", [{}, {"drop_empty": True, "nearest": "corner"}])
def test_jitter_is_that_of_the_original(options, size, form):
    transform = TrainTransform(jitter_size=(37, 46), jitter_scale=(0.3, 2.0), **options)
    for seed in range(4):
        _check(transform, _naive_jitter, _sample(*size, form), seed)


@pytest.mark.parametrize("size", [(29, 17), (107, 211), (53, 97), (1, 1), (2, 300)])
def test_images_are_averaged_under_a_triangle(size):
    image = _sample(53, 97).image

    def weights(old, new):
        stretch = max(old / new, 1)
        distance = (np.arange(old) + 0.5)[None] - (np.arange(new) + 0.5)[:, None] * old / new
        triangle = np.maximum(1 - np.abs(distance) / stretch, 0)
        return triangle / triangle.sum(1, keepdims=True)

    rows, columns = (weights(old, new) for old, new in zip(image.shape, size, strict=False))
    narrow = np.einsum("vw,hwc->hvc", columns, image).round()
    expected = np.einsum("uh,hvc->uvc", rows, narrow).round()
    assert np.abs(resizing.resize_image(image, size) - expected).max() <= 1
    assert np.abs(resizing.resize_image_fast(image, size) - expected).max() <= 1


@pytest.mark.parametrize("size", [(29, 17), (106, 194), (53, 97), (1, 1), (80, 64)])
def test_labels_at_corners_are_those_of_torch(size):
    target = _sample(53, 97).target
    # The original hands label maps to torch as floating-point numbers.
    expected = F.interpolate(target.id_map.double()[None, None], size, mode="nearest")[0, 0]
    assert torch.equal(resizing.resize_target(target, size, "corner").id_map.double(), expected)


def _halves(left_label, right_label):
    id_map = torch.tensor([[1] * 8 + [2] * 8])
    target = SegmentationTarget(labels=[left_label, right_label], id_map=id_map, segment_ids=[1, 2])
    return Sample(np.zeros((1, 16, 3), np.uint8), 0, "", target=target)


def test_windows_of_one_category_are_drawn_again_at_most_ten_times():
    class Lefts(np.random.Generator):
        def __init__(self, *lefts):
            super().__init__(np.random.PCG64(0))
            self.numbers = [number for left in lefts for number in (0, left)]

        def integers(self, high):
            assert self.numbers[0] < high
            return self.numbers.pop(0)

    def window(sample, *lefts, max_area=0.75):
        generator = Lefts(*lefts)
        cropped = cropping.random_crop(sample, (3, 4), max_area, generator)
        return cropped.target.id_map.tolist()[0], len(generator.numbers) // 2

    mixed = _halves(4, 0)
    assert window(mixed, 0, 12, 6, 7) == ([1, 1, 2, 2], 1)
    # 3 of 4 pixels are not below 0.75 of them.
    assert window(mixed, 5, 7, 6) == ([1, 1, 2, 2], 0)
    assert window(mixed, *[0] * 9, 12, 6) == ([2, 2, 2, 2], 1)
    assert window(mixed, 0, 6, max_area=1.0) == ([1, 1, 1, 1], 1)
    # Two segments of one category are no mixture.
    assert window(_halves(4, 4), *[6] * 10) == ([1, 1, 2, 2], 0)


@pytest.mark.parametrize("form", ["id_map", "layers"])
def test_segments_without_a_pixel_can_be_dropped(form):
    sample = _sample(53, 97, form)
    dropped = cropping.drop_empty_segments(sample).target
    assert dropped.labels.tolist() == LABELS[:4]
    assert dropped.is_crowd.tolist() == CROWD[:4]
    assert torch.equal(dropped.binary_masks(), sample.target.binary_masks()[:4])
    nothing = replace(sample, target=sample.target.select(torch.zeros(5, dtype=torch.bool)))
    assert len(cropping.drop_empty_segments(nothing).target) == 0
    assert cropping.random_crop(nothing, (9, 9), 0.5, np.random.default_rng(0)).target.size == (9, 9)


def test_padding_is_grey_and_void_at_the_bottom_and_right():
    sample = _sample(5, 7)
    padded = cropping.pad(sample, (11, 13))
    image, masks = _naive_pad(sample.image, sample.target.binary_masks().numpy(), (11, 13))
    np.testing.assert_array_equal(padded.image, image)
    np.testing.assert_array_equal(padded.target.binary_masks(), masks)
    with pytest.raises(ValueError, match="Cannot pad 5x7"):
        cropping.pad(sample, (4, 13))


def test_colours_change_before_the_jitter_pads():
    sample = _sample(53, 97)
    transform = TrainTransform(flip_prob=1.0, ssd_color=True, jitter_size=(37, 46), jitter_scale=(0.3, 0.3))
    ours, expected = np.random.default_rng(8), np.random.default_rng(8)
    changed = transform(sample, ours)
    expected.uniform()
    coloured = replace(sample, image=ssd_color(sample.image[:, ::-1], expected))
    assert not np.array_equal(coloured.image, sample.image[:, ::-1])
    jittered = cropping.large_scale_jitter(coloured, (37, 46), (0.3, 0.3), expected)
    np.testing.assert_array_equal(changed.image, jittered.image)
    assert (changed.image[-1] == 128).all()


def test_options_that_are_off_draw_no_random_number():
    generator, expected = np.random.default_rng(3), np.random.default_rng(3)
    TrainTransform(flip_prob=0.0, shortest_edge=29, longest_edge=61)(_sample(53, 97), generator)
    expected.uniform()
    assert generator.bit_generator.state == expected.bit_generator.state


def test_a_seed_repeats_and_epochs_differ():
    transform = TrainTransform(shortest_edge=(31, 47), crop_size=(23, 29), ssd_color=True, crop_category_max_area=0.9)
    first, again = (TransformedSamples([_sample(53, 97)], transform, seed=2) for _ in range(2))
    np.testing.assert_array_equal(first[4, 0].sample.image, again[4, 0].sample.image)
    assert torch.equal(first[4, 0].sample.target.id_map, again[4, 0].sample.target.id_map)
    other_seed = TransformedSamples([_sample(53, 97)], transform, seed=3)
    assert not np.array_equal(first[4, 0].sample.image, first[5, 0].sample.image)
    assert not np.array_equal(first[4, 0].sample.image, other_seed[4, 0].sample.image)


def _windows(base, longest_edge, crop_size, *, pad_to_crop=True, semantic=True):
    options = {"shortest_edge": [int(base * tenths / 10) for tenths in range(5, 21)], "longest_edge": longest_edge}
    options |= {"crop_size": crop_size, "pad_to_crop": pad_to_crop, "ssd_color": True}
    return options | ({"nearest": "corner", "drop_empty": True} if semantic else {})


ORIGINAL = {
    "ade20k_semantic": _windows(512, 2048, [512, 512]),
    "ade20k_panoptic": _windows(640, 2560, [640, 640], semantic=False),
    "cityscapes_semantic": _windows(1024, 4096, [512, 1024], pad_to_crop=False),
    "cityscapes_panoptic": _windows(1024, 4096, [512, 1024], pad_to_crop=False, semantic=False),
    "mapillary_semantic": _windows(2048, 8192, [1024, 1024]),
    "mapillary_panoptic": _windows(2048, 8192, [1024, 1024], semantic=False),
    "coco_panoptic": {"jitter_size": [1024, 1024], "jitter_scale": [0.1, 2.0]},
    "coco_instance": {"jitter_size": [1024, 1024], "jitter_scale": [0.1, 2.0], "drop_empty": True},
}


@pytest.mark.parametrize("name", ORIGINAL)
def test_the_original_recipes_can_be_written(name):
    base = Recipe(data=DataRecipe(root="data"), schedule=ScheduleRecipe(max_steps=1), run=RunRecipe(output_dir="runs"))
    recipe = load_recipe(base, {f"data.transform.{key}": value for key, value in ORIGINAL[name].items()})
    transform = recipe.data.transform
    assert load_recipe(recipe) == recipe
    if transform.shortest_edge is not None:
        assert len(transform.shortest_edge) == 16
        transform = replace(transform, shortest_edge=transform.shortest_edge[:1])  # the quickest
    # Cityscapes' images are twice as wide as high, so that its windows always lie inside.
    changed = transform(_sample(101, 202), np.random.default_rng(0))
    assert changed.target.size == changed.image.shape[:2] == (transform.crop_size or transform.jitter_size)
    assert changed.target.is_crowd.any()
