# SPDX-License-Identifier: Apache-2.0
"""benchmarks/inference.py in small: what is compared, what takes turns, and what counts as the floor."""

import json
import sys
from collections import Counter
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path += [str(BENCHMARKS), str(BENCHMARKS / "kernels")]

import result_files  # noqa: E402
from gpu_report import model_pair  # noqa: E402
from inference_rows import cases, contenders, floor, memory, networks, results, turns  # noqa: E402
from inference_rows.cases import FULL, SHORT, SIZES, Case  # noqa: E402
from peers import post_processing  # noqa: E402

from benchmarks import inference  # noqa: E402
from unisegment.inference.compiling import CompiledNetwork  # noqa: E402

make_pair = cache(model_pair.make_pair)
IMAGES = model_pair.make_images(1, (64, 64), torch.device("cpu"))


@pytest.fixture
def in_this_process(monkeypatch, capsys):
    """Children take seconds until they have imported everything, so that what they do is done here."""

    def run(words):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["memory.py", *words])
            capsys.readouterr()
            memory.main()
        return capsys.readouterr().out

    monkeypatch.setattr(memory, "_in_a_process", run)
    monkeypatch.setattr(networks, "make_pair", make_pair)


def test_rows_are_compared_timed_and_saved(monkeypatch, tmp_path, in_this_process):
    small = [Case("tiny ResNet", 64, kind) for kind in ("float32", "bfloat16")]
    monkeypatch.setattr(inference, "SMALL", small)
    output = tmp_path / "out" / "inference.json"
    threads = torch.get_num_threads()
    words = ["inference.py", "--small", "--rounds", "2", "--threads", str(threads), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", words)
    inference.main()
    report = json.loads(output.read_text())
    assert report["threads"] == threads
    assert list(report["rows"]) == [case.name for case in small] + list(inference.POST_PROCESSING)
    row, in_bf16 = (report["rows"][case.name] for case in small)
    assert row["mean error"] < 1e-6
    assert row["equal panoptic pixels"] == 1
    medians = {who: times["median"] for who, times in row["seconds"].items()}
    assert list(medians) == ["transformers", "unisegment", "products alone"]
    assert row["ratio"] == pytest.approx(medians["unisegment"] / medians["transformers"], abs=1e-2, rel=1e-2)
    assert row["over floor"] == pytest.approx(medians["unisegment"] / medians["products alone"], abs=1e-2, rel=1e-2)
    assert row["peak MiB"].keys() == {"transformers", "unisegment"}
    assert 1e-5 < in_bf16["mean error"] < 2e-2
    assert in_bf16["seconds"]["transformers"] == row["seconds"]["transformers"]
    assert in_bf16["seconds"]["products alone"] != row["seconds"]["products alone"]
    assert "memory ratio" not in in_bf16
    for task in cases.TASKS:
        assert report["rows"][f"post-processing-{task}"].keys() >= {"seconds", "ratio", "memory ratio"}


def test_a_file_keeps_other_rows_of_the_same_machine_alone(monkeypatch, tmp_path):
    output = tmp_path / "inference.json"
    inference.save(output, {"R50-1024-float32": {"ratio": 1}})
    inference.save(output, {"R50-512-float32": {"ratio": 2}})
    assert list(json.loads(output.read_text())["rows"]) == ["R50-512-float32", "R50-1024-float32"]
    there = result_files.machine() | {"threads": 77}
    monkeypatch.setattr(result_files, "machine", lambda device: there)
    inference.save(output, {"R50-512-bfloat16": {"ratio": 3}})
    rows = {"R50-512-bfloat16": {"ratio": 3}}
    assert json.loads(output.read_text()) == there | {"what": inference.WHAT, "rows": rows}


@pytest.mark.parametrize("model", ["tiny ResNet", "tiny EoMT"])
def test_networks_that_do_not_agree_have_an_error_and_no_times(monkeypatch, model):
    pair = model_pair.make_pair(model)
    with torch.no_grad():
        next(iter(pair[1].model.class_predictor.parameters())).mul_(3)
    monkeypatch.setattr(networks, "make_pair", lambda _: pair)
    rows = networks.rows_of([Case(model, 64), Case(model, 64, "bfloat16")], rounds=1, with_memory=True)
    assert len(rows) == 2
    for row in rows.values():
        assert list(row) == ["error"]
        assert "differ" in row["error"] or "do not agree" in row["error"]


def test_a_form_that_fails_has_an_error_and_the_others_times(monkeypatch):
    def network_of(network, kind, images):
        if kind == "compiled":
            raise RuntimeError("no compiler\nmore lines")
        return contenders.network_of(network, kind, images)

    monkeypatch.setattr(networks, "make_pair", make_pair)
    monkeypatch.setattr(networks, "network_of", network_of)
    rows = networks.rows_of([Case("tiny EoMT", 64), Case("tiny EoMT", 64, "compiled")], rounds=1, with_memory=False)
    assert rows["tiny EoMT-64-compiled"] == {"error": "RuntimeError: no compiler"}
    assert "ratio" in rows["tiny EoMT-64-float32"]


class Doubled(torch.nn.Module):
    def forward(self, pixel_values):
        return 2 * pixel_values


@pytest.mark.parametrize("fails", [False, True])
def test_compiled_rows_are_compiled_as_the_library_does_or_have_an_error(monkeypatch, caplog, capsys, fails):
    def backend(graph, _):
        if fails:
            raise RuntimeError("no compiler")
        return graph.forward

    monkeypatch.setattr(contenders, "CompiledNetwork", partial(CompiledNetwork, backend=backend))
    call = contenders.network_of(Doubled(), "compiled", IMAGES)
    if fails:
        with pytest.raises(RuntimeError, match="not compiled"):
            call()
        assert "no compiler" in caplog.text
    else:
        assert torch.equal(call(), 2 * IMAGES)
        assert "compiled in" in capsys.readouterr().err


def test_outputs_that_are_too_far_off_are_named():
    theirs = contenders.network_of(make_pair("tiny EoMT")[1].network, "float32", IMAGES)()
    assert contenders.compare(theirs, theirs, "float32") == {"mean error": 0, "equal panoptic pixels": 1}
    other = SimpleNamespace(**theirs)
    other.masks_queries_logits = theirs.masks_queries_logits.flip(3)
    maps = [contenders.panoptic_maps(outputs) for outputs in (theirs, other)]
    assert torch.equal(maps[0], maps[1].flip(2))
    assert len(maps[0].unique()) > 5
    wrong = {"class_queries_logits": theirs.class_queries_logits, "masks_queries_logits": other.masks_queries_logits}
    assert "panoptic pixels" in contenders.compare(wrong_outputs(wrong), theirs, "bfloat16")["error"]
    wrong["masks_queries_logits"] = theirs.masks_queries_logits * torch.nan
    assert "error" in contenders.compare(wrong_outputs(wrong), theirs, "float32")


def wrong_outputs(values):
    class Outputs(SimpleNamespace):
        def __getitem__(self, name):
            return getattr(self, name)

    return Outputs(**values)


@pytest.mark.parametrize("model", ["tiny ResNet", "tiny Swin", "tiny EoMT"])
def test_the_floor_has_all_products_of_the_network(model):
    network = make_pair(model)[0].network
    products = floor.count_products(lambda: network(IMAGES))
    with torch.no_grad(), FlopCounterMode(display=False) as expected, floor.plain_products():
        network(IMAGES)
    with torch.no_grad(), FlopCounterMode(display=False) as found:
        for (kind, *what), times in products.items():
            first = next(floor._FORMS[kind](*what, torch.float32))
            for _ in range(times):
                first()
    assert found.get_total_flops() == expected.get_total_flops() > 1e5
    floor.products_alone(products, torch.bfloat16)()


def test_products_are_told_apart():
    convolution = torch.nn.Conv2d(3, 8, (3, 5), stride=2, padding=1)
    patches, up = torch.nn.Conv2d(8, 4, 2, stride=2), torch.nn.ConvTranspose2d(4, 6, 2, stride=2)
    with torch.no_grad():
        products = floor.count_products(lambda: up(patches(convolution(torch.randn(1, 3, 16, 22))[:, :, :, :8])))
    assert products == Counter(
        {
            ("conv", (1, 3, 16, 22), (8, 3, 3, 5), (2, 2), (1, 1), (1, 1), False, 1): 1,
            ("mm", 16, 32, 4): 1,  # 8 x 8 pixels in patches of four, by 8 channels
            ("mm", 16, 4, 24): 1,
        }
    )


def test_the_order_turns_around_and_long_calls_are_called_three_times(monkeypatch):
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    found = turns.take_turns(calls, rounds=2)
    assert "".join(order) == "abccba"
    assert found["b"]["rounds"] == 2
    monkeypatch.setattr(turns, "SECONDS", -1.0)
    assert turns.take_turns(calls, rounds=9)["a"]["rounds"] == 3
    assert turns.spread([3.0, 1.0, 2.00001]) == {"median": 2.0, "fastest": 1.0, "slowest": 3.0, "rounds": 3}


def test_results_that_do_not_agree_have_no_times(monkeypatch):
    def make_calls(outputs, size):
        calls = post_processing.make_calls(outputs, size)
        return {task: of | {"unisegment": lambda of=of: shifted(of["unisegment"]())} for task, of in calls.items()}

    def shifted(result):
        if isinstance(result, torch.Tensor):
            return result.roll(30, 1)
        name = "masks" if "masks" in vars(result) else "segmentation"
        return replace(result, **{name: getattr(result, name).roll(30, -1)})

    monkeypatch.setattr(results, "make_calls", make_calls)
    for task in cases.TASKS:
        row = results.row_of(task, (64, 128), 4, rounds=1, with_memory=False, with_large=False)
        assert "error" in row
        assert "seconds" not in row


def test_every_row_has_a_name_of_its_own_and_rows_of_the_same_work_stand_together():
    assert len({case.name for case in FULL}) == len(FULL)
    assert set(SHORT) <= set(FULL)
    works = [together[0].work for together in cases.by_work(FULL)]
    assert len(set(works)) == len(works)
    assert {together[0].model for together in cases.by_work(SHORT)} == {model for model, _ in SIZES}
