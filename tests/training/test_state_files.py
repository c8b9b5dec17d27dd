# SPDX-License-Identifier: Apache-2.0
"""Files of a state that are missing, damaged or hostile: one error that names the file, and nothing is executed."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from tests.training.tiny_state import hostile, make_old, tiny_training
from unisegment.cli import app
from unisegment.runs.settings import RecipeError
from unisegment.training import fit
from unisegment.training.state_files import (
    check_pickles,
    read_average,
    read_categories,
    read_moments,
    read_numbers,
    read_repeats,
    read_shapes,
    read_weights,
)

READERS = {
    "model.safetensors": read_weights,
    "optimizer.bin": read_moments,
    "average.safetensors": read_average,
    "progress.json": read_numbers,
}
OLD_READERS = {
    "custom_checkpoint_0.pkl": check_pickles,
    "custom_checkpoint_1.pkl": read_numbers,
    "custom_checkpoint_2.pkl": check_pickles,
    "custom_checkpoint_3.pkl": read_average,
    "random_states_0.pkl": check_pickles,
}
DAMAGES = {
    "hostile": lambda content, mark: hostile(mark),
    "truncated": lambda content, mark: content[: len(content) // 2],
    "empty": lambda content, mark: b"",
    "other": lambda content, mark: b"\x80no\xff such file",
}


def repeats(factors):
    return {"threshold": torch.tensor(0.5, dtype=torch.float64), "factors": factors.double()}


@pytest.fixture
def state(tmp_path):
    folder = tmp_path / "step-000002"
    folder.mkdir()
    tiny_training(step=2).save(folder)
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [*READERS, *OLD_READERS])
def test_what_is_damaged_or_hostile_is_named_and_not_executed(state, tmp_path, name, damage):
    if name in OLD_READERS:
        make_old(state)
    file, mark = state / name, tmp_path / "EXECUTED"
    (READERS | OLD_READERS)[name](state)
    file.write_bytes(DAMAGES[damage](file.read_bytes(), mark))
    with pytest.raises(RecipeError) as error:
        (READERS | OLD_READERS)[name](state)
    assert str(error.value).startswith(f"{file} cannot be used: ")
    assert str(error.value).count(str(file)) == 1
    assert f"Remove the folder {state}: the same command then goes on" in str(error.value)
    assert not mark.exists()


@pytest.mark.parametrize("name", READERS)
def test_what_is_missing_is_named(state, name):
    (state / name).unlink()
    with pytest.raises(RecipeError, match=rf"{name} cannot be used: it is missing\. Remove the folder"):
        READERS[name](state)


def test_what_is_missing_of_an_old_state_is_named(state):
    make_old(state)
    (state / "custom_checkpoint_2.pkl").unlink()
    with pytest.raises(
        RecipeError, match=r"custom_checkpoint_2\.pkl cannot be used: it is missing\. Remove the folder"
    ):
        read_numbers(state)


@pytest.mark.parametrize(
    ("entry", "value", "said"),
    [
        ("step", 3, "progress.step is 3, in a state that is called step-000002"),
        ("step", "2", "progress.step must be a whole number from 0 to 2,147,483,647, got '2'"),
        ("step", True, "progress.step must be a whole number from 0 to 2,147,483,647, got True"),
        ("seconds", float("nan"), "progress.seconds must be a finite number of at least 0, got nan"),
        ("seconds", -1, "progress.seconds must be a finite number of at least 0, got -1"),
        ("overflows", [], r"progress.overflows must be a whole number from 0 to 2,147,483,647, got []"),
        ("overflow", 1, "there is no key 'progress.overflow'"),
    ],
)
def test_an_entry_of_the_progress_that_cannot_be_is_named(state, entry, value, said):
    numbers = json.loads((state / "progress.json").read_text())
    numbers["progress"][entry] = value
    (state / "progress.json").write_text(json.dumps(numbers))
    with pytest.raises(RecipeError) as error:
        read_numbers(state)
    assert said in str(error.value)


@pytest.mark.parametrize("content", ["[]", "null", "{}", '{"progress": {}}', '{"progress": 1}', "[" * 100_000])
def test_progress_of_another_kind_is_refused(state, content):
    (state / "progress.json").write_text(content)
    with pytest.raises(RecipeError, match=r"progress\.json cannot be used: "):
        read_numbers(state)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda moments: moments.pop("state"), "state must be tensors under num"),
        (lambda moments: moments.pop("param_groups"), "param_groups must be a list of groups with params"),
        (lambda moments: moments.update(param_groups=[7]), "param_groups must be a list of groups with params"),
        (lambda moments: moments["param_groups"][0].update(params=[1, 0]), "params of param_groups must be numbers"),
        (lambda moments: moments["state"].update({7: {}}), "state must be tensors under numbers below 2, got 7"),
        (lambda moments: moments["state"][1].update(exp_avg="1"), "state.1.'exp_avg' must be a tensor of floating"),
        (lambda moments: moments["state"][1].update({7: torch.ones(())}), "state.1.7 must be a tensor of floating"),
        (
            lambda moments: moments["state"].update({1.0: moments["state"].pop(1)}),
            "state must be tensors under numbers",
        ),
    ],
)
def test_moments_of_another_kind_are_named(state, change, said):
    moments = torch.load(state / "optimizer.bin")
    change(moments)
    torch.save(moments, state / "optimizer.bin")
    with pytest.raises(RecipeError) as error:
        read_moments(state)
    assert f"optimizer.bin cannot be used: {said}" in str(error.value)


@pytest.mark.parametrize("content", ["{}", "[1]", '[{"id": []}]', '[{"id": 1}]', "[{", '[{"id": 1e999, "name": "a"}]'])
def test_categories_of_another_kind_are_named(state, content):
    assert read_categories(state) is None
    (state / "categories.json").write_text(content)
    with pytest.raises(RecipeError, match=r"categories\.json cannot be used: "):
        read_categories(state)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"factors": torch.ones(3)}, "it must hold threshold and factors, in 64 bits"),
        ({"threshold": torch.ones(()), "factors": torch.ones(3)}, "it must hold threshold and factors, in 64 bits"),
        (repeats(torch.ones(3, 5)), "factors must be one for each image"),
        (repeats(torch.tensor([1, 0.5, 1])), "factors must be one for each image, from 1 to 1.73205"),
        (repeats(torch.tensor([1, 1e9, 1])), "factors must be one for each image, from 1 to 1.73205"),
        (repeats(torch.tensor([1, float("nan")])), "factors must be one for each image, from 1 to 1.41421"),
        (None, ""),
    ],
)
def test_repeats_of_another_kind_are_named(state, tensors, said):
    assert read_repeats(state) is None
    if tensors is None:
        (state / "repeats.safetensors").write_bytes(b"{")
    else:
        save_file(tensors, state / "repeats.safetensors")
    with pytest.raises(RecipeError, match=rf"repeats\.safetensors cannot be used: {said}"):
        read_repeats(state)


def test_weights_have_the_names_of_the_model_itself(state):
    save_file({"module.model.model.a": torch.ones(2, 3), "b": torch.ones(5)}, state / "model.safetensors")
    assert read_shapes(state) == {"model.a": (2, 3), "b": (5,)}
    assert read_weights(state).keys() == {"model.a", "b"}


@pytest.fixture(scope="module")
def begun(scenes, tmp_path_factory):
    """Return a recipe, and the folder of a run that is not finished."""
    from tests.training.tiny_run import RECIPE

    root = tmp_path_factory.mktemp("begun")
    (root / "recipe.yaml").write_text(RECIPE.format(root=scenes, output=root / "run"))
    fit(root / "recipe.yaml", **{"schedule.max_steps": 1, "run.checkpoint_every": 1})
    (root / "run" / "metrics.json").unlink()
    return root


@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["run", "dry run"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("custom_checkpoint_0.pkl", None),  # accelerate's own name, beside the files of today
        ("optimizer.bin", None),
        ("progress.json", b"{"),
        ("categories.json", b"[7]"),
        ("model.safetensors", b"\xff" * 99),
    ],
)
def test_every_command_says_it_in_one_line_and_touches_nothing(begun, tmp_path, monkeypatch, name, content, more):
    run = tmp_path / "run"
    shutil.copytree(begun / "run", run)
    monkeypatch.chdir(tmp_path)
    file = run / "checkpoints" / "step-000001" / name
    file.write_bytes(hostile(Path("EXECUTED")) if content is None else content)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    words = ["train", str(begun / "recipe.yaml"), f"run.output_dir={run}", "schedule.max_steps=2", *more]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1, result.output
    assert result.stderr.splitlines()[-1].startswith(f"error: {file} cannot be used: ")
    assert sum(line.startswith("error:") for line in result.stderr.splitlines()) == 1
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "EXECUTED").exists()
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
