# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import torch

from unisegment.metrics import BoundaryIoU, MeanAveragePrecision
from unisegment.metrics.boundary import boundaries, boundary_width
from unisegment.structures import InstancePrediction, SegmentationTarget

HEIGHT, WIDTH = 59, 83
DISTANCE = 2  # 2 % of 101.8


def slow_boundary(mask, distance):
    """Return what goes when a mask is worn off, one layer after the other."""
    left = mask
    for _ in range(distance):
        left = np.lib.stride_tricks.sliding_window_view(np.pad(left, 1), (3, 3)).all(axis=(2, 3))
    return mask & ~left


def blobs(rng, num, shape=(HEIGHT, WIDTH)):
    """Return overlapping rectangles with some holes."""
    masks = np.zeros((num, *shape), dtype=bool)
    for mask in masks:
        top, left = rng.integers(0, shape[0] - 5), rng.integers(0, shape[1] - 5)
        mask[top : top + rng.integers(3, 37), left : left + rng.integers(3, 41)] = True
        mask &= rng.random(shape) < 0.99
    return masks


@pytest.mark.parametrize("distance", [1, 2, 5])
def test_boundaries_are_what_wears_off(distance):
    masks = blobs(np.random.default_rng(distance), 4, (23, 31))
    masks[0] = True  # the border of the image is a border
    found = boundaries(torch.from_numpy(masks), distance)
    assert found[0].any()
    assert not found[0].all()
    for mask, boundary in zip(masks, found.numpy(), strict=True):
        assert np.array_equal(boundary, slow_boundary(mask, distance))


def test_the_width_is_a_share_of_the_diagonal():
    assert boundary_width((HEIGHT, WIDTH)) == DISTANCE
    assert boundary_width((480, 640)) == 16
    assert boundary_width((3, 4)) == 1
    assert boundary_width((300, 400), dilation_ratio=0.1) == 50


def random_maps(seed, num_labels):
    rng = np.random.default_rng(seed)
    predictions, targets = [], []
    for _ in range(3):
        blocks = rng.integers(0, num_labels, (5, 7)).repeat(12, axis=0).repeat(12, axis=1)[:HEIGHT, :WIDTH]
        shifted = np.roll(blocks, int(rng.integers(0, 4)), axis=1)
        targets.append(np.where(rng.random(blocks.shape) < 0.01, 255, blocks))
        # The last label is predicted only, the one before it is never predicted.
        predictions.append(np.where(shifted == num_labels - 1, num_labels, shifted))
    return predictions, targets


@pytest.mark.parametrize("seed", range(2))
def test_boundary_iou_counts_the_boundary_of_each_label(seed):
    num_labels = 4
    predictions, targets = random_maps(seed, num_labels - 1)
    metric = BoundaryIoU(num_labels)
    metric.update(list(map(torch.from_numpy, predictions)), list(map(torch.from_numpy, targets)))
    expected = {}
    for label in range(num_labels):
        both = either = true = 0
        for prediction, target in zip(predictions, targets, strict=True):
            is_evaluated = target != 255
            border = slow_boundary(target == label, DISTANCE) & is_evaluated
            found = slow_boundary(prediction == label, DISTANCE) & is_evaluated
            both, either, true = both + (border & found).sum(), either + (border | found).sum(), true + border.sum()
        expected[label] = both / either if true else math.nan
    results = metric.compute()
    assert results["per_class"] == pytest.approx(expected, nan_ok=True)
    assert results["miou"] == pytest.approx(np.nanmean(list(expected.values())))
    assert 0.1 < results["miou"] < 1
    assert results["per_class"][2] == 0
    assert math.isnan(results["per_class"][3])


def test_a_perfect_label_map_and_nothing_at_all():
    _, targets = random_maps(3, 3)
    metric = BoundaryIoU(3)
    assert math.isnan(metric.compute()["miou"])
    metric.update([torch.from_numpy(np.where(targets[0] == 255, 0, targets[0]))], [torch.full((HEIGHT, WIDTH), 255)])
    assert math.isnan(metric.compute()["miou"])
    whole = torch.from_numpy(targets[0]).clamp(max=2)
    metric.update([whole], [whole])
    assert metric.compute()["miou"] == 1.0


