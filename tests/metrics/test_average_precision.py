# SPDX-License-Identifier: Apache-2.0
import contextlib
import io
import json
import math

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from unisegment.metrics.average_precision import MeanAveragePrecision, mask_average_precision
from unisegment.ops.rle import encode_rle
from unisegment.structures import InstancePrediction, SegmentationTarget

HEIGHT, WIDTH = 127, 131
CAT, DOG, SKY = 0, 1, 7
NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar_1", "ar_10", "ar_100")


def rectangle(top, left, height, width):
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    return mask


def stack(masks):
    return torch.stack(masks) if masks else torch.zeros(0, HEIGHT, WIDTH, dtype=torch.bool)


def target_of(*objects, crowds=()):
    """Return the target of (mask, label) pairs."""
    return SegmentationTarget(
        labels=torch.tensor([label for _, label in objects], dtype=torch.int64),
        masks=stack([mask for mask, _ in objects]),
        is_crowd=torch.tensor([place in crowds for place in range(len(objects))], dtype=torch.bool),
    )


def prediction_of(*objects):
    """Return the prediction of (mask, label, score) triples."""
    infos = [{"id": idx, "label_id": label, "score": score} for idx, (_, label, score) in enumerate(objects, start=1)]
    return InstancePrediction(
        torch.zeros(HEIGHT, WIDTH, dtype=torch.int32), infos, stack([mask for mask, _, _ in objects])
    )


def evaluate(prediction, target, **arguments):
    metric = MeanAveragePrecision(**arguments)
    metric.update([prediction], [target])
    return metric.compute()


FIRST, SECOND, THIRD = rectangle(3, 5, 11, 13), rectangle(29, 31, 17, 19), rectangle(71, 73, 23, 29)


def test_more_masks_than_pycocotools_measures_at_once():
    results = evaluate(prediction_of(*[(FIRST, CAT, 0.5)] * 257), target_of(*[(FIRST, CAT)] * 257))
    assert results["ar_100"] == pytest.approx(100 / 257, abs=1e-3)


def test_a_perfect_prediction():
    results = evaluate(
        prediction_of((FIRST, CAT, 0.9), (SECOND, DOG, 0.8)),
        target_of((SECOND, DOG), (FIRST, CAT)),
    )
    assert results.keys() == {*NAMES, "per_class"}
    for name in ("ap", "ap50", "ap75", "ap_small", "ar_1", "ar_10", "ar_100"):
        assert results[name] == pytest.approx(1.0)
    assert math.isnan(results["ap_medium"])
    assert math.isnan(results["ap_large"])
    assert results["per_class"] == pytest.approx({CAT: 1.0, DOG: 1.0})


def test_one_of_two_found():
    results = evaluate(prediction_of((FIRST, CAT, 0.9)), target_of((FIRST, CAT), (SECOND, CAT)))
    # Of the recalls 0, 0.01 to 1, those up to 0.5 are reached.
    assert results["ap"] == pytest.approx(51 / 101)
    assert results["ar_100"] == pytest.approx(0.5)


def test_recall_with_few_detections():
    objects = [(mask, CAT) for mask in (FIRST, SECOND, THIRD)]
    results = evaluate(prediction_of(*[(*item, 0.5) for item in objects]), target_of(*objects))
    assert results["ar_1"] == pytest.approx(1 / 3)
    assert results["ar_10"] == pytest.approx(1.0)


