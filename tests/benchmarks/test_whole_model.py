# SPDX-License-Identifier: Apache-2.0
import sys
import time
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tests.pretended_device import DEVICE, HOST, Record

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path += [str(BENCHMARKS), str(BENCHMARKS / "kernels")]

from gpu_report import model_pair, whole_model  # noqa: E402
from gpu_report.model_cases import CASES, SMALL, Case  # noqa: E402
from gpu_report.settings import Settings  # noqa: E402

make_pair = cache(model_pair.make_pair)  # of which most tests do not train any
RATIOS = {"ratio", "ratio_post", "memory_ratio"}


def settings(part, seconds=1000.0):
    return Settings(device="cpu", small=True, part=part, output="", deadline=time.monotonic() + seconds)


def rows_of(part, seconds=1000.0):
    return list(whole_model.rows(settings(part, seconds)))


def of(rows, who):
    return {row["what"]: row for row in rows if row["who"] == who}


def test_inference_is_compared_and_timed_with_and_without_post_processing(monkeypatch):
    monkeypatch.setattr(whole_model, "make_pair", make_pair)
    rows = rows_of("inference")
    agreement, ours, theirs = (of(rows, who) for who in ("ours against transformers", "ours", "transformers"))
    assert list(agreement) == [f"tiny {name} logits fp32" for name in ("ResNet", "Swin", "EoMT")]
    for row in agreement.values():
        assert 0 < row["relative_error"] < 1e-4
        assert "error" not in row
    assert ours.keys() == {case.name for case in SMALL["inference"]}
    recorded = ours.pop("tiny ResNet 64x96 b2 bf16 recorded")  # beside the eager way of the other
    assert recorded["ratio"] == theirs["tiny ResNet 64x96 b2 bf16"]["ms"] / recorded["ms"]
    assert "peak_mib" not in recorded
    assert ours.keys() == theirs.keys()
    for what, row in theirs.items():
        for ratio, measure in (("ratio", "ms"), ("ratio_post", "ms_post")):
            assert row[ratio] == row[measure] / ours[what][measure]
        assert row["memory_ratio"] == ours[what]["peak_mib"] / row["peak_mib"]
        assert not RATIOS & ours[what].keys()
    two = ours["tiny ResNet 64x96 b2 bf16"]
    assert two["images_per_s"] == pytest.approx(2000 / two["ms"])


def test_a_training_step_has_the_same_loss_and_transformers_one_format_of_the_pixel_decoder():
    agreement, *rows = rows_of("training")
    assert agreement["what"] == "tiny ResNet losses fp32"
    assert agreement["relative_error"] < 1e-5
    assert [(row["what"].removeprefix("training tiny ResNet 64x96 "), row["who"]) for row in rows] == [
        ("b2 bf16 decoder tf32", "ours"),
        ("b2 bf16", "transformers"),
        ("b2 bf16", "ours"),
        ("b1 fp32", "ours"),
        ("b1 fp32", "transformers"),
    ]
    in_tf32, theirs, in_bf16 = rows[:3]
    assert theirs["ratio"] == theirs["ms"] / in_tf32["ms"]
    assert in_bf16["ratio"] == theirs["ms"] / in_bf16["ms"]


def test_every_call_is_compiled_as_asked(monkeypatch):
    compiled = []
    monkeypatch.setattr(whole_model, "make_pair", make_pair)
    monkeypatch.setattr(torch, "compile", lambda network, **keywords: compiled.append(keywords) or network)
    rows = rows_of("compiled")
    assert compiled == [{"dynamic": False, "backend": "eager"}] * 2
    whats = ["tiny ResNet 64x96 b2 bf16 eager", "tiny ResNet 64x96 b2 bf16 compiled"]
    assert [row["what"] for row in rows] == [what for what in whats for _ in range(2)]


