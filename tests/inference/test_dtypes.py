# SPDX-License-Identifier: Apache-2.0
"""A small model that has learned three scenes, in float32, bfloat16 and float16."""

import json
from dataclasses import replace

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from typer.testing import CliRunner

from tests.training.test_assembly import RESNET, SMALL
from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation, UniSegmentImageProcessor
from unisegment.cli import app
from unisegment.data.formats import open_data_set
from unisegment.data.formats.synthetic import CATEGORIES, write_synthetic
from unisegment.inference.evaluation import evaluate
from unisegment.inference.images import load_batches
from unisegment.inference.labels import match_data_set
from unisegment.inference.predictor import open_predictor
from unisegment.ops.tf32 import use_tf32

NAMES = {label: category.name for label, category in enumerate(CATEGORIES)}
HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return scenes, and a model that knows them by heart."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dtypes")
    write_synthetic(folder / "scenes", num_train=0, num_val=3, progress=False)
    model = UniSegmentForUniversalSegmentation(UniSegmentConfig(backbone_config=RESNET, id2label=NAMES, **SMALL))
    processor = UniSegmentImageProcessor(
        size={"shortest_edge": 64, "longest_edge": 80}, num_labels=8, stuff_label_ids=[5, 6, 7]
    )
    samples = [scenes(folder)[index] for index in range(3)]
    inputs = processor(
        images=[sample.image for sample in samples],
        segmentation_targets=[sample.target for sample in samples],
        return_tensors="pt",
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(60):
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.save_pretrained(folder / "ours")
    processor.save_pretrained(folder / "ours")
    return folder


def scenes(folder):
    return open_data_set(folder / "scenes", "coco_panoptic", "val")


def command(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def panoptic_maps(predictor, folder, threshold):
    """Return the output for the scenes, and the id of the segment of each of their pixels."""
    (batch,) = load_batches(scenes(folder), predictor.processor, range(3), batch_size=3)
    outputs = predictor.forward(batch)
    predictions = replace(predictor, panoptic_threshold=threshold).panoptic(batch, outputs)
    assert all(len(prediction.segments_info) > 2 for prediction in predictions)
    return outputs, torch.stack([prediction.segmentation for prediction in predictions])


@pytest.fixture(scope="module")
def threshold(folder):
    """Return the score that is the furthest from those of all queries: another type of numbers loses no segment."""
    predictor = open_predictor(folder / "ours", dtype="float32")
    (batch,) = load_batches(scenes(folder), predictor.processor, range(3), batch_size=3)
    scores = predictor.forward(batch).class_queries_logits.softmax(-1)[..., :-1].amax(-1).flatten().sort().values
    scores = scores[(scores > 0.3) & (scores < 0.95)]
    widest = scores.diff().argmax()
    return scores[widest : widest + 2].mean().item()


def share_of_equal_pixels(maps, others):
    """Return how many pixels are in the same segments, whose numbers may be others: a segment more shifts them all."""
    equal = 0
    for one, other in zip(maps, others, strict=True):
        width = int(other.max()) + 1
        counts = torch.bincount((one * width + other).flatten(), minlength=(int(one.max()) + 1) * width).view(-1, width)
        equal += counts.numpy()[linear_sum_assignment(counts, maximize=True)].sum()
    return equal / maps.numel()


@pytest.mark.parametrize("dtype", HALF)
def test_panoptic_maps_are_those_of_float32(folder, threshold, dtype):
    expected, whole = panoptic_maps(open_predictor(folder / "ours", dtype="float32"), folder, threshold)
    predictor = open_predictor(folder / "ours", dtype=dtype)
    assert {weight.dtype for weight in predictor.model.parameters()} == {HALF[dtype]}
    outputs, half = panoptic_maps(predictor, folder, threshold)
    assert expected.masks_queries_logits.dtype == torch.float32
    assert outputs.masks_queries_logits.dtype == HALF[dtype]
    assert share_of_equal_pixels(whole, half) >= 0.98


def test_masks_beyond_the_largest_float16_stay_finite(folder, threshold):
    predictor = open_predictor(folder / "ours")
    expected, whole = panoptic_maps(predictor, folder, threshold)
    factor = 1e5 / expected.masks_queries_logits.abs().max()
    with torch.no_grad():  # the sign of a mask, and so its pixels, stay
        for layer in (
            predictor.model.pixel_decoder.mask_proj,
            predictor.model.transformer_decoder.predictor.mask_head[-1],
        ):
            layer.weight *= factor.sqrt()
            layer.bias *= factor.sqrt()
    predictor.model.half()
    outputs, half = panoptic_maps(predictor, folder, threshold)
    assert outputs.masks_queries_logits.abs().max() == torch.finfo(torch.float16).max
    assert outputs.masks_queries_logits.isfinite().all()
    assert share_of_equal_pixels(whole, half) >= 0.98


def test_auto_is_what_the_checkpoint_was_saved_in(folder, tmp_path):
    predictor = open_predictor(folder / "ours")
    assert predictor.model.dtype == torch.float32
    predictor.model.to(torch.bfloat16).save_pretrained(tmp_path)
    assert open_predictor(tmp_path).model.dtype == torch.bfloat16
    assert open_predictor(tmp_path, dtype="float32").model.dtype == torch.float32


def test_scores_in_half_precision_are_those_of_float32(folder, tmp_path):
    with use_tf32(True):
        expected = evaluate(*match_data_set(open_predictor(folder / "ours"), scenes(folder)), batch_size=3)
    assert (expected["settings"]["dtype"], expected["settings"]["tf32"]) == ("float32", True)
    arguments = folder / "scenes", "--no-boundaries", "--batch-size", 3, "--output", tmp_path
    result = command("evaluate", folder / "ours", *arguments, "--dtype", "float16", "--no-tf32")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert (report["settings"]["dtype"], report["settings"]["tf32"]) == ("float16", False)
    assert report["panoptic"]["all"]["pq"] == pytest.approx(expected["panoptic"]["all"]["pq"], abs=0.01)
    assert report["semantic"]["miou"] == pytest.approx(expected["semantic"]["miou"], abs=0.01)


def test_predictions_of_two_dtypes_are_not_mixed(folder, tmp_path):
    arguments = "predict", folder / "ours", folder / "scenes" / "val", tmp_path / "out", "--to", "label_png"
    settings = tmp_path / "out" / "parts" / "settings.json"
    result = command(*arguments, "--dtype", "bfloat16")
    assert result.exit_code == 0, result.output
    assert json.loads(settings.read_text())["dtype"] == "bfloat16"
    refused = command(*arguments)
    assert refused.exit_code == 1
    assert "dtype=None (before: 'bfloat16')" in refused.output
    # A folder that was begun before there was a choice is gone on with.
    content = json.loads(settings.read_text())
    settings.write_text(
        json.dumps({key: value for key, value in content.items() if key not in ("dtype", "tf32", "weights")})
    )
    assert "3 images, 0 of them new" in command(*arguments).output
    assert "tf32=False (before: None)" in command(*arguments, "--no-tf32").output


def test_another_dtype_is_refused_in_a_line(folder, tmp_path):
    with pytest.raises(ValueError, match=r"dtype must be one of auto, float32, bfloat16, float16, got 'int8'\."):
        open_predictor(folder / "ours", dtype="int8")
    refused = command("predict", folder / "ours", folder / "scenes" / "val", tmp_path / "out", "--dtype", "half")
    assert refused.exit_code == 2
    assert "'half' is not one of 'auto', 'float32', 'bfloat16', 'float16'" in refused.stderr


def test_both_commands_leave_out_decoder_layers(folder, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(
        "unisegment.segmenter.open_predictor",
        lambda *given, **settings: opened.append(open_predictor(*given, **settings)) or opened[-1],
    )
    for words in (
        ("evaluate", folder / "ours", folder / "scenes", "--limit", 1),
        ("predict", folder / "ours", folder / "scenes" / "val", tmp_path / "out", "--limit", 1),
    ):
        result = command(*words, "--decoder-layers", 3)
        assert result.exit_code == 0, result.output
        assert len(opened.pop().model.transformer_decoder.layers) == 2
        assert command(*words, "--decoder-layers", 0).exit_code == 2
        refused = command(*words, "--decoder-layers", 5)
        assert refused.exit_code == 1
        assert "decoder_layers=5 is more than the checkpoint has, expected at most 4." in refused.output