def in_a_row(number):
    """As many objects of one size, each two pixels wide."""
    return [rectangle(9 * (place // 60), 2 * (place % 60), 7, 2) for place in range(number)]


def test_more_objects_than_coco_evaluates():
    masks = in_a_row(151)
    prediction = prediction_of(*[(mask, CAT, 1 - place / 1000) for place, mask in enumerate(masks)])
    target = target_of(*[(mask, CAT) for mask in masks])
    results = evaluate(prediction, target, max_detections=151, by_boundary=True)
    assert (results["ap"], results["per_class"][CAT], results["ar_151"]) == (1, 1, 1)
    assert results["boundary"]["ap"] == 1
    assert results["ar_10"] == pytest.approx(10 / 151)
    # 100 of 151 are 0.66 of the recall; AP is read off at 0, 0.01 to 1.
    assert evaluate(prediction, target)["ap"] == pytest.approx(67 / 101)
    assert math.isnan(evaluate(prediction_of(), target_of(), max_detections=151)["ap"])


def test_the_most_detections_are_those_of_pycocotools():
    masks = in_a_row(139)
    generator = np.random.default_rng(0)
    prediction = prediction_of(*[(mask, CAT, score) for mask, score in zip(masks, generator.random(139), strict=True)])
    target = target_of(*[(mask, CAT if place % 3 else DOG) for place, mask in enumerate(masks)])
    results = evaluate(prediction, target, max_detections=127)
    stats = dict(zip(NAMES, coco_stats([prediction], [target], max_detections=127), strict=False))
    for name in ("ap50", "ap75", "ap_small", "ar_1", "ar_10"):
        assert results[name] == pytest.approx(stats[name], abs=0)
    assert results["ar_127"] == pytest.approx(stats["ar_100"], abs=0)
    # All objects are small, so that AP is that of small ones, too.
    assert results["ap"] == results["ap_small"]


def test_fewer_detections_than_coco_evaluates_are_refused():
    with pytest.raises(ValueError, match=r"max_detections must be at least 100, as of COCO, got 99"):
        MeanAveragePrecision(max_detections=99)
    with pytest.raises(ValueError, match="same thing_label_ids, by_boundary and max_detections"):
        MeanAveragePrecision().merge(MeanAveragePrecision(max_detections=101))


def test_the_wrong_label():
    results = evaluate(prediction_of((FIRST, DOG, 0.9)), target_of((FIRST, CAT)))
    assert results["ap"] == 0.0
    assert results["per_class"][CAT] == 0.0
    assert math.isnan(results["per_class"][DOG])


@pytest.mark.parametrize(("score_of_wrong", "expected"), [(0.2, 1.0), (0.8, 0.5)])
def test_wrong_predictions_hurt_by_their_score(score_of_wrong, expected):
    prediction = prediction_of((FIRST, CAT, 0.5), (SECOND, CAT, score_of_wrong))
    assert evaluate(prediction, target_of((FIRST, CAT)))["ap"] == pytest.approx(expected)


def test_the_overlap_decides_at_which_thresholds_a_match_counts():
    # Intersection over union 2 / 3: found at 0.5, 0.55, 0.6 and 0.65 of ten thresholds.
    results = evaluate(prediction_of((rectangle(3, 5, 12, 10), CAT, 0.9)), target_of((rectangle(3, 5, 12, 15), CAT)))
    assert results["ap"] == pytest.approx(0.4)
    assert results["ap50"] == pytest.approx(1.0)
    assert results["ap75"] == 0.0


def test_predictions_in_a_crowd_are_not_evaluated():
    crowd = rectangle(29, 31, 37, 41)
    prediction = prediction_of((SECOND, CAT, 0.9), (rectangle(47, 51, 7, 5), CAT, 0.8), (FIRST, CAT, 0.5))
    assert evaluate(prediction, target_of((FIRST, CAT), (crowd, CAT), crowds=[1]))["ap"] == pytest.approx(1.0)
    assert evaluate(prediction, target_of((FIRST, CAT), (crowd, CAT)))["ap"] < 0.5


def test_objects_are_evaluated_by_the_size_of_their_mask():
    small, medium, large = rectangle(0, 0, 10, 11), rectangle(11, 0, 40, 41), rectangle(11, 30, 100, 101)
    target = target_of((small, CAT), (medium, CAT), (large, CAT))
    results = evaluate(prediction_of((medium, CAT, 0.9)), target)
    assert results["ap_medium"] == pytest.approx(1.0)
    assert results["ap_small"] == results["ap_large"] == 0.0


def test_a_thin_object_in_a_large_box_is_small():
    frame = rectangle(2, 3, 113, 109) & ~rectangle(3, 4, 111, 107)
    results = evaluate(prediction_of((frame, CAT, 0.9)), target_of((frame, CAT)))
    assert results["ap_small"] == pytest.approx(1.0)
    assert math.isnan(results["ap_large"])


def test_only_things_are_evaluated():
    prediction = prediction_of((FIRST, CAT, 0.5), (SECOND, SKY, 0.9), (THIRD, DOG, 0.8))
    target = target_of((FIRST, CAT), (THIRD, SKY))
    metric = MeanAveragePrecision(thing_label_ids=iter([DOG, CAT]))
    metric.update([prediction], [target])
    record = metric.state[0]
    first, third = encode_rle(stack([FIRST, THIRD]))
    assert [(item["category_id"], item["segmentation"]) for item in record["detections"]] == [
        (CAT, first),
        (DOG, third),
    ]
    assert [(item["category_id"], item["segmentation"]) for item in record["annotations"]] == [(CAT, first)]
    results = metric.compute()
    assert results["ap"] == pytest.approx(1.0)
    assert results["per_class"].keys() == {CAT, DOG}


def test_an_id_map_is_evaluated_as_its_masks():
    by_masks = target_of((FIRST, CAT), (SECOND, DOG), (THIRD, CAT), crowds=[2])
    by_ids = SegmentationTarget(
        labels=by_masks.labels,
        id_map=FIRST * 70000 + SECOND * 3 + THIRD * 5,
        segment_ids=torch.tensor([70000, 3, 5]),
        is_crowd=by_masks.is_crowd,
    )
    prediction = prediction_of((FIRST, CAT, 0.9), (THIRD, DOG, 0.8))
    states = []
    for target in (by_masks, by_ids):
        metric = MeanAveragePrecision(thing_label_ids=[CAT])
        metric.update([prediction], [target])
        states.append(metric.state)
    assert states[0] == states[1]


def test_nothing_predicted():
    results = evaluate(prediction_of(), target_of((FIRST, CAT)))
    assert results["ap"] == results["ar_100"] == 0.0
    assert results["per_class"] == {CAT: 0.0}


@pytest.mark.parametrize("objects", [[], [(FIRST, CAT, 0.9)]])
def test_nothing_to_be_found(objects):
    results = evaluate(prediction_of(*objects), target_of(), thing_label_ids=[CAT])
    assert all(math.isnan(results[name]) for name in NAMES)
    assert math.isnan(results["per_class"][CAT])


def test_no_image():
    results = MeanAveragePrecision().compute()
    assert all(math.isnan(results[name]) for name in NAMES)
    assert results["per_class"] == {}


def test_a_prediction_in_an_image_without_objects_is_wrong():
    metric = MeanAveragePrecision()
    metric.update(
        [prediction_of((FIRST, CAT, 0.5)), prediction_of((FIRST, CAT, 0.9))],
        [target_of((FIRST, CAT)), target_of()],
    )
    assert metric.compute()["ap"] == pytest.approx(0.5)


def random_objects(num):
    corners = torch.randint(0, 23, (num, 2)).tolist()
    sizes = torch.randint(5, 109, (num, 2)).tolist()
    return [
        (rectangle(*corner, *size), int(torch.randint(0, 3, ()))) for corner, size in zip(corners, sizes, strict=True)
    ]


def random_pairs(num):
    predictions, targets = [], []
    for _ in range(num):
        objects = [*random_objects(int(torch.randint(0, 7, ()))), (rectangle(7, 11, 103, 101), DOG)]
        targets.append(target_of(*objects, crowds=[0] if torch.rand(()) < 0.3 else []))
        found = [(mask & (torch.rand(HEIGHT, WIDTH) < 0.9), label) for mask, label in objects]
        scores = torch.rand(len(objects) + 3).tolist()
        predictions.append(
            prediction_of(*[(*item, score) for item, score in zip(found + random_objects(3), scores, strict=True)])
        )
    return predictions, targets


def coco_stats(predictions, targets, max_detections=100):
    """Return what COCOeval says of COCO files with the same content."""
    annotations, detections = [], []
    for image_id, (prediction, target) in enumerate(zip(predictions, targets, strict=True), start=100):
        for mask, label, is_crowd in zip(target.masks, target.labels, target.is_crowd, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(label) + 1,
                    "iscrowd": int(is_crowd),
                    "area": int(mask.sum()),
                    "segmentation": coco_mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8))),
                }
            )
        for mask, info in zip(prediction.masks, prediction.segments_info, strict=True):
            detections.append(
                {
                    "image_id": image_id,
                    "category_id": info["label_id"] + 1,
                    "score": info["score"],
                    "segmentation": coco_mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8))),
                }
            )
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": image_id + 100, "height": HEIGHT, "width": WIDTH} for image_id in range(len(targets))],
        "annotations": annotations,
        "categories": [{"id": label + 1} for label in range(3)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(detections), "segm")
        evaluation.params.maxDets[-1] = max_detections
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def test_the_scores_are_those_of_coco_files():
    predictions, targets = random_pairs(11)
    metric = MeanAveragePrecision()
    for start in range(0, 11, 3):
        metric.update(predictions[start : start + 3], targets[start : start + 3])
    results = metric.compute()
    assert [results[name] for name in NAMES] == coco_stats(predictions, targets)[:9].tolist()
    assert np.mean(list(results["per_class"].values())) == pytest.approx(results["ap"])
    assert 0 < results["ap"] < results["ap50"] < 1


