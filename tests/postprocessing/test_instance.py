# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from unisegment.postprocessing import instance_predictions
from unisegment.postprocessing.instance import _least_pixels


def reference(class_logits, mask_logits, image_size, target_size, threshold, mask_threshold, top_k, label_ids):
    """The specification, one pair of a query and a class after the other."""
    canvas = [4 * length for length in mask_logits.shape[1:]]
    logits = F.interpolate(mask_logits[None].float(), size=canvas, mode="bilinear", align_corners=False)
    logits = logits[:, :, : image_size[0], : image_size[1]]
    probs = F.interpolate(logits, size=target_size, mode="bilinear", align_corners=False)[0].sigmoid()
    class_probs = class_logits.float().softmax(-1)
    pairs = [(query, label) for query in range(len(probs)) for label in range(class_logits.shape[1] - 1)]
    pairs = sorted(pairs, key=lambda pair: -class_probs[pair])[:top_k]
    objects = []
    for query, label in pairs:
        mask = probs[query] > mask_threshold
        score = (class_probs[query, label] * (probs[query] * mask).sum() / (mask.sum() + 1e-6)).item()
        if score > threshold and (label_ids is None or label in label_ids):
            objects.append((score, label, mask))
    return sorted(objects, key=lambda item: -item[0])


def sure(labels, num_classes, logit=9.0):
    return F.one_hot(torch.tensor(labels), num_classes + 1).float()[None] * logit


def blocks(*rows):
    """Mask logits of one image, one row of pixels high: +8 where there is an X, else -8."""
    return torch.stack([torch.tensor([[8.0 if cell == "X" else -8.0 for cell in row]]) for row in rows])[None]


def assert_consistent(prediction):
    masks, infos = prediction.masks, prediction.segments_info
    assert masks.dtype == torch.bool
    assert len(masks) == len(infos)
    assert [info["id"] for info in infos] == list(range(1, len(infos) + 1))
    scores = [info["score"] for info in infos]
    assert scores == sorted(scores, reverse=True)
    expected = torch.zeros_like(prediction.segmentation)
    for index in range(len(masks) - 1, -1, -1):
        expected[masks[index]] = index + 1
    assert prediction.segmentation.dtype == torch.int32
    assert torch.equal(prediction.segmentation, expected)


def assert_same(prediction, other):
    assert torch.equal(prediction.masks, other.masks)
    assert torch.equal(prediction.segmentation, other.segmentation)
    assert [info["label_id"] for info in prediction.segments_info] == [info["label_id"] for info in other.segments_info]
    for info, other_info in zip(prediction.segments_info, other.segments_info, strict=True):
        assert info["score"] == pytest.approx(other_info["score"], abs=1e-6)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    queries=st.sampled_from([1, 2, 7]),
    classes=st.sampled_from([1, 3]),
    padded=st.booleans(),
    target=st.sampled_from([None, (11, 13), (19, 31)]),
    thresholds=st.sampled_from([(0.5, 0.5), (0.0, 0.5), (0.3, 0.8), (0.1, 0.01)]),
    top_k=st.sampled_from([1, 5, 100]),
    label_ids=st.sampled_from([None, [0], [2, 0], []]),
)
def test_specification(seed, queries, classes, padded, target, thresholds, top_k, label_ids):
    generator = torch.Generator().manual_seed(seed)
    class_logits = torch.randn(1, queries, classes + 1, generator=generator) * 3
    mask_logits = torch.randn(1, queries, 5, 7, generator=generator) * 4
    image = (17, 23) if padded else (20, 28)
    expected = reference(class_logits[0], mask_logits[0], image, target or image, *thresholds, top_k, label_ids)
    for max_elements in (1, 10**9):
        (prediction,) = instance_predictions(
            class_logits, mask_logits, [image] if padded else None, target and [target],
            threshold=thresholds[0], mask_threshold=thresholds[1], top_k=top_k, label_ids=label_ids,
            max_elements=max_elements,
        )  # fmt: skip
        assert_consistent(prediction)
        assert prediction.masks.shape == (len(expected), *(target or image))
        for info, mask, (score, label, expected_mask) in zip(
            prediction.segments_info, prediction.masks, expected, strict=True
        ):
            assert info["score"] == pytest.approx(score, abs=1e-5)
            assert info["label_id"] == label
            assert torch.equal(mask, expected_mask)


def test_many_queries_and_a_hundred_objects():
    class_logits, mask_logits = torch.randn(1, 200, 4), torch.randn(1, 200, 5, 7) * 4
    (prediction,) = instance_predictions(class_logits, mask_logits, threshold=0.0)
    assert len(prediction.masks) == 100
    assert_consistent(prediction)
    expected = reference(class_logits[0], mask_logits[0], (20, 28), (20, 28), 0.0, 0.5, 100, None)
    for info, (score, label, _) in zip(prediction.segments_info, expected, strict=True):
        assert info["score"] == pytest.approx(score, abs=1e-5)
        assert info["label_id"] == label


def test_one_query_makes_objects_of_several_labels():
    class_logits = torch.tensor([[[1.0, 2.0, -30.0]]])
    (prediction,) = instance_predictions(class_logits, blocks("X.X"), threshold=0.0)
    assert [info["label_id"] for info in prediction.segments_info] == [1, 0]
    assert torch.equal(prediction.masks[0], prediction.masks[1])
    assert prediction.segmentation.unique().tolist() == [0, 1]


