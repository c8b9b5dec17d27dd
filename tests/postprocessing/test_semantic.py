# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from unisegment.postprocessing import semantic_predictions
from unisegment.structures import SemanticPrediction


def reference_scores(class_logits, mask_logits, image_size, target_size):
    canvas = [4 * length for length in mask_logits.shape[1:]]
    logits = F.interpolate(mask_logits[None].double(), size=canvas, mode="bilinear", align_corners=False)
    logits = logits[:, :, : image_size[0], : image_size[1]]
    mask_probs = F.interpolate(logits, size=target_size, mode="bilinear", align_corners=False)[0].sigmoid()
    class_probs = class_logits.double().softmax(-1)
    scores = torch.zeros(class_logits.shape[1] - 1, *target_size, dtype=torch.float64)
    for query in range(len(class_probs)):
        scores += class_probs[query, :-1, None, None] * mask_probs[query]
    return scores


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    queries=st.sampled_from([1, 2, 7, 101]),
    classes=st.sampled_from([1, 2, 5]),
    padded=st.booleans(),
    target=st.sampled_from([None, (11, 13), (19, 31), (41, 5)]),
)
def test_specification(seed, queries, classes, padded, target):
    generator = torch.Generator().manual_seed(seed)
    class_logits = torch.randn(1, queries, classes + 1, generator=generator) * 4
    mask_logits = torch.randn(1, queries, 5, 7, generator=generator) * 4
    image = (17, 23) if padded else (20, 28)
    expected = reference_scores(class_logits[0], mask_logits[0], image, target or image)
    for max_elements in (1, 9001, 10**9):
        (prediction,) = semantic_predictions(
            class_logits, mask_logits, [image] if padded else None, target and [target],
            return_segmentation_scores=True, max_elements=max_elements,
        )  # fmt: skip
        torch.testing.assert_close(prediction.segmentation_scores.double(), expected, rtol=0, atol=1e-4)
        # The label is the best one up to rounding.
        chosen = expected.gather(0, prediction.segmentation[None])[0]
        torch.testing.assert_close(chosen, expected.amax(0), rtol=0, atol=1e-4)
        assert torch.equal(prediction.segmentation, prediction.segmentation_scores.argmax(0))


def test_pieces_give_the_same_labels():
    class_logits, mask_logits = torch.randn(1, 31, 6) * 4, torch.randn(1, 31, 11, 7) * 4
    whole, pieces = (
        semantic_predictions(class_logits, mask_logits, [(41, 23)], [(61, 67)], max_elements=max_elements)[0]
        for max_elements in (10**9, 1)
    )
    assert torch.equal(whole.segmentation, pieces.segmentation)
    assert [info["id"] for info in whole.segments_info] == [info["id"] for info in pieces.segments_info]
    for info, other in zip(whole.segments_info, pieces.segments_info, strict=True):
        assert info["score"] == pytest.approx(other["score"], abs=1e-6)


def test_a_prediction_is_a_tensor_with_segments():
    class_logits, mask_logits = torch.randn(1, 13, 6) * 4, torch.randn(1, 13, 5, 7) * 4
    (prediction,) = semantic_predictions(class_logits, mask_logits, None, [(19, 23)])
    assert isinstance(prediction, SemanticPrediction)
    assert prediction.shape == (19, 23)
    assert prediction.segmentation_scores is None
    scores = reference_scores(class_logits[0], mask_logits[0], (20, 28), (19, 23))
    labels = scores.argmax(0)
    scores /= scores.sum(0).clamp(min=1)
    assert [info["id"] for info in prediction.segments_info] == labels.unique().tolist()
    for info in prediction.segments_info:
        assert info["label_id"] == info["id"]
        assert info["score"] == pytest.approx(scores[info["id"]][labels == info["id"]].mean().item(), abs=1e-5)


def test_no_object_is_never_a_label():
    class_logits = torch.tensor([[[0.0, 1.0, 30.0]]])
    (prediction,) = semantic_predictions(class_logits, torch.ones(1, 1, 3, 5))
    assert prediction.segmentation.unique().tolist() == [1]
    assert prediction.segments_info[0]["score"] < 1e-6


def test_the_first_of_equal_labels_wins():
    (prediction,) = semantic_predictions(torch.zeros(1, 2, 4), torch.ones(1, 2, 3, 5))
    assert prediction.segmentation.unique().tolist() == [0]


def test_neighbours_in_the_batch_do_not_count():
    class_logits, mask_logits = torch.randn(3, 13, 4) * 4, torch.randn(3, 13, 5, 7) * 4
    image_sizes, target_sizes = torch.tensor([[20, 28], [17, 11], [3, 27]]), [(31, 37), (17, 11), (5, 41)]
    batch = semantic_predictions(class_logits, mask_logits, image_sizes, target_sizes)
    for index, prediction in enumerate(batch):
        one = slice(index, index + 1)
        (alone,) = semantic_predictions(class_logits[one], mask_logits[one], image_sizes[one], target_sizes[one])
        assert prediction.shape == target_sizes[index]
        assert torch.equal(prediction.segmentation, alone.segmentation)
        assert prediction.segments_info == alone.segments_info


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_evaluated_in_float32(dtype):
    class_logits, mask_logits = (torch.randn(1, 13, 4) * 4).to(dtype), (torch.randn(1, 13, 5, 7) * 4).to(dtype)
    (half,) = semantic_predictions(class_logits, mask_logits, return_segmentation_scores=True)
    (full,) = semantic_predictions(class_logits.float(), mask_logits.float(), return_segmentation_scores=True)
    assert half.segmentation_scores.dtype == torch.float32
    assert torch.equal(half.segmentation_scores, full.segmentation_scores)


def test_autocast_changes_nothing():
    class_logits, mask_logits = torch.randn(1, 13, 4) * 4, torch.randn(1, 13, 5, 7) * 4
    (outside,) = semantic_predictions(class_logits, mask_logits, return_segmentation_scores=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (inside,) = semantic_predictions(class_logits, mask_logits, return_segmentation_scores=True)
    assert torch.equal(inside.segmentation_scores, outside.segmentation_scores)


def test_outputs_that_require_gradients():
    (prediction,) = semantic_predictions(
        torch.randn(1, 2, 4).requires_grad_(), torch.ones(1, 2, 3, 5).requires_grad_(), return_segmentation_scores=True
    )
    assert not prediction.segmentation_scores.requires_grad