def test_two_halves_are_the_whole():
    predictions, targets = random_pairs(5)
    whole, first, second = (MeanAveragePrecision() for _ in range(3))
    whole.update(predictions, targets)
    first.update(predictions[:2], targets[:2])
    second.update(predictions[2:], targets[2:])
    first.merge(second)
    assert first.state == whole.state
    assert first.compute() == whole.compute()
    assert len(second.state) == 3
    first.reset()
    assert first.state == []


def test_the_state_is_small_and_can_be_written():
    predictions, targets = random_pairs(1)
    metric = MeanAveragePrecision()
    metric.update(predictions, targets)
    assert len(json.dumps(metric.state)) < HEIGHT * WIDTH * len(predictions[0].masks)


def test_the_lists_of_coco_dicts_are_not_written_to():
    rle = encode_rle(FIRST[None])[0]
    annotation = {"image_id": 5, "category_id": 3, "segmentation": rle, "area": 143, "iscrowd": 0}
    detection = {"image_id": 5, "category_id": 3, "segmentation": rle, "score": 0.5}
    copies = annotation.copy(), detection.copy()
    images = [{"id": 5, "height": HEIGHT, "width": WIDTH}]
    results = mask_average_precision(images, [annotation], [detection], category_ids=[3, 2])
    assert (annotation, detection) == copies
    assert results["ap"] == pytest.approx(1.0)
    assert results["per_class"] == pytest.approx({2: math.nan, 3: 1.0}, nan_ok=True)


