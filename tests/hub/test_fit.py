# SPDX-License-Identifier: Apache-2.0
"""Runs that end on the Hub."""

import json

import pytest
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from tests.hub.stand_in import Repository
from tests.training.tiny_run import RECIPE
from unisegment import UniSegmentForUniversalSegmentation
from unisegment.cli import app
from unisegment.data.formats.synthetic import write_synthetic
from unisegment.runs.recipe import load_recipe
from unisegment.training import RecipeError, fit

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

PUSH = {"hub.push": True, "hub.repo": "someone/scenes", "hub.private": True}


@pytest.fixture
def recipe(tmp_path):
    write_synthetic(tmp_path / "scenes", num_train=8, num_val=3, progress=False)
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(root=tmp_path / "scenes", output=tmp_path / "run"))
    return path


def test_a_run_ends_on_the_hub_even_if_the_first_attempt_breaks(hub, recipe, tmp_path, capsys):
    run = tmp_path / "run"
    hub.fail("/commit/", 503, times=-1)
    result = CliRunner().invoke(
        app, ["train", str(recipe), *(f"{key}={json.dumps(value)}" for key, value in PUSH.items())]
    )
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"error: {run} could not be pushed to someone/scenes")
    assert "Traceback" not in result.stderr
    # It is a finished run all the same.
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["finished"]
    hub.failures.clear()
    log = (run / "log.jsonl").read_bytes()
    assert fit(recipe, **PUSH) == metrics
    assert (run / "log.jsonl").read_bytes() == log
    assert f"Pushed to {hub.url}/someone/scenes" in capsys.readouterr().out
    assert hub.repositories["someone/scenes"].private
    arrived = hub.write("someone/scenes", tmp_path / "arrived")
    card = ModelCard.load(arrived / "README.md")
    scores = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert scores["pq"] == metrics["pq"]
    names = ("pq", "sq", "rq", "pq_things", "pq_stuff", "mask_ap", "miou")
    assert len(scores) == sum(metrics[name] is not None for name in names)
    assert str(tmp_path) not in card.content
    assert "data: scenes, read as `synthetic`" in card.text
    UniSegmentForUniversalSegmentation.from_pretrained(arrived)
    assert load_recipe(arrived / "recipe.yaml").model == load_recipe(run / "recipe.yaml").model


@pytest.mark.parametrize(("token", "reason"), [("hf_of_nobody", "does not accept"), ("", "There is no token")])
def test_a_run_that_could_not_be_pushed_does_not_begin(hub, recipe, tmp_path, monkeypatch, token, reason):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(RecipeError, match=rf"hub\.push=true: .*{reason}"):
        fit(recipe, **PUSH)
    assert not (tmp_path / "run").exists()


def test_a_run_that_would_not_be_private_does_not_begin(hub, recipe, tmp_path):
    hub.repositories["someone/scenes"] = Repository(private=False)
    with pytest.raises(RecipeError, match=r"hub\.push=true: someone/scenes exists and is public"):
        fit(recipe, **PUSH)
    assert not (tmp_path / "run").exists()


def test_a_place_is_needed(recipe):
    with pytest.raises(RecipeError, match=r"hub: push=true needs repo: where to, such as user/name"):
        load_recipe(recipe, {"hub.push": True})
    with pytest.raises(RecipeError, match=r"hub: Repo id"):
        load_recipe(recipe, {"hub.repo": "no name"})
