# SPDX-License-Identifier: Apache-2.0
import json
import sys

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.ndimage import center_of_mass

from tests.data.export.predictions import random_predictions
from tests.ops.test_polygons import filled_by_definition
from tests.pretended_device import DEVICE, Record
from unisegment.inference.measures import measure, polygons, to_coco, to_supervision
from unisegment.structures import Category, InstancePrediction, PanopticPrediction, SemanticPrediction

SIZE = (29, 43)
NAMES = ["cow", "grass", "sky"]


def predictions():
    """One of each kind, with names; the semantic one has void."""
    found = random_predictions(3, SIZE, [0, 1], 3)
    labels = found["semantic"].segmentation
    infos = [{"id": label, "label_id": label, "score": 0.5 + label / 10} for label in range(3)]
    found["semantic"] = SemanticPrediction(labels, infos)
    for prediction in found.values():
        for info in prediction.segments_info:
            info["label"] = NAMES[info["label_id"]]
    return {**found, "filtered": found["semantic"].filter(labels=["cow", "sky"])}


FOUND = predictions()
KINDS = list(FOUND)
# supervision warns when it is imported without OpenCV.
WITHOUT_OPENCV = pytest.mark.filterwarnings("ignore:OpenCV:UserWarning", "ignore::DeprecationWarning")


def masks_of(prediction):
    if isinstance(prediction, InstancePrediction):
        return prediction.masks.numpy()
    return np.stack([(prediction.segmentation == info["id"]).numpy() for info in prediction.segments_info])


@pytest.mark.parametrize("kind", KINDS)
def test_measures_are_those_of_scipy_and_pycocotools(kind):
    prediction = FOUND[kind]
    found = json.loads(json.dumps(measure(prediction)))
    assert len(found) > 1
    for segment, info, mask in zip(found, prediction.segments_info, masks_of(prediction), strict=True):
        assert [segment[key] for key in ("id", "label_id", "label", "score")] == [
            info["id"],
            info["label_id"],
            NAMES[info["label_id"]],
            info["score"],
        ]
        rows, columns = np.nonzero(mask)
        assert segment["area"] == len(rows)
        assert segment["box"] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        y, x = center_of_mass(mask)
        assert segment["centroid"] == pytest.approx([x + 0.5, y + 0.5], rel=1e-12)


def test_segments_without_pixels_or_names():
    nothing = PanopticPrediction(torch.zeros(3, 5, dtype=torch.int32), [{"id": 4, "label_id": 7, "score": 0.25}])
    expected = {"id": 4, "label_id": 7, "label": "7", "score": 0.25, "area": 0, "box": [0, 0, 0, 0], "centroid": None}
    assert measure(nothing) == [expected]
    assert polygons(nothing) == [[]]
    empty = nothing.filter(score=1)
    assert measure(empty) == polygons(empty) == to_coco(empty, 1) == []


@pytest.mark.parametrize("kind", ["panoptic", "instance"])
@pytest.mark.parametrize("function", [measure, polygons, lambda prediction: to_coco(prediction, 1)])
def test_predictions_of_an_accelerator_are_fetched_once(kind, function):
    here = FOUND[kind]
    with Record() as record:
        tensors = {name: value.to(DEVICE) for name, value in here.items() if isinstance(value, torch.Tensor)}
        there = type(here)(**{**here, **tensors})
        record.synchronisations.clear()
        found = function(there)
        assert record.synchronisations.total() == 1
        part = there.filter(labels=["cow"])
        assert all(part[name].device == DEVICE for name in tensors)
        assert repr(function(part)) == repr(function(here.filter(labels=["cow"])))
    assert repr(found) == repr(function(here))


@pytest.mark.parametrize("kind", KINDS)
def test_polygons_are_exact(kind):
    prediction = FOUND[kind]
    for rings, mask in zip(polygons(prediction), masks_of(prediction), strict=True):
        assert np.array_equal(filled_by_definition(rings, SIZE), mask)


def test_polygons_are_simplified():
    exact, simple = (
        sum(len(ring) for rings in polygons(FOUND["instance"], tolerance) for polygon in rings for ring in polygon)
        for tolerance in (0.0, 1.5)
    )
    assert simple < exact
    with pytest.raises(ValueError, match="tolerance must be 0 pixels or more"):
        polygons(FOUND["instance"], -1)


@pytest.mark.parametrize("kind", KINDS)
def test_coco_dicts_are_those_of_pycocotools(kind):
    prediction = FOUND[kind]
    categories = [Category(number, str(number), True, (1, 2, 3)) for number in (3, 17, 90)]
    found = json.loads(json.dumps(to_coco(prediction, "a", categories)))
    for entry, info, mask in zip(found, prediction.segments_info, masks_of(prediction), strict=True):
        rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        assert entry == {
            "image_id": "a",
            "category_id": categories[info["label_id"]].id,
            "segmentation": {"size": [*SIZE], "counts": rle["counts"].decode()},
            "score": info["score"],
            "bbox": coco_mask.toBbox(rle).tolist(),
            "area": coco_mask.area(rle),
            "iscrowd": 0,
        }
    assert [entry["category_id"] for entry in to_coco(prediction, 1)] == [
        info["label_id"] for info in prediction.segments_info
    ]


@pytest.mark.parametrize("with_boxes", [True, False])
def test_pycocotools_takes_coco_dicts_as_annotations_and_as_results(capsys, with_boxes):
    found = to_coco(FOUND["instance"], 5)
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": 5, "height": SIZE[0], "width": SIZE[1]}],
        "annotations": [entry | {"id": place} for place, entry in enumerate(found, start=1)],
        "categories": [{"id": label, "name": name} for label, name in enumerate(NAMES)],
    }
    truth.createIndex()
    results = [{key: entry[key] for key in entry if with_boxes or key != "bbox"} for entry in found]
    evaluation = COCOeval(truth, truth.loadRes(results), "segm")
    for step in (evaluation.evaluate, evaluation.accumulate, evaluation.summarize):
        step()
    assert evaluation.stats[0] == pytest.approx(1)


@WITHOUT_OPENCV
@pytest.mark.parametrize("kind", KINDS)
def test_supervision_takes_detections(kind):
    prediction = FOUND[kind]
    found = to_supervision(prediction)
    assert np.array_equal(found.mask, masks_of(prediction))
    assert found.xyxy.tolist() == [segment["box"] for segment in measure(prediction)]
    assert found.class_id.tolist() == [info["label_id"] for info in prediction.segments_info]
    assert found.confidence == pytest.approx([info["score"] for info in prediction.segments_info])
    assert found["class_name"].tolist() == [info["label"] for info in prediction.segments_info]
    # As a user goes on with it.
    cows = found[found["class_name"] == "cow"]
    assert np.array_equal(cows.mask, masks_of(prediction.filter(labels="cow")))
    assert cows.area.tolist() == [segment["area"] for segment in measure(prediction.filter(labels="cow"))]


@WITHOUT_OPENCV
def test_supervision_takes_no_detections():
    found = to_supervision(FOUND["panoptic"].filter(labels=[]))
    assert len(found) == len(found["class_name"]) == 0
    assert found.xyxy.shape == (0, 4)


def test_without_supervision_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match=r"needs the package supervision: pip install supervision$"):
        to_supervision(FOUND["panoptic"])
