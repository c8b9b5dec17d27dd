# SPDX-License-Identifier: Apache-2.0
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessorPil

from tests.models.unisegment.original_files import stock_model
from unisegment.data.formats import open_data_set
from unisegment.data.formats.synthetic import CATEGORIES, write_synthetic
from unisegment.inference.evaluation import evaluate
from unisegment.inference.images import load_batches
from unisegment.inference.labels import match_data_set
from unisegment.inference.predictor import open_predictor
from unisegment.inference.report import headlines
from unisegment.models.checkpoints import convert
from unisegment.structures import Sample, SegmentationTarget

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path += [str(BENCHMARKS), str(BENCHMARKS / "kernels")]

from peers.inference import StockPredictor, _instance, _panoptic, evaluate_both, open_stock_predictor  # noqa: E402

from benchmarks import inference  # noqa: E402

SIZE = {"shortest_edge": 64, "longest_edge": 96}


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stock")
    stock_model("resnet").save_pretrained(folder)
    Mask2FormerImageProcessorPil(size=SIZE).save_pretrained(folder)
    return folder


@pytest.fixture
def samples():
    image = np.random.default_rng(5).integers(0, 256, (53, 71, 3), dtype=np.uint8)
    nothing = torch.zeros(0, dtype=torch.int64)
    target = SegmentationTarget(labels=nothing, id_map=torch.zeros(53, 71, dtype=torch.int32), segment_ids=nothing)
    return [Sample(image, 0, "0.png", target=target)]


def test_it_is_transformers_own_code_on_a_stock_checkpoint(stock, samples):
    ours = open_predictor(stock, panoptic_threshold=0.01)
    ours.processor.stuff_label_ids = [1]
    peer = open_stock_predictor(ours, stock)
    assert peer.stuff_label_ids == {1}
    (batch,) = load_batches(samples, peer.processor, [0])
    assert batch[0].pixel_values.shape[2:] == (64, 96)
    outputs = peer.forward(batch)
    model = Mask2FormerForUniversalSegmentation.from_pretrained(stock).eval()
    processor = Mask2FormerImageProcessorPil.from_pretrained(stock)
    with torch.no_grad():
        expected = model(**processor(images=[samples[0].image], return_tensors="pt"))
    assert torch.equal(outputs.masks_queries_logits, expected.masks_queries_logits)
    maps = processor.post_process_semantic_segmentation(expected, target_sizes=[(53, 71)])
    assert torch.equal(peer.semantic(batch, outputs)[0], maps[0])
    objects = processor.post_process_instance_segmentation(
        expected, threshold=0.0, target_sizes=[(53, 71)], return_binary_maps=True
    )[0]
    things = [info["score"] for info in objects["segments_info"] if info["label_id"] != 1]
    found = peer.instance(batch, outputs)[0]
    assert [info["score"] for info in found.segments_info] == sorted(things, reverse=True)
    assert found.masks.shape == (len(things), 53, 71)
    assert peer.panoptic(batch, outputs)[0].segmentation.shape == (53, 71)


def test_our_own_checkpoint_is_saved_in_stock_layout_for_it(stock, samples, tmp_path):
    convert(str(stock), tmp_path / "ours")
    ours = open_predictor(tmp_path / "ours")
    peers = [open_stock_predictor(ours, source) for source in (stock, tmp_path / "ours")]
    outputs = []
    for peer in peers:
        (batch,) = load_batches(samples, peer.processor, [0])
        outputs.append(peer.forward(batch).masks_queries_logits)
    assert torch.equal(*outputs)
    assert isinstance(peers[0], StockPredictor)


def test_ids_that_it_gives_twice_count_once():
    segmentation = torch.tensor([[-1, 1, 1], [2, 2, 0]])
    infos = [
        {"id": 1, "label_id": 3}, {"id": 2, "label_id": 5}, {"id": 2, "label_id": 4}, {"id": 7, "label_id": 0},
    ]  # fmt: skip
    found = _panoptic({"segmentation": segmentation, "segments_info": infos})
    assert found.segmentation.tolist() == [[0, 1, 1], [2, 2, 0]]
    assert found.segments_info == [{"id": 1, "label_id": 3}, {"id": 2, "label_id": 4}]


def test_nothing_found():
    found = _panoptic({"segmentation": torch.zeros(3, 5) - 1, "segments_info": []})
    assert not found.segmentation.any()
    nothing = _instance({"segmentation": torch.zeros(3, 5) - 1, "segments_info": []}, frozenset({0}))
    assert nothing.masks.shape == (0, 3, 5)
    stuff = {"segmentation": torch.ones(1, 3, 5), "segments_info": [{"id": 0, "label_id": 1, "score": 0.5}]}
    assert _instance(stuff, frozenset({0})).masks.shape == (0, 3, 5)


def test_both_are_scored_on_the_same_data_set(tmp_path):
    write_synthetic(tmp_path / "scenes", num_train=0, num_val=3, progress=False)
    samples = open_data_set(tmp_path / "scenes", "coco_panoptic", "val")
    names = {label: category.name for label, category in enumerate(CATEGORIES)}
    stock_model("resnet", num_labels=8, id2label=names).save_pretrained(tmp_path / "stock")
    Mask2FormerImageProcessorPil().save_pretrained(tmp_path / "stock")
    opening = {"size": SIZE, "panoptic_threshold": 0.01, "top_k": 7}
    found = evaluate_both(tmp_path / "stock", samples, opening=opening, limit=2, batch_size=2)
    ours = match_data_set(open_predictor(tmp_path / "stock", **opening), samples, limit=2)
    assert found["unisegment"] == headlines(evaluate(*ours, boundaries=True, batch_size=2))
    assert found["transformers"].keys() == found["unisegment"].keys()
    assert found["transformers"]["mIoU"] > 0
    assert found["gain"]["mIoU"] == found["unisegment"]["mIoU"] - found["transformers"]["mIoU"]
    assert found["gain"]["AP large"] is None


def test_a_run_is_scored_on_another_folder_by_the_command(monkeypatch, tmp_path, capsys):
    run, output = tmp_path / "run", tmp_path / "scores.json"
    names = {label: category.name for label, category in enumerate(CATEGORIES)}
    stock_model("resnet", num_labels=8, id2label=names).save_pretrained(run / "checkpoint")
    Mask2FormerImageProcessorPil(size=SIZE).save_pretrained(run / "checkpoint")
    scenes = tmp_path / "scenes"
    write_synthetic(scenes, num_train=1, num_val=2, progress=False)
    recipe = {
        "data": {"root": "gone", "format": "synthetic", "num_train": 1, "num_val": 2},
        "optim": {"lr": 1.0, "batch_size": 1},
        "schedule": {"max_steps": 5},
        "run": {"output_dir": "runs"},
    }
    (run / "recipe.yaml").write_text(json.dumps(recipe))
    words = ["--scores", str(run), "--data", str(scenes), "--limit", "1", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["inference.py", *words])
    inference.main()
    found = json.loads(output.read_text())
    assert (found["images"], found["steps"], found["recipe"]) == (1, 5, "synthetic")
    assert found["scores"]["transformers"].keys() == found["scores"]["unisegment"].keys()
    assert capsys.readouterr().out.split()[:3] == ["unisegment", "transformers", "gain"]
