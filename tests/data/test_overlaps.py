# SPDX-License-Identifier: Apache-2.0
"""Objects that lie on one another: a few layers hold bit for bit what one mask for each of them would hold."""

import numpy as np
import pytest
import torch

from unisegment.checking.contact_sheet import draw_tile
from unisegment.checking.sample_check import summarize
from unisegment.data.collate import Collate
from unisegment.data.reading.object_drawing import draw_objects
from unisegment.data.transforms.training import TrainTransform
from unisegment.metrics import MeanAveragePrecision
from unisegment.ops.column_runs import extents
from unisegment.ops.masks import segment_index_map
from unisegment.ops.point_sampling import sample_segments
from unisegment.ops.polygons import polygons_of_segments
from unisegment.ops.rle import encode_segments
from unisegment.ops.segment_maps import join_targets
from unisegment.structures import InstancePrediction, Sample, SegmentationTarget
from unisegment.visualization import draw

SIZE = (53, 71)


def _draw(num, seed=0, longest=31):
    """Return rectangles anywhere, drawn and as the masks that they are."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((num, *SIZE), dtype=np.bool_)
    for mask in masks:
        (top, left), (height, width) = (generator.integers(high) for high in (SIZE, (longest, longest)))
        mask[top : top + height + 1, left : left + width + 1] = True
    labels, crowds = generator.integers(0, 4, num), generator.random(num) < 0.2
    objects = [
        (int(label), bool(crowd), np.flatnonzero(mask))
        for label, crowd, mask in zip(labels, crowds, masks, strict=True)
    ]
    dense = SegmentationTarget(labels=torch.from_numpy(labels), masks=torch.from_numpy(masks), is_crowd=crowds)
    return draw_objects(objects, SIZE), dense


def _sample(target):
    image = np.random.default_rng(3).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    return Sample(image, 1, "one.jpg", target=target)


@pytest.mark.parametrize("num", [7, 30, 255, 256, 300])
def test_layers_hold_what_the_masks_hold(num):
    drawn, dense = _draw(num, seed=num)
    assert drawn.layers.max() < num / 2
    assert drawn.id_map.dtype == (torch.uint8 if num < 256 else torch.int16)
    assert torch.equal(drawn.binary_masks(), dense.masks)
    assert torch.equal(drawn.mask(1), dense.masks[1])
    assert drawn.has_overlaps() == dense.has_overlaps()
    assert (drawn.size, drawn.labels.tolist()) == (SIZE, dense.labels.tolist())
    chosen = torch.from_numpy(np.random.default_rng(num).random(num) < 0.5)
    assert torch.equal(drawn.select(chosen).binary_masks(), dense.masks[chosen])
    assert drawn.to("meta").layers.device.type == "meta"


def test_more_objects_than_two_bytes_can_number():
    objects = [(0, False, np.array([number % 3763, (number + 1) % 3763])) for number in range(33000)]
    drawn = draw_objects(objects, SIZE)
    assert drawn.id_map.dtype == torch.int32
    for number in (0, 255, 256, 32767, 32768, 32999):
        assert drawn.mask(number).ravel().nonzero()[:, 0].tolist() == sorted(objects[number][2])


@pytest.mark.parametrize(
    "options",
    [
        {"jitter_size": (37, 41), "jitter_scale": (0.5, 2.0), "drop_empty": True},
        {"shortest_edge": (31, 83), "crop_size": (29, 43), "crop_category_max_area": 0.6, "pad_to_crop": True},
        {"shortest_edge": 97, "nearest": "corner"},
    ],
)
def test_training_sees_the_same_targets(options):
    transform = TrainTransform(flip_prob=0.5, **options)
    points = torch.rand(1, 211, 2, generator=torch.Generator().manual_seed(0)) * 1.1 - 0.05
    for seed in range(5):
        drawn, dense = _draw(23, seed)
        inputs = [
            Collate([0.5] * 3, [0.5] * 3)([transform(_sample(target), np.random.default_rng(seed))])
            for target in (drawn, dense)
        ]
        ours, theirs = (batch["mask_labels"][0] for batch in inputs)
        assert torch.equal(inputs[0]["pixel_values"], inputs[1]["pixel_values"])
        assert torch.equal(ours.labels, theirs.labels)
        assert torch.equal(ours.binary_masks(), theirs.binary_masks())
        maps = [join_targets([target], points.device) for target in (ours, theirs)]
        segments = torch.arange(len(ours))
        assert torch.equal(*(sample_segments(each, points, segments) for each in maps))
        segments = segments.flip(0).repeat(2)
        many = points[0, : len(segments), None].expand(-1, 3, -1)
        assert torch.equal(*(sample_segments(each, many, segments) for each in maps))


def test_everything_else_sees_the_same_target():
    drawn, dense = _draw(23, seed=5)
    assert summarize(_sample(drawn)) == summarize(_sample(dense))
    names = dict(enumerate("abcd"))
    assert draw_tile(_sample(drawn), names) == draw_tile(_sample(dense), names)
    image = _sample(drawn).image
    assert draw(image, drawn) == draw(image, dense)
    states = []
    for target in (drawn, dense):
        metric = MeanAveragePrecision(by_boundary=True)
        metric.update([InstancePrediction(torch.zeros(SIZE, dtype=torch.int64), [], dense.masks[:0])], [target])
        states.append(metric.state)
    assert states[0] == states[1]


def test_layers_that_do_not_overlap_have_an_index_map():
    drawn, dense = _draw(9, seed=1)
    with pytest.raises(ValueError, match=r"segments \d and \d of a SegmentationTarget overlap"):
        segment_index_map(drawn)
    apart = torch.tensor([False] * 9)
    apart[int(drawn.layers.argmax())] = True
    apart[next(n for n in range(9) if not (dense.masks[n] & dense.masks[apart].any(0)).any())] = True
    assert not drawn.select(apart).has_overlaps()
    assert torch.equal(segment_index_map(drawn.select(apart)), segment_index_map(dense.select(apart)))


def test_run_lengths_extents_and_outlines_of_layers_are_those_of_the_masks():
    drawn, dense = _draw(23, seed=5)
    assert drawn.has_overlaps()
    assert encode_segments(drawn) == encode_segments(dense)
    for found, expected in zip(extents(drawn), extents(dense), strict=True):
        np.testing.assert_array_equal(found, expected)
    outlines = [
        [[ring.tolist() for ring in polygon] for segment in polygons_of_segments(target) for polygon in segment]
        for target in (drawn, dense)
    ]
    assert outlines[0] == outlines[1]


def test_memory_grows_with_what_is_drawn_not_with_the_objects():
    """1000 objects of which two touch take two maps, and bool masks are taken as they are."""
    height, width = 401, 499
    starts = [(row * width + column) for row in range(0, 400, 10) for column in range(0, 500 - 10, 10)][:1000]
    objects = [(0, False, start + np.arange(5)) for start in starts]
    objects[1] = (0, False, objects[0][2] + 3)
    target = draw_objects(objects, (height, width))
    assert target.masks is None
    assert target.id_map.nbytes == 2 * 2 * height * width
    masks = torch.zeros(2, 3, 5, dtype=torch.bool)
    assert SegmentationTarget(labels=[0, 1], masks=masks).masks is masks


@pytest.mark.parametrize(
    ("id_map", "layers", "message"),
    [
        (torch.zeros(2, 3, 5), None, r"together with `layers`, got shape \(2, 3, 5\) and no layers"),
        (torch.zeros(3, 5), [0, 1], r"got shape \(3, 5\) and some layers"),
        (torch.zeros(2, 3, 5), [0, 2], r"from 0 to 1 as id_map has 2 layers, got \[0, 2\]"),
        (torch.zeros(2, 3, 5), [0], "2 numbers, one for each label"),
    ],
)
def test_layers_that_make_no_sense_are_named(id_map, layers, message):
    with pytest.raises(ValueError, match=message):
        SegmentationTarget(labels=[1, 2], id_map=id_map, segment_ids=[1, 2], layers=layers)


def test_masks_have_no_layers():
    with pytest.raises(ValueError, match="leave it out beside masks"):
        SegmentationTarget(labels=[1], masks=torch.zeros(1, 3, 5), layers=[0])


def test_small_types_stay_where_they_hold_all_ids_and_void():
    id_map = torch.tensor([[1, 255, 0]], dtype=torch.uint8)
    assert SegmentationTarget(labels=[1], id_map=id_map, segment_ids=[255]).id_map is id_map
    for ids in ([256], [0], [-1]):
        target = SegmentationTarget(labels=[1], id_map=id_map, segment_ids=ids)
        assert target.id_map.dtype == torch.int32
        assert target.binary_masks().tolist() == [[[False, False, ids == [0]]]]