def test_running_out_of_memory_is_a_row(monkeypatch):
    def pair(backbone):
        ours, theirs = make_pair(backbone)
        network = theirs.network

        def forward(images, **keywords):
            if len(images) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 90.00 GiB.\nMore lines")
            return network(images, **keywords)

        return ours, replace(theirs, network=forward)

    monkeypatch.setattr(whole_model, "make_pair", pair)
    rows = rows_of("inference")
    assert rows[2] == {
        "what": "tiny ResNet 64x96 b2 bf16",
        "who": "transformers",
        "error": "OutOfMemoryError: CUDA out of memory. Tried to allocate 90.00 GiB.",
    }
    assert "ms" in rows[1]
    assert rows[5].keys() >= RATIOS  # the next case of both, of one image


def test_what_the_time_left_is_not_enough_for_is_skipped():
    rows = rows_of("inference", seconds=0)
    assert [row["what"] for row in rows] == ["tiny ResNet models", "tiny Swin models", "tiny EoMT models"]
    assert all(row["skipped"] == "takes some 0 s, 0 s are left" for row in rows)


def test_how_long_a_case_takes_is_told_by_those_before(monkeypatch):
    monkeypatch.setattr(whole_model, "make_pair", make_pair)
    comparison = whole_model.Comparison(settings("inference"))
    case = Case("tiny ResNet", (64, 96), 1, "fp32")
    assert len([*comparison.begin(case), *comparison.measure(case)]) == 3
    large, small = (list(comparison.measure(replace(case, batch_size=count))) for count in (1_000_000, 2))
    assert all("skipped" in row and "ms" not in row for row in large)
    assert all("ms" in row for row in small)


def test_models_that_do_not_agree_are_named():
    pair = model_pair.make_pair("tiny ResNet")
    images = model_pair.make_images(1, (64, 96), torch.device("cpu"))
    targets = model_pair.make_targets(1, (64, 96), torch.device("cpu"))
    weight = pair[1].model.pixel_decoder.mask_projection.weight
    with torch.no_grad():
        weight.mul_(3)
    assert model_pair.compare_logits(pair, images)["error"] == "the two models do not agree"
    assert model_pair.compare_losses(pair, images, targets)["error"] == "the two losses do not agree"
    with torch.no_grad():
        weight.fill_(torch.nan)
    assert model_pair.compare_logits(pair, images)["error"] == "the two models do not agree"


def test_both_make_a_segment_of_each_sure_query():
    for one in make_pair("tiny ResNet"):
        with torch.no_grad():
            outputs = one.network(model_pair.make_images(2, (64, 96), torch.device("cpu")))
        results = one.panoptic(outputs)
        assert len(results) == 2
        for result in results:
            assert result["segmentation"].shape == (64, 96)
            found = {info["label_id"] for info in result["segments_info"]}
            assert found == set(range(70, 90))


def test_all_of_it_runs_on_a_device():
    """Tensors of two devices do not mix on the pretended one, either."""
    pair, images = model_pair.make_pair("tiny ResNet"), model_pair.make_images(2, (64, 96), HOST)
    with Record():
        for one in pair:
            one.model.to(DEVICE)
        images = images.to(DEVICE)
        targets = model_pair.make_targets(2, (64, 96), DEVICE)
        assert model_pair.compare_logits(pair, images)["relative_error"] < 1e-4
        assert model_pair.compare_losses(pair, images, targets)["relative_error"] < 1e-5
        for one in pair:
            assert len(one.panoptic(whole_model.inference(one, "fp32", images)())) == 2
            whole_model.training_step(one, "fp32", images, one.targets_of(targets))()


def test_targets_are_of_a_realistic_number_and_without_gaps():
    targets = model_pair.make_targets(3, (64, 96), torch.device("cpu"))
    assert [len(target) for target in targets] == [10, 11, 12]
    for target in targets:
        assert target.size == (64, 96)
        assert target.binary_masks().sum(0).eq(1).all()


@pytest.mark.parametrize("cases", [*CASES.values(), *SMALL.values()])
def test_cases_have_names_of_their_own_and_stand_together_by_backbone(cases):
    names, backbones = [case.name for case in cases], [case.backbone for case in cases]
    assert len(set(names)) == len(names)
    assert sum(one != other for one, other in pairwise(backbones)) == len(set(backbones)) - 1
    assert set(backbones) <= model_pair.CONFIGS.keys()
