# SPDX-License-Identifier: Apache-2.0
import os
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import PartialState

from tests.inference.reads_colours import (
    CATEGORIES,
    NUM_LABELS,
    SAMPLES,
    STUFF,
    ReadsColours,
    Torn,
    make_predictor,
    make_processor,
    only_semantic,
)
from tests.metrics.conftest import average, evaluate_image, random_image
from tests.metrics.test_average_precision import coco_stats
from tests.two_processes import run_in_two_processes
from unisegment.inference import evaluation
from unisegment.inference.evaluation import EvaluationCancelledError, evaluate
from unisegment.inference.predictor import Predictor
from unisegment.inference.report import SHORT_NAMES, description, make_report
from unisegment.metrics import BoundaryIoU, MeanAveragePrecision, MeanIoU, PanopticQuality
from unisegment.runs import processes
from unisegment.structures import (
    InstancePrediction,
    PanopticPrediction,
    Sample,
    SegmentationTarget,
    SemanticPrediction,
)


def flat(scores, path=()):
    """Return all values of nested dicts and lists by their path."""
    if isinstance(scores, list):
        scores = dict(enumerate(scores))
    if not isinstance(scores, dict):
        return {path: scores}
    return {name: value for key, item in scores.items() for name, value in flat(item, (*path, key)).items()}


NAMES = [entry["name"] for entry in CATEGORIES]


def approximately(values, **tolerance):
    """Return what equals these numbers up to rounding, and everything else exactly; NaN stands for None."""
    numbers = {path: None if value != value else value for path, value in values.items()}
    return {
        path: pytest.approx(value, **tolerance) if isinstance(value, float | int) else value
        for path, value in numbers.items()
    }


def test_scores_are_those_of_the_metrics_fed_by_hand():
    predictor = make_predictor()
    scores = evaluate(predictor, SAMPLES, boundaries=True)
    panoptic, instance = PanopticQuality(NUM_LABELS, STUFF), MeanAveragePrecision([0, 1], by_boundary=True)
    semantic, boundary = MeanIoU(NUM_LABELS), BoundaryIoU(NUM_LABELS)
    for item in SAMPLES:
        inputs = predictor.processor(images=[item.image], return_tensors="pt")
        outputs = predictor.model(inputs["pixel_values"], pixel_mask=inputs["pixel_mask"])
        sizes = [item.target.size]
        post = predictor.processor
        panoptic.update(post.post_process_panoptic_segmentation(outputs, target_sizes=sizes), [item.target])
        objects = post.post_process_instance_segmentation(outputs, threshold=0.0, target_sizes=sizes)
        instance.update(objects, [item.target])
        for metric in (semantic, boundary):
            metric.update(post.post_process_semantic_segmentation(outputs, target_sizes=sizes), [item.target])
    expected = {
        "images": 6,
        "panoptic": panoptic.compute(),
        "instance": instance.compute(),
        "semantic": semantic.compute() | {"boundary": boundary.compute()},
    }
    assert scores == make_report(expected, predictor.id2label) | {
        **description(predictor), "worst": [], "unreadable_images": [],
    }  # fmt: skip
    assert 0.1 < scores["panoptic"]["all"]["pq"] < 0.99


def test_only_neighbours_of_equal_size_share_a_batch_and_no_score_changes():
    predictor = make_predictor()
    alone = evaluate(predictor, SAMPLES, batch_size=1)
    assert predictor.model.batches == [1] * 6
    predictor.model.batches.clear()
    assert evaluate(predictor, SAMPLES, batch_size=2) == alone
    assert predictor.model.batches == [2, 1, 2, 1]


def test_the_model_runs_in_float32_and_goes_back_to_training():
    predictor = make_predictor()
    predictor.model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        evaluate(predictor, SAMPLES[:1])
    assert predictor.model.dtype == torch.float32
    assert not predictor.model.was_training
    assert predictor.model.training


@pytest.mark.parametrize("num_processes", [2, 7])
def test_processes_share_the_images_and_nothing_is_counted_twice(monkeypatch, num_processes):
    alone = evaluate(make_predictor(), SAMPLES, batch_size=2, boundaries=True, worst=6)
    shards, seen = [], 0
    monkeypatch.setattr(evaluation, "gather_object", lambda own: shards.extend(own) or own)
    for index in range(num_processes):
        state = SimpleNamespace(num_processes=num_processes, process_index=index, is_main_process=index == 0)
        monkeypatch.setattr(processes, "PartialState", lambda state=state: state)
        monkeypatch.setattr(evaluation, "PartialState", lambda state=state: state)
        predictor = make_predictor()
        evaluate(predictor, SAMPLES, batch_size=2, boundaries=True, worst=6)
        seen += sum(predictor.model.batches)
    assert seen == len(SAMPLES)
    monkeypatch.setattr(evaluation, "gather_object", lambda own: shards)
    together = evaluate(make_predictor(), [], boundaries=True, worst=6)
    assert together["worst"] == alone["worst"]
    assert len(alone["worst"]) == 6
    assert together["images"] == 6
    for task in ("panoptic", "instance", "semantic"):
        assert flat(together[task]) == approximately(flat(alone[task]), rel=1e-12)


