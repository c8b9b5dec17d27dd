# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from unisegment.postprocessing import panoptic_predictions

NO_STUFF = frozenset()


def reference(class_logits, mask_logits, image_size, target_size, threshold, mask_threshold, overlap, stuff):
    """The specification, one query and one pixel after the other."""
    canvas = [4 * length for length in mask_logits.shape[1:]]
    logits = F.interpolate(mask_logits[None].float(), size=canvas, mode="bilinear", align_corners=False)
    logits = logits[:, :, : image_size[0], : image_size[1]]
    probs = F.interpolate(logits, size=target_size, mode="bilinear", align_corners=False)[0].sigmoid()
    scores, labels = class_logits.float().softmax(-1).max(-1)
    kept = [
        query
        for query in range(len(scores))
        if labels[query] != class_logits.shape[1] - 1 and scores[query] > threshold
    ]
    segmentation = torch.zeros(target_size, dtype=torch.int32)
    segments, stuff_ids = [], {}
    if not kept:
        return segmentation, segments
    owner = [[max(kept, key=lambda query: scores[query] * probs[query, y, x])
              for x in range(target_size[1])] for y in range(target_size[0])]  # fmt: skip
    for query in kept:
        owned = torch.tensor([[name == query for name in row] for row in owner])
        mask = probs[query] >= mask_threshold
        if owned.sum() == 0 or mask.sum() == 0 or (owned & mask).sum() == 0:
            continue
        if owned.sum().item() / mask.sum().item() < overlap:
            continue
        label = labels[query].item()
        if label in stuff_ids:
            segmentation[owned & mask] = stuff_ids[label]
            continue
        score = scores[query].item()
        segments.append({"id": len(segments) + 1, "label_id": label, "score": score, "was_fused": label in stuff})
        segmentation[owned & mask] = segments[-1]["id"]
        if label in stuff:
            stuff_ids[label] = segments[-1]["id"]
    return segmentation, segments


def sure(labels, num_classes, logit=9.0):
    """Class logits of one image with one sure label a query; the label `num_classes` means no object."""
    return F.one_hot(torch.tensor(labels), num_classes + 1).float()[None] * logit


def blocks(*rows):
    """Mask logits of one image: a column of the picture for each letter, +8 where it is upper case, else -8."""
    return torch.stack([torch.tensor([[8.0 if cell == "X" else -8.0 for cell in row]]) for row in rows])[None]


def assert_same(prediction, segmentation, segments):
    assert prediction.segmentation.dtype == torch.int32
    assert torch.equal(prediction.segmentation, segmentation)
    assert prediction.segments_info == segments


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    queries=st.sampled_from([1, 2, 7]),
    classes=st.sampled_from([1, 3]),
    padded=st.booleans(),
    target=st.sampled_from([None, (11, 13), (19, 31)]),
    thresholds=st.sampled_from([(0.8, 0.5, 0.8), (0.3, 0.5, 0.5), (0.0, 0.7, 0.0), (0.5, 0.1, 0.9)]),
    stuff=st.sampled_from([NO_STUFF, frozenset({0}), frozenset({0, 2})]),
)
def test_specification(seed, queries, classes, padded, target, thresholds, stuff):
    generator = torch.Generator().manual_seed(seed)
    class_logits = torch.randn(1, queries, classes + 1, generator=generator) * 4
    mask_logits = torch.randn(1, queries, 5, 7, generator=generator) * 4
    image = (17, 23) if padded else (20, 28)
    threshold, mask_threshold, overlap = thresholds
    expected = reference(class_logits[0], mask_logits[0], image, target or image, *thresholds, stuff)
    for max_elements in (1, 10**9):
        (prediction,) = panoptic_predictions(
            class_logits, mask_logits, [image] if padded else None, target and [target],
            threshold=threshold, mask_threshold=mask_threshold, overlap_mask_area_threshold=overlap,
            label_ids_to_fuse=stuff, max_elements=max_elements,
        )  # fmt: skip
        assert_same(prediction, *expected)


def test_defaults_are_those_of_the_original():
    class_logits, mask_logits = torch.randn(1, 5, 4) * 5, torch.randn(1, 5, 2, 3) * 4 - 2
    (prediction,) = panoptic_predictions(class_logits, mask_logits)
    expected = reference(class_logits[0], mask_logits[0], (8, 12), (8, 12), 0.8, 0.5, 0.8, NO_STUFF)
    assert len(expected[1]) > 0
    assert_same(prediction, *expected)


