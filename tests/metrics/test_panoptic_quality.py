# SPDX-License-Identifier: Apache-2.0
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unisegment.metrics.panoptic_quality import PanopticQuality, Segments, panoptic_counts, panoptic_quality_from_files
from unisegment.structures import PanopticPrediction, SegmentationTarget

NUM_LABELS = 3
CAT, DOG, SKY = range(NUM_LABELS)


def assert_same_results(results, expected):
    assert results.keys() == {"all", "things", "stuff", "per_class"}
    for group in ("all", "things", "stuff"):
        assert results[group] == pytest.approx(expected[group], abs=1e-12, nan_ok=True)
    assert results["per_class"].keys() == expected["per_class"].keys()
    for category_id, scores in expected["per_class"].items():
        assert results["per_class"][category_id] == pytest.approx(scores, abs=1e-12)


def ids_of(text):
    """Return the id map that a text draws: a letter is a segment, a point is void."""
    rows = text.split()
    return np.array([[0 if letter == "." else ord(letter) for letter in row] for row in rows], dtype=np.int32)


def target_of(text, labels, crowds=""):
    return SegmentationTarget(
        labels=torch.tensor(list(labels.values()), dtype=torch.int64),
        id_map=torch.from_numpy(ids_of(text)),
        segment_ids=torch.tensor([ord(letter) for letter in labels], dtype=torch.int64),
        is_crowd=torch.tensor([letter in crowds for letter in labels], dtype=torch.bool),
    )


def prediction_of(text, labels):
    infos = [{"id": ord(letter), "label_id": label, "score": 0.7} for letter, label in labels.items()]
    return PanopticPrediction(torch.from_numpy(ids_of(text)), infos)


def counts_of(target, prediction):
    metric = PanopticQuality(NUM_LABELS, stuff_label_ids=[SKY])
    metric.update([prediction], [target])
    return {label: tuple(column.tolist()) for label, column in enumerate(metric.state.T) if column.any()}


def test_a_perfect_prediction():
    text = "AABBSSS AABBSSS AABB.SS"
    labels = {"A": CAT, "B": CAT, "S": SKY}
    target, prediction = target_of(text, labels), prediction_of(text, labels)
    assert counts_of(target, prediction) == {CAT: (2, 0, 0, 2), SKY: (1, 0, 0, 1)}
    metric = PanopticQuality(NUM_LABELS, stuff_label_ids=[SKY])
    metric.update([prediction], [target])
    results = metric.compute()
    perfect = {"pq": 1.0, "sq": 1.0, "rq": 1.0}
    assert results["all"] == perfect | {"n": 2}
    assert results["things"] == perfect | {"n": 1}
    assert results["stuff"] == perfect | {"n": 1}
    assert results["per_class"] == {CAT: perfect, DOG: {"pq": 0.0, "sq": 0.0, "rq": 0.0}, SKY: perfect}


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        # 3 pixels of 6, and 4 of 6.
        ("AAASSSS AAASSSS", {CAT: (1, 0, 0, 1.0), SKY: (1, 0, 0, 1.0)}),
        ("AASSSSS ASSSSSS", {CAT: (0, 1, 1, 0.0), SKY: (1, 0, 0, 8 / 11)}),
        ("AASSSSS AASSSSS", {CAT: (1, 0, 0, 4 / 6), SKY: (1, 0, 0, 8 / 10)}),
    ],
)
def test_a_match_needs_more_than_half_of_the_union(predicted, expected):
    labels = {"A": CAT, "S": SKY}
    counts = counts_of(target_of("AAASSSS AAASSSS", labels), prediction_of(predicted, labels))
    assert counts == {label: pytest.approx(values) for label, values in expected.items()}


def test_true_void_is_no_part_of_the_union():
    # Common 3, together 7, of which 3 are void: 3 / 4.
    prediction = prediction_of("XAAA... XXAAA..", {"A": CAT, "X": DOG})
    assert counts_of(target_of("AAAA... .......", {"A": CAT}), prediction) == {CAT: (1, 0, 0, 0.75)}


def test_predicted_void_is_part_of_the_union():
    target = target_of("AAAAA.. SSSSSSS", {"A": CAT, "S": SKY})
    prediction = prediction_of("AAA.... SSSS...", {"A": CAT, "S": SKY})
    assert counts_of(target, prediction) == {CAT: (1, 0, 0, 3 / 5), SKY: (1, 0, 0, 4 / 7)}


