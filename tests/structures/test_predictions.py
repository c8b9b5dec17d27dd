# SPDX-License-Identifier: Apache-2.0
import copy
import pickle

import numpy as np
import pytest
import torch

from unisegment import InstancePrediction, PanopticPrediction, SemanticPrediction, draw

ID_MAP = torch.tensor([[0, 5, 5], [70_000, 70_000, 9]])


def test_predictions_are_read_as_attributes_and_as_items():
    info = [{"id": 1, "label_id": 2, "score": 0.5}]
    panoptic = PanopticPrediction(ID_MAP, info)
    assert panoptic["segmentation"] is panoptic.segmentation
    assert dict(panoptic)["segments_info"] == info
    assert "masks" not in panoptic
    with pytest.raises(KeyError, match="'masks' is not one of segmentation, segments_info"):
        panoptic["masks"]
    instance = InstancePrediction(ID_MAP, info, torch.zeros(1, 2, 3, dtype=torch.bool))
    assert list(instance) == ["segmentation", "segments_info", "masks"]


def test_a_semantic_prediction_is_the_label_map():
    info = [{"id": 5, "label_id": 5, "score": 1.0}]
    prediction = SemanticPrediction(ID_MAP, info)
    assert isinstance(prediction, torch.Tensor)
    assert np.array_equal(prediction.numpy(), ID_MAP.numpy())
    assert type(prediction == 5) is torch.Tensor
    assert type(prediction[0]) is torch.Tensor
    assert prediction["segments_info"] == prediction.segments_info == info
    assert type(prediction["segmentation"]) is torch.Tensor
    assert prediction.segmentation_scores is None
    with pytest.raises(KeyError, match="'masks' is not one of segmentation, segments_info, segmentation_scores"):
        prediction["masks"]


def test_a_semantic_prediction_says_what_it_has():
    prediction = SemanticPrediction(ID_MAP, [])
    # As supervision and others ask, who expect transformers' dicts.
    assert "segmentation" in prediction
    assert "segments_info" in prediction
    assert "masks" not in prediction
    assert 70_000 in prediction
    assert 6 not in prediction


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_semantic_prediction_can_be_copied_and_sent(copier):
    prediction = SemanticPrediction(ID_MAP.clone(), [{"id": 5}], torch.zeros(2, 2, 3))
    again = copier(prediction)
    assert torch.equal(again.segmentation, ID_MAP)
    assert again.segments_info == [{"id": 5}]
    assert again.segmentation_scores.shape == (2, 2, 3)


def infos(*labels, named=True):
    """Segments with these labels, whose scores are 0.9, 0.8 and so on."""
    names = {0: "cow", 1: "grass", 2: "sky"}
    found = [
        {"id": place + 1, "label_id": label, "score": round(0.9 - place / 10, 1), "was_fused": False}
        for place, label in enumerate(labels)
    ]
    return [info | {"label": names[info["label_id"]]} for info in found] if named else found


def panoptic(named=True):
    return PanopticPrediction(
        torch.tensor([[1, 1, 2, 0], [3, 4, 4, 0]], dtype=torch.int32), infos(0, 1, 0, 2, named=named)
    )


def ids_of(prediction):
    return [info["id"] for info in prediction.segments_info]


@pytest.mark.parametrize(
    ("keywords", "kept"),
    [
        ({}, [1, 2, 3, 4]),
        ({"score": 0.7}, [1, 2, 3]),
        ({"labels": ["cow"]}, [1, 3]),
        ({"labels": "cow"}, [1, 3]),
        ({"labels": [1, "sky"]}, [2, 4]),
        ({"labels": 1}, [2]),
        ({"labels": np.array([1, 2])}, [2, 4]),
        ({"labels": ["cow"], "score": 0.8}, [1]),
        ({"labels": ["cwo"]}, []),
        ({"labels": []}, []),
    ],
)
def test_segments_are_chosen_by_score_and_label(keywords, kept):
    whole = panoptic()
    before = copy.deepcopy(whole.segments_info)
    part = whole.filter(**keywords)
    assert type(part) is PanopticPrediction
    assert part.segments_info == [info for info in before if info["id"] in kept]
    expected = [[number if number in kept else 0 for number in row] for row in whole.segmentation.tolist()]
    assert part.segmentation.tolist() == expected
    assert part.segmentation.dtype == torch.int32
    part.segments_info.clear()
    assert whole.segments_info == before


