# SPDX-License-Identifier: Apache-2.0
"""benchmarks/training_step.py in small: what is compared, what takes turns, and what a file of results keeps."""

import json
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path += [str(BENCHMARKS), str(BENCHMARKS / "kernels")]

from gpu_report import model_pair  # noqa: E402
from inference_rows.cases import by_work  # noqa: E402
from inference_rows.turns import OURS, THEIRS  # noqa: E402
from training_rows import gpus, memory, rows  # noqa: E402
from training_rows.cases import CURVES, FULL, SHORT, SMALL, TABLE, Case  # noqa: E402
from training_rows.steps import Steps  # noqa: E402

from benchmarks import training_step  # noqa: E402

make_pair = cache(model_pair.make_pair)
IN_BF16 = f"{THEIRS} in bfloat16"


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
    monkeypatch.setattr(memory, "make_pair", make_pair)
    monkeypatch.setattr(rows, "make_pair", make_pair)


def run(monkeypatch, output, *words):
    threads = str(torch.get_num_threads())
    always = ["training_step.py", "--rounds", "1", "--threads", threads, "--output", str(output)]
    monkeypatch.setattr(sys, "argv", [*always, *words])
    training_step.main()
    return json.loads(output.read_text())["rows"]


def test_rows_are_compared_timed_and_saved(monkeypatch, tmp_path, in_this_process):
    output = tmp_path / "out" / "training_step.json"
    found = run(monkeypatch, output, "--small")
    assert list(found) == [case.name for case in SMALL]
    for case in SMALL:
        row = found[case.name]
        is_bf16 = case.kind.endswith("bfloat16")
        assert row["relative error"] < (3e-2 if is_bf16 else 1e-4)
        assert list(row["seconds"]) == [THEIRS, OURS] + [IN_BF16] * is_bf16
        assert row["peak MiB"].keys() == row["seconds"].keys()
        ours, theirs = (row["seconds"][who]["median"] for who in (OURS, THEIRS))
        assert row["ratio"] == pytest.approx(ours / theirs, abs=1e-3)
        assert ("ratio to theirs in bfloat16" in row) == is_bf16
        assert "memory ratio" in row
    plain, checkpointing = (found[SMALL[number].name] for number in (0, 1))
    assert plain["loss"] == checkpointing["loss"]
    assert plain["seconds"][THEIRS] == checkpointing["seconds"][THEIRS]  # of the same turns


def test_one_part_leaves_the_other_as_it_was(monkeypatch, tmp_path, in_this_process):
    output, case = tmp_path / "step.json", SMALL[0]
    monkeypatch.setattr(training_step, "SMALL", [case])
    training_step.save(output, case.name, {"loss": 1.0, "peak MiB": {OURS: 7.0}, "ratio": 9}, "cpu")
    row = run(monkeypatch, output, "--small", "--only", "time")[case.name]
    assert row["peak MiB"] == {OURS: 7.0}
    assert row["seconds"].keys() == {OURS, THEIRS}
    training_step.save(output, case.name, {"error": "they differ"}, "cpu", only="time")
    assert json.loads(output.read_text())["rows"][case.name] == {"error": "they differ"}


def test_losses_that_do_not_agree_have_an_error_and_no_figures(monkeypatch, tmp_path):
    pair = model_pair.make_pair("tiny EoMT")
    with torch.no_grad():
        next(iter(pair[1].model.class_predictor.parameters())).mul_(3)
    monkeypatch.setattr(rows, "make_pair", lambda _: pair)
    monkeypatch.setattr(training_step, "SMALL", [Case("tiny EoMT", 64, masks=3)])
    with pytest.raises(SystemExit, match=r"No figures of tiny EoMT-64-m3-float32: losses do not agree"):
        run(monkeypatch, tmp_path / "step.json", "--small")
    (row,) = json.loads((tmp_path / "step.json").read_text())["rows"].values()
    assert list(row) == ["error"]
    assert row["error"].startswith("the losses differ by ")


def test_a_step_changes_the_weights_and_checkpointing_changes_nothing_else():
    steps = Steps(model_pair.make_pair("tiny ResNet"), Case("tiny ResNet", 64, masks=3), "cpu")
    before = steps.loss(OURS, "float32")
    torch.manual_seed(3)
    steps.step(OURS, "checkpointing")()
    assert steps.loss(OURS, "float32") == before  # a copy has taken it
    steps.step(OURS, "float32")()
    assert steps.loss(OURS, "float32") != before
    assert steps.loss(THEIRS, "float32") == pytest.approx(before, rel=1e-5)


def test_targets_have_as_many_segments_as_a_case_says():
    for target in model_pair.make_targets(2, (64, 64), torch.device("cpu"), 7):
        assert len(target) == 7
        assert set(target.id_map.unique().tolist()) <= set(range(1, 8))


def test_every_row_has_a_name_of_its_own_and_curves_are_among_them():
    assert len({case.name for case in FULL}) == len(FULL)
    assert set(SHORT) <= set(TABLE) <= set(FULL)
    assert {case for curve in CURVES.values() for case in curve.values()} <= set(FULL)
    works = [together[0].work for together in by_work(FULL)]
    assert len(set(works)) == len(works)


def test_more_images_fit_on_larger_gpus():
    assert [gpus.images_on(size, 3.0, 5.0) for size in (3, 4.4, 8, 24, 80)] == [0, 1, 2, 9, 16]


def test_a_recipe_is_forecast(monkeypatch, tmp_path, recipe, capsys):
    load = gpus.load_recipe
    size = {"data.transform.jitter_size": [256, 384]}
    monkeypatch.setattr(gpus, "load_recipe", lambda name, changes=None: load(name, size | (changes or {})))
    found = gpus.forecast(str(recipe))
    assert found["size"] == [256, 384]
    one, two, *_ = found["variants"]
    assert 1.5 < two["activations"] / one["activations"] < 2.1
    monkeypatch.setattr(gpus, "forecast", lambda name: {"recipe": name, "size": [3, 4], "variants": variants})
    variants = [{"peak GiB": peak} for peak in (3.0, 5.0, 1.0, 1.5)]
    output = tmp_path / "gpus.json"
    monkeypatch.setattr(sys, "argv", ["training_step.py", "--output", str(output), "--gpus", "one", "two"])
    training_step.main()
    assert [row["recipe"] for row in json.loads(output.read_text())["recipes"]] == ["one", "two"]
    assert "| two | 3x4 | 3.0, 5.0 | 1.0, 1.5 | 2 / 11 |" in capsys.readouterr().out