@pytest.mark.parametrize(("predicted", "expected"), [("BBB....", {}), ("BB.....", {DOG: (0, 1, 0, 0)})])
def test_a_prediction_mostly_on_void_is_not_evaluated(predicted, expected):
    # The first pixel of B is on A; of the others more than half, and exactly half, are void.
    target = target_of("A...... SSSSSSS", {"A": CAT, "S": SKY})
    prediction = prediction_of(f"{predicted} SSSSSSS", {"B": DOG, "S": SKY})
    assert counts_of(target, prediction) == {CAT: (0, 0, 1, 0), SKY: (1, 0, 0, 1)} | expected


def test_a_prediction_mostly_on_a_crowd_of_its_label_is_not_evaluated():
    target = target_of("CCCCCDD DDDDDDD", {"C": CAT, "D": DOG}, crowds="C")
    prediction = prediction_of("XXXXYYX DDDDDDD", {"X": CAT, "Y": DOG, "D": DOG})
    # X: 4 of 5 pixels in the crowd; Y: its crowd is of another label, and half of it lies on D.
    assert counts_of(target, prediction) == {DOG: (1, 1, 0, 7 / 9)}


def test_void_and_crowd_count_together():
    target = target_of("CCAA..S SSSSSSS", {"C": CAT, "A": CAT, "S": SKY}, crowds="C")
    prediction = prediction_of(".XXXX.S SSSSSSS", {"X": CAT, "S": SKY})
    # X: one pixel in the crowd, one void, two on A: exactly half. But it matches A: 2 / (4 + 2 - 2 - 1).
    assert counts_of(target, prediction) == {CAT: (1, 0, 0, pytest.approx(2 / 3)), SKY: (1, 0, 0, 1)}
    prediction = prediction_of(".YXXX.S SSSSSSS", {"X": DOG, "Y": CAT, "S": SKY})
    assert counts_of(target, prediction) == {CAT: (0, 0, 1, 0), DOG: (0, 1, 0, 0), SKY: (1, 0, 0, 1)}


def test_only_the_last_crowd_of_a_label_counts():
    target_text, prediction_text = "CCCDDDS SSSSSSS", "XXXYYYS SSSSSSS"
    prediction = prediction_of(prediction_text, {"X": CAT, "Y": CAT, "S": SKY})
    for order in ("CD", "DC"):
        labels = dict.fromkeys(order, CAT) | {"S": SKY}
        # Which of X and Y is ignored changes, the number does not ...
        assert counts_of(target_of(target_text, labels, "CD"), prediction) == {CAT: (0, 1, 0, 0), SKY: (1, 0, 0, 1)}
    only_first = prediction_of("XXX...S SSSSSSS", {"X": CAT, "S": SKY})
    # ... so look at X alone, which lies on C.
    first_is_last = target_of(target_text, {"D": CAT, "C": CAT, "S": SKY}, "CD")
    second_is_last = target_of(target_text, {"C": CAT, "D": CAT, "S": SKY}, "CD")
    assert counts_of(first_is_last, only_first) == {SKY: (1, 0, 0, 1)}
    assert counts_of(second_is_last, only_first) == {CAT: (0, 1, 0, 0), SKY: (1, 0, 0, 1)}


def test_a_crowd_is_neither_found_nor_missed():
    target = target_of("CCCCCCC SSSSSSS", {"C": CAT, "S": SKY}, crowds="C")
    assert counts_of(target, prediction_of("CCCCCCC SSSSSSS", {"C": CAT, "S": SKY})) == {SKY: (1, 0, 0, 1)}
    assert counts_of(target, prediction_of("....... SSSSSSS", {"S": SKY})) == {SKY: (1, 0, 0, 1)}


def test_the_right_mask_with_the_wrong_label_is_two_errors():
    target = target_of("AAAAAAA SSSSSSS", {"A": CAT, "S": SKY})
    prediction = prediction_of("AAAAAAA SSSSSSS", {"A": DOG, "S": SKY})
    assert counts_of(target, prediction) == {CAT: (0, 0, 1, 0), DOG: (0, 1, 0, 0), SKY: (1, 0, 0, 1)}


def test_nothing_predicted():
    target = target_of("AAABBBB SSSSSSS", {"A": CAT, "B": CAT, "S": SKY})
    prediction = prediction_of("....... .......", {})
    assert counts_of(target, prediction) == {CAT: (0, 0, 2, 0), SKY: (0, 0, 1, 0)}
    metric = PanopticQuality(NUM_LABELS, stuff_label_ids=[SKY])
    metric.update([prediction], [target])
    assert metric.compute()["all"] == {"pq": 0.0, "sq": 0.0, "rq": 0.0, "n": 2}