def test_other_labels_count_among_the_best():
    class_logits = torch.stack([sure([1], 2)[0], sure([0], 2, logit=4.0)[0]], dim=1)
    arguments = {"threshold": 0.0, "label_ids": [0]}
    (prediction,) = instance_predictions(class_logits, blocks("X..", "..X"), top_k=2, **arguments)
    assert [info["label_id"] for info in prediction.segments_info] == [0]
    (prediction,) = instance_predictions(class_logits, blocks("X..", "..X"), top_k=1, **arguments)
    assert prediction.segments_info == []


def test_equal_scores_keep_the_order_of_queries():
    # No object at the border, where masks are a little surer.
    columns = [".X.......", "...X.....", ".....X...", ".......X."]
    (prediction,) = instance_predictions(sure([0] * 4, 1), blocks(*columns), None, [(1, 9)])
    assert len({info["score"] for info in prediction.segments_info}) == 1
    assert prediction.segmentation.tolist() == [[0, 1, 0, 2, 0, 3, 0, 4, 0]]


def test_empty_masks_never_become_objects():
    (prediction,) = instance_predictions(sure([0, 0], 1), blocks("...", "X.."), threshold=0.0)
    assert len(prediction.masks) == 1


def test_what_better_objects_hide():
    class_logits = sure([0, 0, 0], 1)
    class_logits[0, :, 0] = torch.tensor([9.0, 8.0, 7.0])
    # Half of the second is hidden by the first; the third is hidden by the second alone.
    mask_logits = blocks("XXXX....", "..XXXX..", "....XX..")
    arguments = (class_logits, mask_logits, None, [(1, 8)])

    def kept(threshold):
        (prediction,) = instance_predictions(*arguments, overlap_mask_area_threshold=threshold)
        assert_consistent(prediction)
        return prediction.segmentation.tolist()

    assert kept(None) == [[1, 1, 1, 1, 2, 2, 0, 0]]
    assert kept(0.0) == [[1, 1, 1, 1, 2, 2, 0, 0]]
    assert kept(0.5) == [[1, 1, 1, 1, 2, 2, 0, 0]]
    # Without the second, nothing hides the third.
    assert kept(0.500001) == [[1, 1, 1, 1, 2, 2, 0, 0]]
    (prediction,) = instance_predictions(*arguments, overlap_mask_area_threshold=0.5)
    assert prediction.masks.sum(dim=(1, 2)).tolist() == [4, 4]
    (prediction,) = instance_predictions(*arguments, overlap_mask_area_threshold=0.500001)
    assert prediction.masks.sum(dim=(1, 2)).tolist() == [4, 2]
    assert prediction.segments_info[1]["score"] < class_logits[0, 1].softmax(-1)[0] * 0.9995


@pytest.mark.parametrize("overlap", [None, 0.5])
def test_nothing_found(overlap):
    (prediction,) = instance_predictions(
        sure([2, 2], 2), torch.ones(1, 2, 3, 5), None, [(7, 11)], overlap_mask_area_threshold=overlap
    )
    assert prediction.segments_info == []
    assert prediction.masks.shape == (0, 7, 11)
    assert_consistent(prediction)


def test_neighbours_in_the_batch_do_not_count():
    class_logits, mask_logits = torch.randn(3, 13, 4) * 2, torch.randn(3, 13, 5, 7) * 4
    image_sizes, target_sizes = torch.tensor([[20, 28], [17, 11], [3, 27]]), [(31, 37), (17, 11), (5, 41)]
    arguments = {"threshold": 0.2, "overlap_mask_area_threshold": 0.1}
    batch = instance_predictions(class_logits, mask_logits, image_sizes, target_sizes, **arguments)
    for index, prediction in enumerate(batch):
        one = slice(index, index + 1)
        (alone,) = instance_predictions(
            class_logits[one], mask_logits[one], image_sizes[one], target_sizes[one], **arguments
        )
        assert prediction.masks.shape[1:] == target_sizes[index]
        assert len(prediction.masks) > 1
        assert_same(prediction, alone)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_evaluated_in_float32(dtype):
    class_logits, mask_logits = (torch.randn(1, 13, 4) * 2).to(dtype), (torch.randn(1, 13, 5, 7) * 4).to(dtype)
    (half,) = instance_predictions(class_logits, mask_logits, threshold=0.1)
    (full,) = instance_predictions(class_logits.float(), mask_logits.float(), threshold=0.1)
    assert_same(half, full)
    assert half.segments_info == full.segments_info


@pytest.mark.parametrize("share", [0.0, 0.1, 1 / 3, 0.5, 2 / 3, 0.7, 0.8, 1.0])
def test_the_share_that_an_object_must_show_is_exact(share):
    for area in range(1, 200):
        assert _least_pixels(area, share) == next(n for n in range(area + 1) if n / area >= share)


@pytest.mark.parametrize("value", [-0.1, float("nan")])
def test_thresholds_of_scores_below_all(value):
    with pytest.raises(ValueError, match=r"^threshold must be at least 0"):
        instance_predictions(sure([0], 1), torch.ones(1, 1, 3, 5), threshold=value)


@pytest.mark.parametrize("value", [1.0, 1.5, float("inf")])
def test_no_score_exceeds_one(value):
    (prediction,) = instance_predictions(sure([0], 1, logit=200.0), torch.ones(1, 1, 3, 5) * 200, threshold=value)
    assert prediction.segments_info == []
    assert not prediction.segmentation.any()


@pytest.mark.parametrize("name", ["mask_threshold", "overlap_mask_area_threshold"])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_thresholds_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be from 0 to 1"):
        instance_predictions(sure([0], 1), torch.ones(1, 1, 3, 5), **{name: value})


def test_no_best_pairs():
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        instance_predictions(sure([0], 1), torch.ones(1, 1, 3, 5), top_k=0)
