# SPDX-License-Identifier: Apache-2.0
"""Pictures show the right colours at the right pixels, at a size that can be read."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.visualization.pictures import (
    BLACK,
    COLORS,
    HEIGHT,
    WIDTH,
    far_from_names_and_borders,
    id_map_of,
    image_of,
    infos_of,
    predictions_of_all_kinds,
)
from unisegment.structures import InstancePrediction, PanopticPrediction, SegmentationTarget
from unisegment.visualization import draw, label_colors
from unisegment.visualization.colors import segment_colors


@pytest.mark.parametrize(
    ("size", "keywords", "expected"),
    [
        ((HEIGHT, WIDTH), {}, (800, 503)),
        ((HEIGHT, WIDTH), {"min_side": 0}, (WIDTH, HEIGHT)),
        ((HEIGHT, WIDTH), {"min_side": 6 * WIDTH}, (6 * WIDTH, 6 * HEIGHT)),
        ((801, 503), {}, (503, 801)),
        ((1, 1), {}, (800, 800)),
        ((2, 50_000), {}, (50_000, 2)),
        ((3001, 1), {}, (1, 3001)),
    ],
)
def test_small_images_are_enlarged_and_large_ones_keep_their_size(size, keywords, expected):
    prediction = PanopticPrediction(torch.ones(size, dtype=torch.int32), infos_of(1))
    assert draw(image_of(*size), prediction, {1: "sky"}, **keywords).size == expected


@pytest.mark.parametrize("kind", ["panoptic", "instance", "id map", "masks", "semantic"])
def test_segments_have_the_colour_of_their_label(kind):
    picture = draw(BLACK, predictions_of_all_kinds()[kind], opacity=1.0, min_side=6 * WIDTH)
    upper, left, right, _ = far_from_names_and_borders(picture)
    np.testing.assert_array_equal(upper, COLORS[4])
    np.testing.assert_array_equal(left, COLORS[0])
    if kind == "semantic":
        np.testing.assert_array_equal(right, COLORS[0])
    else:
        np.testing.assert_array_equal(right, segment_colors([4, 0, 0], COLORS)[2])
        assert np.abs(right.astype(int) - left).sum() > 40


def test_colours_follow_names_and_own_colours_go_first():
    prediction = predictions_of_all_kinds()["semantic"]
    pictures = [
        draw(BLACK, prediction, {4: "sky-other", 0: "road"}, 1.0, palette=p) for p in ("natural", {4: (9, 8, 7)})
    ]
    for picture, expected in zip(pictures, (label_colors({0: "sky"})[0], (9, 8, 7)), strict=True):
        np.testing.assert_array_equal(far_from_names_and_borders(picture)[0], expected)


def test_what_is_no_object_is_a_grey_photograph():
    instances = InstancePrediction(torch.zeros(HEIGHT, WIDTH, dtype=torch.int32), [], torch.zeros(0, HEIGHT, WIDTH) > 0)
    picture = np.asarray(draw(image_of(), instances, min_side=0)).astype(int)
    np.testing.assert_allclose(picture, (image_of() @ [0.299, 0.587, 0.114])[..., None].repeat(3, -1), atol=1)


def test_many_segments_and_labels_are_drawn():
    ids = torch.arange(500).reshape(20, 25).repeat_interleave(7, 0).repeat_interleave(7, 1)
    infos = [{"id": number, "label_id": number % 300} for number in range(500)]
    names = {number: f"a label of the number {number}" for number in range(300)}
    picture = draw(image_of(140, 175), PanopticPrediction(ids, infos), names, legend=True)
    assert picture.width == 800


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64])
def test_label_maps_of_any_type_are_drawn(dtype):
    labels = torch.from_numpy((np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) > 3000) * 41_000 % 66_000)
    labels = labels if dtype.itemsize > 2 or dtype == torch.uint16 else (labels > 0) * 4
    expected = draw(image_of(), labels, {4: "sky"})
    np.testing.assert_array_equal(draw(image_of(), labels.to(dtype), {4: "sky"}), expected)


def test_masks_and_label_maps_need_no_description():
    mask = id_map_of() == 2
    one = draw(image_of(), mask, {0: "cow"})
    np.testing.assert_array_equal(one, draw(image_of(), mask[None], {0: "cow"}))
    described = {"segmentation": mask[None], "segments_info": [{"id": 1, "label_id": 0}]}
    np.testing.assert_array_equal(one, draw(image_of(), described, {0: "cow"}))
    labels = torch.where(id_map_of() == 0, -1, 3)
    target = SegmentationTarget(labels=[3], id_map=id_map_of() > 0, segment_ids=[1])
    np.testing.assert_array_equal(draw(image_of(), labels), draw(image_of(), target))


def test_images_are_not_written_to():
    image = Image.fromarray(image_of())
    before = image.tobytes()
    draw(image, predictions_of_all_kinds()["panoptic"])
    assert image.tobytes() == before
