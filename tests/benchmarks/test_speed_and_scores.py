# SPDX-License-Identifier: Apache-2.0
"""benchmarks/speed_and_scores.py in small: which knobs there are, what is measured of each, and what the file keeps."""

import json
import sys
from pathlib import Path

import pytest
import torch

from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation
from unisegment.inference.predictor import open_predictor
from unisegment.runs.recipe import load_recipe
from unisegment.training.assembly import build_model, open_samples

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import speed_and_scores

SCORES = ["PQ", "mask AP", "mIoU", "pixels as trained", "in the worst image", "weights MiB"]
TIMES = ["network images/s", "whole images/s"]


@pytest.fixture
def run(recipe, tmp_path):
    """Return a folder that looks as that of a finished run, whose weights are random."""
    loaded = load_recipe(recipe, {"model.config.encoder_layers": 2})
    samples, _ = open_samples(loaded.data)
    model, processor = build_model(loaded, samples)
    for part in (model, processor):
        part.save_pretrained(tmp_path / "run" / "checkpoint")
    (tmp_path / "run" / "recipe.yaml").write_text(recipe.read_text())
    return tmp_path / "run"


def measure(monkeypatch, run, *words):
    threads = ["--threads", str(torch.get_num_threads())]
    monkeypatch.setattr(
        sys, "argv", ["speed_and_scores.py", str(run), "--images", "1", "--rounds", "1", *threads, *words]
    )
    monkeypatch.setattr(speed_and_scores, "find_spec", lambda name: None)
    speed_and_scores.main()


def test_each_knob_makes_a_model_of_its_own(monkeypatch, run):
    monkeypatch.setattr(speed_and_scores, "find_spec", lambda name: None)
    found = speed_and_scores.variants(run)
    plain = found.pop("as trained")
    weights = {name: speed_and_scores.size_of(one.model) for name, one in found.items()}
    sizes = {name: one.processor.size["shortest_edge"] for name, one in found.items()}
    for name, (key, value) in {name: name.split("=") for name in found}.items():
        if key == "size":
            assert sizes[name] == int(value) < plain.processor.size["shortest_edge"] == 64
        elif key == "dtype":
            assert found[name].model.dtype == torch.bfloat16
            assert weights[name] < 0.7 * speed_and_scores.size_of(plain.model)
        else:
            assert getattr(found[name].model.config, key) == int(value) < getattr(plain.model.config, key)
            assert weights[name] < speed_and_scores.size_of(plain.model)
    assert list(found) == [
        "decoder_layers=3", "decoder_layers=2", "size=57", "size=48", "size=32", "encoder_layers=1", "num_queries=8",
        "num_queries=6", "dtype=bfloat16",
    ]  # fmt: skip


def test_variants_have_scores_and_times_and_parts_keep_the_rest_of_the_file(monkeypatch, run, tmp_path):
    few = {"as trained": open_predictor(run), "decoder_layers=2": open_predictor(run, decoder_layers=2)}
    monkeypatch.setattr(speed_and_scores, "variants", lambda folder: few)
    output = tmp_path / "report.json"
    output.write_text(json.dumps({"R50, seconds": {"as trained": 7}, "rows": {"as trained": {"PQ": 9, "other": 8}}}))
    measure(monkeypatch, run, "--output", str(output), "--parts", "scores", "times")
    report = json.loads(output.read_text())
    assert report["R50, seconds"] == {"as trained": 7}
    assert report["rows"]["as trained"].pop("other") == 8
    assert report["rows"].keys() == few.keys()
    for row in report["rows"].values():
        assert list(row) == SCORES + TIMES
        assert min(row[way] for way in TIMES) > 0
        assert 0 <= row["PQ"] <= 1
        assert 0 <= row["in the worst image"] <= row["pixels as trained"] <= 1
    assert report["rows"]["as trained"]["pixels as trained"] == 1


def test_the_large_model_is_measured_without_a_run(monkeypatch, tmp_path):
    backbone = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1],
                "layer_type": "basic"}  # fmt: skip
    sizes = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 32}

    def small(backbone_config, **keys):
        return UniSegmentConfig(backbone_config=backbone_config | backbone, **sizes, **keys)

    seen = []

    def forward(model, pixel_values):
        seen.append((model.config.decoder_layers, model.config.num_queries, pixel_values.shape[3], model.dtype))

    monkeypatch.setattr(speed_and_scores, "UniSegmentConfig", small)
    monkeypatch.setattr(UniSegmentForUniversalSegmentation, "forward", forward)
    output = tmp_path / "report.json"
    measure(monkeypatch, tmp_path / "no run", "--output", str(output), "--parts", "R50")
    names = list(json.loads(output.read_text())["R50, seconds"])
    assert dict(zip(names, seen[: len(names)], strict=True)) == {
        "as trained": (10, 100, 512, torch.float32), "decoder_layers=7": (7, 100, 512, torch.float32),
        "decoder_layers=4": (4, 100, 512, torch.float32), "encoder_layers=3": (10, 100, 512, torch.float32),
        "num_queries=50": (10, 50, 512, torch.float32), "size=448": (10, 100, 448, torch.float32),
        "size=384": (10, 100, 384, torch.float32), "size=256": (10, 100, 256, torch.float32),
        "dtype=bfloat16": (10, 100, 512, torch.bfloat16),
    }  # fmt: skip


def test_runs_take_turns_and_the_first_round_does_not_count(monkeypatch):
    order, clock = [], iter([0, 100, 0, 100, 0, 5, 0, 1, 0, 3, 0, 2, 0, 4, 0, 9])
    monkeypatch.setattr(speed_and_scores.time, "perf_counter", lambda: next(clock))
    found = speed_and_scores.alternating({"a": (order.append, "a"), "b": (order.append, "b")}, rounds=3)
    assert "".join(order) == "abbaabba"
    assert found == {"a": 3, "b": 4}