def test_nothing_to_be_found():
    target = target_of("....... .......", {})
    metric = PanopticQuality(NUM_LABELS, stuff_label_ids=[SKY])
    metric.update([prediction_of("AAA.... .......", {"A": CAT})], [target])
    nothing = {"pq": math.nan, "sq": math.nan, "rq": math.nan, "n": 0}
    assert metric.compute()["all"] == pytest.approx(nothing, nan_ok=True)


def test_a_true_segment_without_pixels_is_missed():
    target = target_of("AAAAAAA SSSSSSS", {"A": CAT, "B": CAT, "S": SKY})
    prediction = prediction_of("AAAAAAA SSSSSSS", {"A": CAT, "S": SKY})
    assert counts_of(target, prediction) == {CAT: (1, 0, 1, 1), SKY: (1, 0, 0, 1)}


def test_the_mean_is_over_labels_that_occur():
    target = target_of("AAABBBB SSSSSSS", {"A": CAT, "B": CAT, "S": SKY})
    prediction = prediction_of("AAADDDD SSSSSSS", {"A": CAT, "D": DOG, "S": SKY})
    metric = PanopticQuality(NUM_LABELS + 2, stuff_label_ids=[SKY, 4])
    metric.update([prediction], [target])
    results = metric.compute()
    # Cat: one found, one missed; dog: one wrong; sky: found.
    assert results["per_class"][CAT] == pytest.approx({"pq": 2 / 3, "sq": 1.0, "rq": 2 / 3})
    assert results["things"] == pytest.approx({"pq": 1 / 3, "sq": 0.5, "rq": 1 / 3, "n": 2})
    assert results["stuff"] == {"pq": 1.0, "sq": 1.0, "rq": 1.0, "n": 1}
    assert results["all"] == pytest.approx({"pq": 5 / 9, "sq": 2 / 3, "rq": 5 / 9, "n": 3})


def test_masks_are_evaluated_as_an_id_map():
    by_ids = target_of("AAABBBB .SSSSSS", {"A": CAT, "B": CAT, "S": SKY}, crowds="B")
    by_masks = SegmentationTarget(labels=by_ids.labels, masks=by_ids.binary_masks(), is_crowd=by_ids.is_crowd)
    prediction = prediction_of("AADDBBB SSSSSSS", {"A": CAT, "B": CAT, "D": DOG, "S": SKY})
    assert counts_of(by_masks, prediction) == counts_of(by_ids, prediction)


def test_a_fused_segment_may_be_listed_twice():
    text, labels = "AAABBBB SSSSSSS", {"A": CAT, "B": CAT, "S": SKY}
    prediction = prediction_of(text, labels)
    twice = PanopticPrediction(prediction.segmentation, prediction.segments_info + prediction.segments_info[2:])
    assert counts_of(target_of(text, labels), twice) == {CAT: (2, 0, 0, 2), SKY: (1, 0, 0, 1)}


@pytest.mark.parametrize("max_id", [23, 2**16 + 3, 2**24 - 1])
@pytest.mark.parametrize("seed", range(5))
def test_files_give_what_the_oracle_gives(seed, max_id, random_panoptic_image, slow_panoptic_quality, write_data_set):
    rng = np.random.default_rng(seed)
    category_ids = rng.permutation(200)[:7].tolist()
    is_thing = {category_id: place % 2 == 0 for place, category_id in enumerate(category_ids)}
    # The last category does not occur.
    images = [random_panoptic_image(rng, category_ids[:-1], max_id) for _ in range(7)]
    categories = [{"id": category_id, "isthing": int(is_thing[category_id])} for category_id in category_ids]
    results = panoptic_quality_from_files(*write_data_set(images, categories))
    assert_same_results(results, slow_panoptic_quality(images, is_thing))
    assert 0 < results["all"]["pq"] < 1


def without_unlisted_segments(target_map, target_infos, *prediction):
    """Make them void, as they are in a SegmentationTarget, which does not know areas either."""
    target_map = np.where(np.isin(target_map, [info["id"] for info in target_infos]), target_map, 0)
    return target_map, [info | {"area": (target_map == info["id"]).sum()} for info in target_infos], *prediction


