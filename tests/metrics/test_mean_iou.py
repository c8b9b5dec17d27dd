# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import torch

from unisegment.metrics.mean_iou import MeanIoU, confusion_matrix
from unisegment.structures import SegmentationTarget, SemanticPrediction

HEIGHT, WIDTH = 13, 17
NAMES = ("miou", "fwiou", "pixel_accuracy", "mean_accuracy")


def evaluate(prediction, target, num_labels, **arguments):
    metric = MeanIoU(num_labels, **arguments)
    metric.update([torch.tensor(prediction)], [torch.tensor(target)])
    return metric.compute()


def test_a_case_worked_out_by_hand():
    target = [[0, 0, 0, 0, 1], [1, 1, 255, 255, 3]]
    prediction = [[0, 0, 0, 1, 1], [1, 2, 2, 0, 3]]
    results = evaluate(prediction, target, num_labels=5)
    # Of 8 evaluated pixels: label 0 has 3 of 4, label 1 has 2 and one each too many and too few, label 3 has its one.
    # Label 2 is predicted but does not occur, label 4 neither.
    assert results["per_class"] == pytest.approx({0: 3 / 4, 1: 2 / 4, 2: math.nan, 3: 1.0, 4: math.nan}, nan_ok=True)
    assert results["miou"] == pytest.approx((3 / 4 + 2 / 4 + 1) / 3)
    assert results["fwiou"] == pytest.approx((4 * 3 / 4 + 3 * 2 / 4 + 1) / 8)
    assert results["pixel_accuracy"] == pytest.approx(6 / 8)
    assert results["mean_accuracy"] == pytest.approx((3 / 4 + 2 / 3 + 1) / 3)


def test_rows_are_true_and_columns_predicted_labels():
    target = torch.tensor([[0, 0, 1], [1, 9, 2]])
    prediction = torch.tensor([[0, 1, 1], [9, 0, 2]])
    expected = [[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]]
    assert confusion_matrix(prediction, target, num_labels=3, ignore_index=9).tolist() == expected


def test_a_pixel_predicted_to_have_no_label_is_wrong():
    results = evaluate([[0, 255, 1]], [[0, 0, 1]], num_labels=2)
    assert results["per_class"] == {0: 0.5, 1: 1.0}
    assert results["pixel_accuracy"] == pytest.approx(2 / 3)


def sets_of_pixels(label_map, label, is_evaluated):
    return {tuple(pixel) for pixel in np.argwhere((label_map == label) & is_evaluated)}


@pytest.mark.parametrize("seed", range(3))
def test_random_images_against_sets_of_pixels(seed):
    rng = np.random.default_rng(seed)
    num_labels, num_images = 7, 3
    # Label 6 is predicted only.
    targets = rng.integers(0, num_labels - 1, (num_images, HEIGHT, WIDTH))
    targets[rng.random(targets.shape) < 0.2] = 255
    predictions = np.where(rng.random(targets.shape) < 0.4, targets, rng.integers(0, num_labels, targets.shape))
    metric = MeanIoU(num_labels)
    metric.update(list(torch.from_numpy(predictions)), list(torch.from_numpy(targets).to(torch.uint8)))
    is_evaluated = targets != 255
    ious, accuracies, weights = {}, [], []
    for label in range(num_labels):
        true = sets_of_pixels(targets, label, is_evaluated)
        predicted = sets_of_pixels(predictions, label, is_evaluated)
        if true:
            ious[label] = len(true & predicted) / len(true | predicted)
            accuracies.append(len(true & predicted) / len(true))
            weights.append(len(true) / is_evaluated.sum())
    results = metric.compute()
    assert results["miou"] == pytest.approx(np.mean(list(ious.values())))
    assert results["fwiou"] == pytest.approx(np.dot(weights, list(ious.values())))
    assert results["mean_accuracy"] == pytest.approx(np.mean(accuracies))
    assert results["pixel_accuracy"] == pytest.approx((predictions == targets)[is_evaluated].mean())
    assert results["per_class"] == pytest.approx(ious | {6: math.nan}, nan_ok=True)