def test_many_queries():
    class_logits, mask_logits = torch.randn(1, 200, 6) * 5, torch.randn(1, 200, 3, 5) * 4
    expected = reference(class_logits[0], mask_logits[0], (11, 19), (11, 19), 0.8, 0.5, 0.1, {1, 3})
    assert len(expected[1]) > 5
    (prediction,) = panoptic_predictions(
        class_logits, mask_logits, [(11, 19)], overlap_mask_area_threshold=0.1, label_ids_to_fuse=[1, 3]
    )
    assert_same(prediction, *expected)


def test_stuff_of_several_queries_is_one_segment_and_no_id_is_used_twice():
    class_logits = sure([2, 0, 2, 0], num_classes=3)
    class_logits[0, 2, 2] = 8.0
    mask_logits = blocks("X.......", "..X.....", "....X...", "......X.")
    (prediction,) = panoptic_predictions(class_logits, mask_logits, label_ids_to_fuse={2})
    scores = class_logits[0].softmax(-1).max(-1).values.tolist()
    assert prediction.segments_info == [
        {"id": 1, "label_id": 2, "score": scores[0], "was_fused": True},
        {"id": 2, "label_id": 0, "score": scores[1], "was_fused": False},
        {"id": 3, "label_id": 0, "score": scores[3], "was_fused": False},
    ]
    assert prediction.segmentation[2, 2::4].tolist() == [1, 0, 2, 0, 1, 0, 3, 0]
    (things,) = panoptic_predictions(class_logits, mask_logits)
    assert things.segmentation[2, 2::4].tolist() == [1, 0, 2, 0, 3, 0, 4, 0]


def test_stuff_must_keep_its_share_before_it_is_merged():
    # The second query of stuff is mostly hidden by the thing, so its visible rest does not join the first.
    class_logits = sure([1, 0, 1], num_classes=2)
    class_logits[0, 2, 1] = 5.0
    mask_logits = blocks("XX......", "...XXXX.", "...XXXXX")
    (prediction,) = panoptic_predictions(class_logits, mask_logits, label_ids_to_fuse={1})
    assert prediction.segmentation[2, 2::4].tolist() == [1, 1, 0, 2, 2, 2, 2, 0]


def test_the_higher_product_of_scores_owns_a_pixel_and_the_first_of_equals():
    mask_logits = blocks("XXXX.", "XXXX.")
    class_logits = sure([0, 1], num_classes=2)
    for max_elements in (1, 10**9):
        (prediction,) = panoptic_predictions(class_logits, mask_logits, max_elements=max_elements)
        assert [segment["label_id"] for segment in prediction.segments_info] == [0]
    class_logits[0, 1, 1] = 9.5
    for max_elements in (1, 10**9):
        (prediction,) = panoptic_predictions(class_logits, mask_logits, max_elements=max_elements)
        assert [segment["label_id"] for segment in prediction.segments_info] == [1]
        assert prediction.segmentation[1, 2::4].tolist() == [1, 1, 1, 1, 0]


def test_a_share_of_exactly_the_threshold_is_kept():
    # Four of the five columns are left to the second query; a target size of one pixel a cell keeps the blocks sharp.
    class_logits = sure([0, 1], num_classes=2)
    class_logits[0, 1, 1] = 4.0
    mask_logits = blocks("X....", "XXXXX")
    arguments = (class_logits, mask_logits, None, [(1, 5)])
    (prediction,) = panoptic_predictions(*arguments, overlap_mask_area_threshold=0.8)
    assert prediction.segmentation.tolist() == [[1, 2, 2, 2, 2]]
    (prediction,) = panoptic_predictions(*arguments)
    assert prediction.segmentation.tolist() == [[1, 2, 2, 2, 2]]
    (prediction,) = panoptic_predictions(*arguments, overlap_mask_area_threshold=0.800001)
    assert prediction.segmentation.tolist() == [[1, 0, 0, 0, 0]]


def test_less_than_the_usual_share_is_dropped():
    class_logits = sure([0, 1], num_classes=2)
    class_logits[0, 1, 1] = 4.0
    (prediction,) = panoptic_predictions(class_logits, blocks("X...", "XXXX"), None, [(1, 4)])
    assert prediction.segmentation.tolist() == [[1, 0, 0, 0]]


def test_a_query_that_owns_pixels_outside_its_mask_alone_makes_no_segment():
    class_logits = sure([0, 1], num_classes=2)
    class_logits[0, 1, 1] = 4.0
    mask_logits = torch.tensor([[[[20.0, -20.0, -20.0]], [[8.0, -1.0, -1.0]]]])
    (prediction,) = panoptic_predictions(class_logits, mask_logits, None, [(1, 3)])
    assert [segment["label_id"] for segment in prediction.segments_info] == [0]