def test_only_what_is_asked_for_is_scored():
    scores = evaluate(make_predictor(), SAMPLES, tasks=("semantic",), boundaries=True)
    assert {"panoptic", "instance", "semantic"} & set(scores) == {"semantic"}
    assert 0 < scores["semantic"]["boundary_miou"] < 1
    assert scores["miou"] == scores["semantic"]["miou"]
    assert scores["pq"] is scores["mask_ap"] is None


@pytest.mark.parametrize(
    ("tasks", "quality"),
    [
        (("panoptic", "instance", "semantic"), lambda scores: scores["panoptic"]["all"]["pq"]),
        (("semantic", "instance"), lambda scores: scores["semantic"]["miou"]),
        (("instance",), lambda scores: scores["instance"]["ap"]),
    ],
)
def test_images_are_ranked_by_their_own_score(tasks, quality):
    ranking = evaluate(make_predictor(), SAMPLES, tasks=tasks, worst=6)["worst"]
    alone = [quality(evaluate(make_predictor(), [item], tasks=tasks)) for item in SAMPLES]
    expected = sorted((alone[number], number) for number in range(len(SAMPLES)))
    assert ranking == [
        {"file_name": SAMPLES[number].file_name, "quality": one_quality} for one_quality, number in expected
    ]
    assert evaluate(make_predictor(), SAMPLES, tasks=tasks, worst=2)["worst"] == ranking[:2]


def test_an_evaluation_can_be_cancelled():
    predictor, answers = make_predictor(), iter([False, True, True])
    with pytest.raises(EvaluationCancelledError):
        evaluate(predictor, SAMPLES, is_cancelled=lambda: next(answers))
    assert predictor.model.batches == [1]


def test_where_segments_overlap_only_instances_are_scored():
    item = SAMPLES[0]
    masks = item.target.binary_masks().clone()
    masks[0] |= masks[1]
    overlapping = replace(item, target=SegmentationTarget(labels=item.target.labels, masks=masks))
    scores = evaluate(make_predictor(), [*SAMPLES[1:3], overlapping], boundaries=True, worst=6)
    assert not {"panoptic", "semantic"} & set(scores)
    assert {name for name in SHORT_NAMES if scores[name] is not None} == {"mask_ap", "images"}
    assert 0 < scores["instance"]["ap"] < 1
    assert len(scores["worst"]) == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_images_that_cannot_be_read_are_errors_or_left_out(workers):
    with pytest.raises(FileNotFoundError, match=r"1\.png is gone"):
        evaluate(make_predictor(), Torn(SAMPLES), workers=workers)
    left_out = []
    scores = evaluate(make_predictor(), Torn(SAMPLES), workers=workers, on_unreadable=left_out.extend)
    assert left_out == ["1.png is gone", "5.png is gone"]
    assert scores == evaluate(make_predictor(), [SAMPLES[0], *SAMPLES[2:5]]) | {"unreadable_images": left_out}


class Guesses(Predictor):
    """A predictor with random predictions, the same ones for an image wherever it is scored."""

    def __init__(self, cases):
        super().__init__(ReadsColours(), make_processor(do_pad=False))
        object.__setattr__(self, "cases", cases)

    def forward(self, batch):
        return [self.cases[item.number] for item in batch]

    def panoptic(self, batch, outputs):
        return [
            PanopticPrediction(
                torch.from_numpy(case["map"]), [{"id": i["id"], "label_id": i["category_id"]} for i in case["infos"]]
            )
            for case in outputs
        ]

    def instance(self, batch, outputs):
        return [case["instance"] for case in outputs]

    def semantic(self, batch, outputs):
        return [SemanticPrediction(torch.from_numpy(case["labels"]), []) for case in outputs]