def test_two_halves_are_the_whole():
    predictions, targets = (list(map(torch.from_numpy, maps)) for maps in random_maps(5, 3))
    whole, first, second = (BoundaryIoU(4) for _ in range(3))
    whole.update(predictions, targets)
    first.update(predictions[:1], targets[:1])
    second.update(predictions[1:], targets[1:])
    first.merge(second)
    assert torch.equal(first.state, whole.state)
    with pytest.raises(ValueError, match="same num_labels"):
        first.merge(BoundaryIoU(3))
    with pytest.raises(ValueError, match="same size"):
        first.update([predictions[0][1:]], [targets[0]])


def slow_ap(images, thresholds):
    """Return the AP of one class by COCO's rules, without crowds: images are (scored masks, true masks)."""
    precisions = []
    total = sum(len(true) for _, true in images)
    for threshold in thresholds:
        hits = []
        for scored, true in images:
            taken = set()
            for score, mask in sorted(scored, key=lambda pair: -pair[0]):
                overlaps = [
                    0.0 if place in taken else min(iou(mask, other), iou(border(mask), border(other)))
                    for place, other in enumerate(true)
                ]
                # Of equals the last one.
                best = max(range(len(true)), key=lambda place: (overlaps[place], place), default=None)
                is_hit = best is not None and overlaps[best] >= threshold
                if is_hit:
                    taken.add(best)
                hits.append((score, is_hit))
        hits.sort(key=lambda pair: -pair[0])
        found = np.cumsum([is_hit for _, is_hit in hits])
        recall, precision = found / total, found / np.arange(1, len(hits) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
        precisions.append(np.mean([precision[place] if place < len(precision) else 0 for place in places]))
    return np.mean(precisions)


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def border(mask):
    return slow_boundary(mask, DISTANCE)


def test_boundary_ap_takes_the_smaller_overlap():
    rng = np.random.default_rng(11)
    images, predictions, targets = [], [], []
    for num in (3, 2):
        true = blobs(rng, num)
        true[:, 20:45, 15:60] = True
        masks = np.stack([np.roll(mask, int(rng.integers(0, 4)), axis=0) for mask in true] + list(blobs(rng, 1)))
        scores = rng.random(len(masks)).tolist()
        infos = [{"id": place + 1, "label_id": 0, "score": score} for place, score in enumerate(scores)]
        predictions.append(
            InstancePrediction(torch.zeros(HEIGHT, WIDTH, dtype=torch.int32), infos, torch.from_numpy(masks))
        )
        targets.append(SegmentationTarget(labels=torch.zeros(num), masks=torch.from_numpy(true)))
        images.append((list(zip(scores, masks, strict=True)), list(true)))
    metric = MeanAveragePrecision(by_boundary=True)
    metric.update(predictions, targets)
    scores, plain = metric.compute(), MeanAveragePrecision()
    plain.update(predictions, targets)
    thresholds = np.linspace(0.5, 0.95, 10)
    assert scores["boundary"]["ap"] == pytest.approx(slow_ap(images, thresholds))
    assert scores["boundary"]["per_class"] == {0: scores["boundary"]["ap"]}
    assert 0.1 < scores["boundary"]["ap"] < scores["ap"] == plain.compute()["ap"]
    with pytest.raises(ValueError, match="by_boundary"):
        metric.merge(plain)


def test_a_crowd_is_met_by_its_mask():
    crowd = np.zeros((HEIGHT, WIDTH), dtype=bool)
    crowd[5:50, 7:70] = True
    inside = np.zeros_like(crowd)
    inside[20:32, 20:41] = True  # far from the crowd's boundary
    true = np.zeros_like(crowd)
    true[0:4, 0:6] = True
    infos = [{"id": 1, "label_id": 0, "score": 0.9}, {"id": 2, "label_id": 0, "score": 0.5}]
    masks = torch.from_numpy(np.stack([inside, true]))
    metric = MeanAveragePrecision(by_boundary=True)
    metric.update(
        [InstancePrediction(torch.zeros(HEIGHT, WIDTH, dtype=torch.int32), infos, masks)],
        [
            SegmentationTarget(
                labels=torch.zeros(2),
                masks=torch.from_numpy(np.stack([true, crowd])),
                is_crowd=torch.tensor([False, True]),
            )
        ],
    )
    assert metric.compute()["boundary"]["ap"] == pytest.approx(1.0)