def test_the_class_score_must_exceed_the_threshold():
    class_logits = torch.tensor([[[0.0, 0.0, -200.0], [1.0, 0.0, -200.0]]])
    mask_logits = blocks("X..", "..X")
    (prediction,) = panoptic_predictions(class_logits, mask_logits, threshold=0.5)
    assert [segment["score"] > 0.5 for segment in prediction.segments_info] == [True]


def test_pixels_of_a_segment_below_the_mask_threshold_are_void():
    mask_logits = torch.tensor([[[[2.0, 0.0, -2.0]]]])
    arguments = (sure([0], 1), mask_logits, None, [(1, 3)])
    (prediction,) = panoptic_predictions(*arguments)
    assert prediction.segmentation.tolist() == [[1, 1, 0]]
    (prediction,) = panoptic_predictions(*arguments, mask_threshold=0.8)
    assert prediction.segmentation.tolist() == [[1, 0, 0]]
    (prediction,) = panoptic_predictions(*arguments, mask_threshold=0.0)
    assert prediction.segmentation.tolist() == [[1, 1, 1]]
    (prediction,) = panoptic_predictions(*arguments, mask_threshold=1.0)
    assert prediction.segments_info == []


@pytest.mark.parametrize("labels", [[2, 2], [0, 1]])
def test_nothing_kept(labels):
    class_logits = sure(labels, num_classes=2, logit=9.0 if labels == [2, 2] else 0.1)
    (prediction,) = panoptic_predictions(class_logits, torch.ones(1, 2, 3, 5), None, [(7, 11)])
    assert_same(prediction, torch.zeros(7, 11, dtype=torch.int32), [])


def test_a_mask_in_the_padding_alone_makes_no_segment():
    mask_logits = blocks("X....", "....X")
    (prediction,) = panoptic_predictions(sure([0, 1], 2), mask_logits, [(4, 13)])
    assert [segment["label_id"] for segment in prediction.segments_info] == [0]
    assert prediction.segmentation.shape == (4, 13)


def test_neighbours_in_the_batch_do_not_count():
    class_logits, mask_logits = torch.randn(3, 13, 4) * 4, torch.randn(3, 13, 5, 7) * 4
    image_sizes, target_sizes = torch.tensor([[20, 28], [17, 11], [3, 27]]), [(31, 37), (17, 11), (5, 41)]
    arguments = {"threshold": 0.4, "overlap_mask_area_threshold": 0.2, "label_ids_to_fuse": {1}}
    batch = panoptic_predictions(class_logits, mask_logits, image_sizes, target_sizes, **arguments)
    for index, prediction in enumerate(batch):
        one = slice(index, index + 1)
        (alone,) = panoptic_predictions(
            class_logits[one], mask_logits[one], image_sizes[one], target_sizes[one], **arguments
        )
        assert prediction.segmentation.shape == target_sizes[index]
        assert len(prediction.segments_info) > 0
        assert_same(prediction, alone.segmentation, alone.segments_info)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_evaluated_in_float32(dtype):
    class_logits, mask_logits = (torch.randn(1, 13, 4) * 4).to(dtype), (torch.randn(1, 13, 5, 7) * 4).to(dtype)
    arguments = {"threshold": 0.3, "overlap_mask_area_threshold": 0.1}
    (half,) = panoptic_predictions(class_logits, mask_logits, **arguments)
    (full,) = panoptic_predictions(class_logits.float(), mask_logits.float(), **arguments)
    assert len(full.segments_info) > 0
    assert_same(half, full.segmentation, full.segments_info)


def test_outputs_that_require_gradients():
    class_logits, mask_logits = sure([0], 1).requires_grad_(), torch.ones(1, 1, 3, 5).requires_grad_()
    (prediction,) = panoptic_predictions(class_logits, mask_logits)
    assert prediction.segments_info[0]["score"] > 0.9


@pytest.mark.parametrize("value", [-0.1, float("nan")])
def test_thresholds_of_scores_below_all(value):
    with pytest.raises(ValueError, match=r"^threshold must be at least 0"):
        panoptic_predictions(sure([0], 1), torch.ones(1, 1, 3, 5), threshold=value)


@pytest.mark.parametrize("value", [1.0, 1.5, float("inf")])
def test_no_score_exceeds_one(value):
    (prediction,) = panoptic_predictions(sure([0], 1, logit=200.0), torch.ones(1, 1, 3, 5) * 200, threshold=value)
    assert prediction.segments_info == []
    assert not prediction.segmentation.any()


@pytest.mark.parametrize("name", ["mask_threshold", "overlap_mask_area_threshold"])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_thresholds_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be from 0 to 1"):
        panoptic_predictions(sure([0], 1), torch.ones(1, 1, 3, 5), **{name: value})