def test_nothing_is_printed(capsys):
    evaluate(prediction_of((FIRST, CAT, 0.9)), target_of((FIRST, CAT)))
    assert capsys.readouterr() == ("", "")


def test_wrong_input_is_refused():
    prediction, target = prediction_of((FIRST, CAT, 0.9)), target_of((FIRST, CAT))
    metric = MeanAveragePrecision()
    with pytest.raises(ValueError, match=r"\(127, 131\) but its target \(127, 130\)"):
        metric.update([prediction], [SegmentationTarget(labels=target.labels, masks=target.masks[..., 1:])])
    one_info_too_many = InstancePrediction(prediction.segmentation, prediction.segments_info * 2, prediction.masks)
    with pytest.raises(ValueError, match="1 masks but 2 entries"):
        metric.update([one_info_too_many], [target])
    with pytest.raises(ValueError, match="shorter"):
        metric.update([prediction, prediction], [target])
    with pytest.raises(ValueError, match="same thing_label_ids"):
        metric.merge(MeanAveragePrecision(thing_label_ids=[CAT]))
    assert metric.state == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentation": [[0, 0, 2**32, 0, 1, 1]]}, "it must be an object with size"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": "o"}}, r"run lengths \(RLE\)"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [1, 2]}}, "must be compressed run lengths"),
        ({"segmentation": {"size": [2, 2], "counts": "4"}}, "must be compressed run lengths"),
        ({"image_id": 6}, "there is no image 6"),
        ({"category_id": "x"}, "category_id must be a whole number"),
    ],
)
def test_dicts_that_would_end_the_process_are_refused(change, message):
    """pycocotools reads run lengths to an end that is not there, and draws polygons whatever their numbers."""
    item = {"image_id": 5, "category_id": 3, "segmentation": encode_rle(FIRST[None])[0], "area": 143, "iscrowd": 0}
    item["score"] = 0.5
    images = [{"id": 5, "height": HEIGHT, "width": WIDTH}]
    for annotation, detection, name in ((item | change, item, "annotations"), (item, item | change, "detections")):
        with pytest.raises(ValueError, match=rf"{name}\[0\]: .*{message}"):
            mask_average_precision(images, [annotation], [detection], category_ids=[3])


@pytest.mark.parametrize("key", ["image_id", "category_id", "segmentation", "area", "iscrowd"])
def test_annotations_without_what_is_needed_are_refused(key):
    item = {"image_id": 5, "category_id": 3, "segmentation": encode_rle(FIRST[None])[0], "area": 143, "iscrowd": 0}
    images = [{"id": 5, "height": HEIGHT, "width": WIDTH}]
    del item[key]
    with pytest.raises(ValueError, match=rf"annotations\[0\]: {key} is missing"):
        mask_average_precision(images, [item], [], category_ids=[3])