@settings(derandomize=True, deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_memory_gives_what_the_oracle_gives(seed, random_panoptic_image, slow_panoptic_quality):
    rng = np.random.default_rng(seed)
    images = [without_unlisted_segments(*random_panoptic_image(rng, range(5), 97)) for _ in range(2)]
    metric = PanopticQuality(5, stuff_label_ids=[1, 3])
    for target_map, target_infos, prediction_map, predicted_infos in images:
        target = SegmentationTarget(
            labels=torch.tensor([info["category_id"] for info in target_infos], dtype=torch.int64),
            id_map=torch.from_numpy(target_map),
            segment_ids=torch.tensor([info["id"] for info in target_infos], dtype=torch.int64),
            is_crowd=torch.tensor([info["iscrowd"] for info in target_infos], dtype=torch.bool),
        )
        infos = [{"id": info["id"], "label_id": info["category_id"], "score": 1.0} for info in predicted_infos]
        metric.update([PanopticPrediction(torch.from_numpy(prediction_map), infos)], [target])
    is_thing = {label: label not in (1, 3) for label in range(5)}
    assert_same_results(metric.compute(), slow_panoptic_quality(images, is_thing))


def test_files_without_areas_and_crowd_flags(write_data_set):
    target_map, prediction_map = ids_of("AAAASSS SSSSSSS"), ids_of("AAA.SSS SSSSSSS")
    infos = [{"id": ord("A"), "category_id": 17}, {"id": ord("S"), "category_id": 4}]
    categories = [{"id": 17, "isthing": 1}, {"id": 4, "isthing": 0}]
    arguments = write_data_set([(target_map, infos, prediction_map, infos)], categories)
    results = panoptic_quality_from_files(*map(str, arguments))
    assert results["things"] == {"pq": 0.75, "sq": 0.75, "rq": 1.0, "n": 1}
    assert list(results["per_class"]) == [17, 4]


def test_transparency_of_a_png_is_not_looked_at(write_data_set):
    ids = ids_of("AAAAAAA AAAAAAA")
    infos = [{"id": ord("A"), "category_id": 2}]
    arguments = write_data_set([(ids, infos, ids, infos)], [{"id": 2, "isthing": 1}])
    path = arguments[3] / "image_0.png"
    Image.open(path).convert("RGBA").save(path)
    assert panoptic_quality_from_files(*arguments)["all"]["pq"] == 1.0


def random_pairs(num):
    target = target_of("AABBSSS AABBSSS AABB.SS", {"A": CAT, "B": DOG, "S": SKY})
    maps = [torch.where(torch.rand(3, 7) < 0.2, 0, target.id_map) for _ in range(num)]
    label_of_id = dict(zip(target.segment_ids.tolist(), target.labels.tolist(), strict=True))
    predictions = [
        PanopticPrediction(
            id_map,
            [
                {"id": segment_id, "label_id": label, "score": 1.0}
                for segment_id, label in label_of_id.items()
                if segment_id in id_map
            ],
        )
        for id_map in maps
    ]
    return predictions, [target] * num


def test_two_halves_are_the_whole():
    predictions, targets = random_pairs(7)
    whole, first, second = (PanopticQuality(NUM_LABELS, stuff_label_ids=[SKY]) for _ in range(3))
    whole.update(predictions, targets)
    for prediction, target in zip(predictions[:3], targets[:3], strict=True):
        first.update([prediction], [target])
    second.update(predictions[3:], targets[3:])
    torch.testing.assert_close(first.state + second.state, whole.state, rtol=0, atol=1e-12)
    first.merge(second)
    assert_same_results(first.compute(), whole.compute())
    first.reset()
    assert not first.state.any()


def test_metrics_with_other_arguments_are_not_merged():
    metric = PanopticQuality(NUM_LABELS, stuff_label_ids=[SKY])
    with pytest.raises(ValueError, match="same num_labels and stuff_label_ids"):
        metric.merge(PanopticQuality(NUM_LABELS, stuff_label_ids=[DOG]))


def test_a_failed_update_changes_nothing():
    predictions, targets = random_pairs(2)
    metric = PanopticQuality(NUM_LABELS, stuff_label_ids=[SKY])
    with pytest.raises(ValueError, match="shorter"):
        metric.update(predictions, targets[:1])
    assert not metric.state.any()


@pytest.mark.parametrize(
    ("target", "prediction", "message"),
    [
        (("AAAAAAA", {"A": CAT}), ("AAABBBB", {"A": CAT}), r"\[66\] of the prediction are only in its map"),
        (("AAAAAAA", {"A": CAT}), ("AAAAAAA", {"A": CAT, "B": DOG}), r"\[66\] of .* only in its segments_info"),
        (("AAAAAAA", {"A": CAT}), ("AAAAAAA", {"A": NUM_LABELS}), "Segment 65 has the unknown label_id 3"),
        (("AAAAAAA", {"A": NUM_LABELS}), ("AAAAAAA", {"A": CAT}), r"from 0 to 2, got \[3\]"),
        (("AAAAAAA AAAAAAA", {"A": CAT}), ("AAAAAAA", {"A": CAT}), r"size \(1, 7\) but its target \(2, 7\)"),
    ],
)
def test_wrong_input_in_memory(target, prediction, message):
    with pytest.raises(ValueError, match=message):
        counts_of(target_of(*target), prediction_of(*prediction))


def test_minus_one_is_an_id_and_not_void():
    # A map of only -1 is what transformers returns for an image without segments.
    target, id_map = target_of("SSSSSSS SSSSSSS", {"S": SKY}), torch.full((2, 7), -1)
    with pytest.raises(ValueError, match=r"\[-1\] of the prediction are only in its map"):
        counts_of(target, PanopticPrediction(id_map, []))
    listed = PanopticPrediction(id_map, [{"id": -1, "label_id": SKY, "score": 0.5}])
    assert counts_of(target, listed) == {SKY: (1, 0, 0, 1)}


def test_one_id_with_two_labels_is_refused():
    prediction = prediction_of("AAAAAAA", {"A": CAT})
    prediction.segments_info.append({"id": ord("A"), "label_id": DOG, "score": 0.5})
    with pytest.raises(ValueError, match="Segment 65 is listed with more than one label_id"):
        counts_of(target_of("AAAAAAA", {"A": CAT}), prediction)


def test_overlapping_masks_are_refused():
    masks = torch.ones(2, 2, 7, dtype=torch.bool)
    target = SegmentationTarget(labels=torch.tensor([CAT, DOG]), masks=masks)
    with pytest.raises(ValueError, match=r"segments 0 and 1 .* overlap"):
        counts_of(target, prediction_of("AAAAAAA AAAAAAA", {"A": CAT}))


def test_unknown_stuff_labels_are_refused():
    with pytest.raises(ValueError, match=r"from 0 to 2, got \[3\]"):
        PanopticQuality(NUM_LABELS, stuff_label_ids=[SKY, 3])


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda truth, predictions: predictions["annotations"][0]["segments_info"].pop(), r"image_0.png: .*\[83\]"),
        (
            lambda truth, predictions: predictions["annotations"][0]["segments_info"].append(
                {"id": 70000, "category_id": 2}
            ),
            r"image_0.png: .*\[70000\]",
        ),
        (
            lambda truth, predictions: predictions["annotations"][0]["segments_info"][0].update(category_id=9),
            "image_0.png: Segment 65 has the unknown category_id 9",
        ),
        (
            lambda truth, predictions: truth["annotations"][0]["segments_info"][1].update(category_id=9),
            "gt.0.png: Segment 83 has the unknown category_id 9",
        ),
        (lambda truth, predictions: predictions["annotations"].pop(0), r"pred.json lacks 1 images .* image_id \[0\]"),
    ],
)
def test_wrong_annotations_are_named(break_it, message, write_data_set):
    ids = ids_of("AAAASSS SSSSSSS")
    infos = [{"id": ord("A"), "category_id": 2}, {"id": ord("S"), "category_id": 3}]
    categories = [{"id": 2, "isthing": 1}, {"id": 3, "isthing": 0}]
    arguments = write_data_set([(ids, infos, ids, infos)], categories)
    truth, predictions = json.loads(arguments[0].read_text()), json.loads(arguments[2].read_text())
    break_it(truth, predictions)
    arguments[0].write_text(json.dumps(truth))
    arguments[2].write_text(json.dumps(predictions))
    with pytest.raises(ValueError, match=message):
        panoptic_quality_from_files(*arguments)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("RGB", (7, 3), (65, 0, 0)), r"image_0.png: .* \(3, 7\) but its target \(2, 7\)"),
        (Image.new("L", (7, 2), 65), "image_0.png: The image has mode L"),
    ],
)
def test_wrong_pictures_are_named(image, message, write_data_set):
    ids = ids_of("AAAAAAA AAAAAAA")
    infos = [{"id": ord("A"), "category_id": 2}]
    arguments = write_data_set([(ids, infos, ids, infos)], [{"id": 2, "isthing": 1}])
    image.save(arguments[3] / "image_0.png")
    with pytest.raises(ValueError, match=message):
        panoptic_quality_from_files(*arguments)


def test_the_annotated_area_comes_first():
    ids = ids_of("AAAA...")
    predicted = Segments(np.array([65]), np.array([CAT]), np.array([False]), np.array([math.nan]))
    for area, iou in ((math.nan, 1.0), (5.0, 0.8)):
        true = predicted._replace(areas=np.array([area]))
        counts = panoptic_counts(ids, predicted, ids, true, NUM_LABELS)
        assert counts[:, CAT].tolist() == [1, 0, 0, iou]
