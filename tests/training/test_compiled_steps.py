# SPDX-License-Identifier: Apache-2.0
"""Steps whose network is compiled are those of the network as it is; graphs run as they are, without a C++ compiler."""

import json

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from tests.models.tiny_families import tiny_family
from tests.training.tiny_run import RECIPE, log_of
from tests.warm_processes import WarmProcess
from unisegment.models.base import FOLDERS
from unisegment.runs.log_file import SCORES
from unisegment.runs.settings import RecipeError, parse_yaml
from unisegment.training import accelerator, fit
from unisegment.training.state_files import read_shapes

EVERY = {
    "schedule.max_steps": 4, "run.checkpoint_every": 2, "run.eval_every": 2, "optim.ema_decay": 0.5,
    "optim.accumulation": 2, "data.transform.jitter_size": [64, 96],
}  # fmt: skip


def train_both(recipe, folder):
    """Train in both ways, go on with what was compiled, and write down how many graphs there were."""
    compile, graphs, counts = torch.compile, CompileCounterWithBackend("eager"), []
    torch.compile = lambda call, options: compile(call, backend=graphs)
    compiled = {"run.compile": True, "run.output_dir": str(folder / "compiled")}
    more = {"run.resume": str(folder / "compiled"), "run.overwrite": True, "schedule.max_steps": 5}
    for settings in ({"run.output_dir": str(folder / "plain")}, compiled, compiled | more | {"run.compile": False}):
        fit(recipe, **{**EVERY, **settings})
        counts.append(graphs.frame_count)
    (folder / "graphs.json").write_text(json.dumps(counts))


@pytest.mark.parametrize("model_type", FOLDERS)
def test_a_compiled_run_is_the_same_run(model_type, scenes, tmp_path):
    values = parse_yaml(RECIPE.format(root=scenes, output=tmp_path / "run"), "recipe")
    values["model"] = {"type": model_type, "config": tiny_family(model_type).keys}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(values))
    process = WarmProcess(train_both, recipe, tmp_path)  # no tracer follows beartype
    message = process.communicate()[1]
    assert process.returncode == 0, message
    none, some, no_more = json.loads((tmp_path / "graphs.json").read_text())
    assert none == 0 < some == no_more
    *lines, last = log_of(tmp_path / "compiled")
    assert last["step"] == 5
    for ours, plain in zip(lines, log_of(tmp_path / "plain"), strict=True):
        assert ours == pytest.approx(plain, rel=1e-4)
    files = (tmp_path / name / "evaluations.jsonl" for name in ("compiled", "plain"))
    first, expected = (json.loads(file.read_text().splitlines()[0]) for file in files)
    assert [first[name] for name in SCORES] == pytest.approx([expected[name] for name in SCORES], abs=1e-3)
    shapes = [read_shapes(tmp_path / name / "checkpoints" / "step-000004") for name in ("compiled", "plain")]
    assert shapes[0] == shapes[1]


def test_weights_in_parts_are_not_compiled(tmp_path, monkeypatch, recipe):
    monkeypatch.setattr(accelerator.Accelerator, "is_fsdp2", True)
    with pytest.raises(RecipeError, match=r"run\.compile=true is not for weights in parts \(FSDP2\), expected false\."):
        fit(recipe, **{"run.compile": True})
    assert not (tmp_path / "run").exists()