def test_objects_show_what_a_removed_one_covered():
    masks = torch.zeros(3, 3, 5, dtype=torch.bool)
    masks[0, :, :2], masks[1, :2], masks[2, 1:, 1:] = True, True, True
    whole = InstancePrediction(torch.tensor([[1, 1, 2, 2, 2], [1, 1, 2, 2, 2], [1, 1, 3, 3, 3]]), infos(0, 1, 0), masks)
    part = whole.filter(labels=[0])
    assert ids_of(part) == [1, 3]
    assert torch.equal(part.masks, masks[[0, 2]])
    assert part.segmentation.tolist() == [[1, 1, 0, 0, 0], [1, 1, 3, 3, 3], [1, 1, 3, 3, 3]]
    part = whole.filter(labels="grass")
    assert ids_of(part) == [2]
    assert part.segmentation.tolist() == [[2] * 5, [2] * 5, [0] * 5]
    nothing = whole.filter(score=1)
    assert nothing.masks.shape == (0, 3, 5)
    assert not nothing.segmentation.any()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_void_of_labels_is_below_zero(dtype):
    scores = torch.rand(2, 1, 3)
    found = [
        {"id": 0, "label_id": 0, "label": "cow", "score": 0.4, "was_fused": True},
        {"id": 1, "label_id": 1, "label": "grass", "score": 0.8, "was_fused": True},
    ]
    part = SemanticPrediction(torch.tensor([[0, 1, 1]], dtype=dtype), found, scores).filter(labels="grass")
    assert type(part) is SemanticPrediction
    assert part.tolist() == [[-1, 1, 1]]
    assert part.segments_info == found[1:]
    assert part.segmentation_scores is scores
    # It is drawn as other predictions' void is.
    image = np.full((1, 3, 3), 200, np.uint8)
    same = PanopticPrediction(torch.tensor([[0, 1, 1]]), found[1:])
    assert np.array_equal(draw(image, part), draw(image, same))


def test_segments_without_names_are_chosen_by_label_index():
    assert ids_of(panoptic(named=False).filter(labels=[0])) == [1, 3]
    with pytest.raises(ValueError, match="labels has the name 'cow', but these segments have no names: give label ind"):
        panoptic(named=False).filter(labels=[0, "cow"])


@pytest.mark.parametrize("score", [-0.1, 1.1, 90, float("nan")])
def test_scores_out_of_range_are_named(score):
    with pytest.raises(ValueError, match=f"score must be from 0 to 1, as scores are, got {score}"):
        panoptic().filter(score=score)


def test_segments_become_a_target():
    target = panoptic().as_target()
    assert target.labels.tolist() == [0, 1, 0, 2]
    assert torch.equal(target.binary_masks()[3], panoptic().segmentation == 4)
    masks = torch.rand(2, 3, 5) < 0.5
    target = InstancePrediction(torch.zeros(3, 5, dtype=torch.int32), infos(2, 0), masks).as_target()
    assert target.labels.tolist() == [2, 0]
    assert torch.equal(target.binary_masks(), masks)
    found = [{"id": 0, "label_id": 0, "score": 1.0}]
    target = SemanticPrediction(torch.tensor([[0, -1]]), found).as_target()
    assert target.binary_masks().tolist() == [[[True, False]]]
    twice = PanopticPrediction(ID_MAP, [*infos(0), *infos(1)])
    with pytest.raises(ValueError, match=r"2 different numbers.*\[1, 1\]"):
        twice.as_target()


def test_segments_are_counted_by_label():
    assert list(panoptic().count().items()) == [("cow", 2), ("grass", 1), ("sky", 1)]
    assert panoptic(named=False).count() == {0: 2, 1: 1, 2: 1}
    assert panoptic().filter(labels="cow").count() == {"cow": 2}
    assert PanopticPrediction(ID_MAP).count() == {}
    assert SemanticPrediction(ID_MAP, infos(2)).count() == {"sky": 1}