def test_a_segmentation_target_is_evaluated_as_its_label_map():
    id_map = torch.tensor([[0, 5, 5, 9], [70000, 70000, 9, 3]])
    target = SegmentationTarget(
        labels=torch.tensor([1, 2, 1, 0]),
        id_map=id_map,
        segment_ids=torch.tensor([5, 70000, 3, 9]),
        is_crowd=torch.tensor([False, False, False, True]),
    )
    # Void and the crowd, segment 9, are not evaluated.
    label_map = torch.tensor([[255, 1, 1, 255], [2, 2, 255, 1]])
    prediction = torch.tensor([[0, 1, 2, 0], [2, 2, 1, 1]])
    by_masks = SegmentationTarget(labels=target.labels, masks=target.binary_masks(), is_crowd=target.is_crowd)
    states = []
    for form in (target, by_masks, label_map):
        metric = MeanIoU(3)
        metric.update([SemanticPrediction(prediction, [])], [form])
        states.append(metric.state)
    assert states[0].sum() == 5
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


@pytest.mark.parametrize("ignore_index", [-1, 300])
def test_more_labels_than_a_byte_holds(ignore_index):
    num_labels = 300
    target = torch.arange(HEIGHT * 24).view(HEIGHT, 24)
    target[target >= num_labels] = ignore_index
    metric = MeanIoU(num_labels, ignore_index)
    metric.update([target.clamp(0, num_labels - 1)], [target])
    results = metric.compute()
    assert results["miou"] == 1.0
    assert metric.state.sum() == num_labels


def test_a_target_of_bytes_and_a_negative_ignore_index():
    metric = MeanIoU(3, ignore_index=-1)
    metric.update([torch.tensor([[0, 2, 1]])], [torch.tensor([[0, 1, 2]], dtype=torch.uint8)])
    assert metric.compute()["pixel_accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("ignore_index", [0, 255, 299])
def test_an_ignore_index_that_is_a_label_is_refused(ignore_index):
    with pytest.raises(ValueError, match=f"ignore_index {ignore_index} is one of the 300 labels"):
        MeanIoU(300, ignore_index)
    with pytest.raises(ValueError, match="is one of the 300 labels"):
        confusion_matrix(torch.zeros(3, 5).long(), torch.zeros(3, 5).long(), 300, ignore_index)


def test_nothing_is_evaluated():
    metric = MeanIoU(3)
    for _ in range(2):
        results = metric.compute()
        assert all(math.isnan(results[name]) for name in NAMES)
        assert all(math.isnan(iou) for iou in results["per_class"].values())
        metric.update([torch.zeros(3, 5).long()], [torch.full((3, 5), 255)])


def test_two_halves_are_the_whole():
    predictions, targets = list(torch.randint(0, 5, (7, 11, 13))), list(torch.randint(0, 5, (7, 11, 13)))
    whole, first, second = (MeanIoU(5) for _ in range(3))
    whole.update(predictions, targets)
    for prediction, target in zip(predictions[:3], targets[:3], strict=True):
        first.update([prediction], [target])
    second.update(predictions[3:], targets[3:])
    assert torch.equal(first.state + second.state, whole.state)
    first.merge(second)
    assert first.compute() == whole.compute()
    first.reset()
    assert not first.state.any()
    with pytest.raises(ValueError, match="same num_labels and ignore_index"):
        first.merge(MeanIoU(5, ignore_index=-1))


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        ([[0, 1, 2]], [[0, 1]], r"same size, got \(1, 3\) and \(1, 2\)"),
        ([[0, 3, 2]], [[0, 1, 2]], "prediction has the value 3"),
        ([[0, -1, 2]], [[0, 1, 2]], "prediction has the value -1"),
        ([[0, 1, 2]], [[0, 254, 2]], "target has the value 254"),
        ([[0.5, 1.0, 2.0]], [[0, 1, 2]], "prediction must be .* integer labels, got .* of torch.float32"),
        ([[[0, 1, 2]]], [[[0, 1, 2]]], r"prediction must be .* got \(1, 1, 3\)"),
    ],
)
def test_wrong_input_is_refused(prediction, target, message):
    metric = MeanIoU(3)
    with pytest.raises(ValueError, match=message):
        metric.update([torch.tensor(prediction)], [torch.tensor(target)])
    assert not metric.state.any()


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="longer"):
        MeanIoU(3).update([torch.zeros(3, 5).long()], [torch.zeros(3, 5).long()] * 2)