def random_cases():
    """Return annotated images, and for each the predictions and the annotation in the form of the oracles."""
    rng = np.random.default_rng(3)
    samples, cases = [], []
    for number in range(5):
        case = dict(
            zip(("target_map", "target_infos", "map", "infos"), random_image(rng, [0, 1, 2], 2**24), strict=True)
        )
        listed = [info["id"] for info in case["target_infos"]]
        case["target_map"] = np.where(np.isin(case["target_map"], listed), case["target_map"], 0)  # void
        for info in case["target_infos"]:
            info["area"] = int((case["target_map"] == info["id"]).sum())
        labels = [info["category_id"] for info in case["target_infos"]]
        target = SegmentationTarget(
            labels=torch.tensor(labels),
            id_map=torch.from_numpy(case["target_map"]),
            segment_ids=torch.tensor([info["id"] for info in case["target_infos"]]),
            is_crowd=torch.tensor([info["iscrowd"] == 1 for info in case["target_infos"]]),
        )
        masks = target.binary_masks() & (torch.from_numpy(rng.random(target.size)) < 0.95)
        infos = [
            {"id": place + 1, "label_id": int(label), "score": float(rng.random())}
            for place, label in enumerate(np.where(rng.random(len(labels)) < 0.8, labels, rng.integers(0, 3)))
        ]
        case["instance"] = InstancePrediction(torch.zeros(target.size, dtype=torch.int32), infos, masks)
        case["labels"] = rng.integers(0, 3, target.size)
        cases.append(case)
        image = np.zeros((*target.size, 3), np.uint8)
        samples.append(Sample(image, number, f"{number}.png", target=target))
    return samples, cases


def evaluate_random_cases(rank=0, num_processes=1):
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    if num_processes > 1:
        os.environ.update(dict(zip(names, map(str, (rank, rank, num_processes, num_processes)), strict=True)))
        PartialState._reset_state()
        PartialState(cpu=True)
        assert PartialState().num_processes == num_processes
    samples, cases = random_cases()
    return evaluate(Guesses(cases), samples, batch_size=2)


def assert_as_the_oracles(scores):
    samples, cases = random_cases()
    assert scores["images"] == len(cases)
    # panopticapi, written out
    counts = {label: [0, 0, 0, 0.0] for label in range(NUM_LABELS)}
    for case in cases:
        evaluate_image(counts, case["target_map"], case["target_infos"], case["map"], case["infos"])
    expected = average(counts, {0: True, 1: True, 2: False})
    expected["per_class"] = [
        {"label": label, "name": NAMES[label], **one} for label, one in sorted(expected["per_class"].items())
    ]
    assert flat(scores["panoptic"]) == approximately(flat(expected), abs=1e-12)
    # pycocotools, of the things
    things = [[info["label_id"] < 2 for info in case["instance"].segments_info] for case in cases]
    predictions = [
        InstancePrediction(
            case["instance"].segmentation,
            [info for info in case["instance"].segments_info if info["label_id"] < 2],
            case["instance"].masks[torch.tensor(chosen)],
        )
        for case, chosen in zip(cases, things, strict=True)
    ]
    targets = []
    for sample in samples:
        chosen = sample.target.select(sample.target.labels < 2)
        targets.append(SegmentationTarget(labels=chosen.labels, masks=chosen.binary_masks(), is_crowd=chosen.is_crowd))
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar_1", "ar_10", "ar_100")
    stats = [None if stat < 0 else stat for stat in coco_stats(predictions, targets)[:9]]
    assert [scores["instance"][name] for name in names] == pytest.approx(stats)
    assert 0.05 < scores["instance"]["ap"] < 0.95
    # a confusion matrix, pixel by pixel
    confusion = np.zeros((NUM_LABELS, NUM_LABELS))
    for case in cases:
        label_of = {info["id"]: info["category_id"] for info in case["target_infos"] if not info["iscrowd"]}
        for true, predicted in zip(case["target_map"].ravel().tolist(), case["labels"].ravel().tolist(), strict=True):
            if true in label_of:
                confusion[label_of[true], predicted] += 1
    ious = np.diag(confusion) / (confusion.sum(0) + confusion.sum(1) - np.diag(confusion))
    assert [line["iou"] for line in scores["semantic"]["per_class"]] == pytest.approx(ious.tolist())
    assert scores["semantic"]["miou"] == pytest.approx(ious.mean())


def test_random_predictions_are_scored_as_by_the_oracles():
    assert_as_the_oracles(evaluate_random_cases())


def test_two_processes_with_uneven_shards_score_as_the_oracles(tmp_path):
    found = run_in_two_processes(partial(evaluate_random_cases, num_processes=2), tmp_path)
    for scores in found:
        assert_as_the_oracles(scores)


def test_only_what_the_processor_reads_is_scored_and_drawn(tmp_path):
    predictor = Predictor(ReadsColours(), only_semantic())
    scores = evaluate(predictor, SAMPLES, worst=1, output=tmp_path)
    assert scores["semantic"] == evaluate(make_predictor(), SAMPLES)["semantic"]
    assert scores["task"] == "semantic"
    assert not {"panoptic", "instance"} & set(scores)
    assert len(list((tmp_path / "worst").glob("*.png"))) == 1
    with pytest.raises(ValueError, match="Only labels of pixels here"):
        evaluate(predictor, SAMPLES, tasks=["panoptic", "instance"])
