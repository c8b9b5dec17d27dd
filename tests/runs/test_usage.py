# SPDX-License-Identifier: Apache-2.0
"""One snippet, wherever a user meets it: it runs, and the README, model cards and the end of a run show it."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unisegment
from tests.hub.tiny_runs import METRICS, save, tiny_model, tiny_processor
from unisegment.hub.model_card import model_card
from unisegment.hub.run_files import RunFiles
from unisegment.runs.run_folder import RunFolder
from unisegment.runs.usage import command_usage, python_usage
from unisegment.training.messages import result

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("panoptic", "instance", "semantic")
needs_segmenter = pytest.mark.skipif("Segmenter" not in unisegment.__all__, reason="there is no Segmenter yet")


@needs_segmenter
@pytest.mark.parametrize("task", TASKS)
def test_the_snippet_runs(task, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = 'mine "and" größer'
    save(tmp_path / name)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (53, 71, 3), dtype=np.uint8)).save("photo.jpg")
    exec(python_usage(name, task), {})
    assert capsys.readouterr().out
    with Image.open("seen.png") as picture:
        assert picture.width >= 71


@needs_segmenter
def test_the_readme_shows_it():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    shown = next((block for block in blocks if "Segmenter.from_pretrained" in block), None)
    if shown is None:
        pytest.skip("the README does not show Segmenter yet")
    (checkpoint,) = re.findall(r'from_pretrained\("(.*?)"', shown)
    without_comments = [re.sub(r"\s*#.*", "", line) for line in shown.splitlines()]
    lines = iter(without_comments)
    assert all(line in lines for line in python_usage(checkpoint).splitlines()), shown  # in this order


@pytest.mark.parametrize("task", TASKS)
def test_a_card_shows_it_for_the_task_of_the_run(task, tmp_path):
    run = RunFiles(tmp_path, metrics=METRICS | {"task": task})
    card = model_card("someone/cows", run, tiny_model(), tiny_processor())
    assert f"```python\n{python_usage('someone/cows', task)}```" in card.text


@pytest.mark.parametrize("task", TASKS)
def test_the_end_of_a_run_shows_it_for_its_task(task):
    said = result(RunFolder(Path("runs/a b")), METRICS | {"task": task})
    lines = python_usage(str(Path("runs/a b")), task).splitlines()
    assert re.search("\n".join(rf" *{re.escape(line)}" for line in lines), said)
    (command,) = (line for line in said.splitlines() if "unisegment predict" in line)
    assert shlex.split(command)[-4:] == ["unisegment", "predict", str(Path("runs/a b")), "photo.jpg"]
    assert command.strip().endswith(command_usage(str(Path("runs/a b"))))
