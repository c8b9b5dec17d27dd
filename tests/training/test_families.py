# SPDX-License-Identifier: Apache-2.0
"""Every family that is registered goes the whole way from a recipe to the Hub: a new one needs no line here."""

import json

import pytest
import torch
from PIL import Image

from tests.hub.conftest import hub, slept
from tests.models.tiny_families import tiny_family
from tests.training.tiny_run import RECIPE, log_of, scores_of
from unisegment import Segmenter
from unisegment.data.formats import open_data_set
from unisegment.hub import push
from unisegment.models.base import FOLDERS
from unisegment.runs.settings import parse_yaml
from unisegment.training import dry_run, fit

__all__ = ["hub", "slept"]

# What huggingface_hub says to its own HTTP client.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

STEPS = {"schedule.max_steps": 2, "run.checkpoint_every": 1, "run.eval_every": 1, "optim.ema_decay": 0.5}


@pytest.fixture(scope="module", params=FOLDERS)
def tiny(request):
    return tiny_family(request.param)


@pytest.fixture(scope="module")
def begun(tiny, scenes, tmp_path_factory):
    """The recipe of the family's tiny model, and the folder of a run of it."""
    folder = tmp_path_factory.mktemp(tiny.family.model_type)
    values = parse_yaml(RECIPE.format(root=scenes, output=folder / "run"), "recipe")
    values["model"] = {"type": tiny.family.model_type, "config": tiny.keys}
    recipe = folder / "recipe.yaml"
    recipe.write_text(json.dumps(values))
    fit(recipe, **STEPS)
    return recipe, folder / "run"


def test_a_run_that_goes_on_ends_as_one_that_was_not_broken_off(begun, tmp_path):
    recipe, run = begun
    resumed = {"run.resume": str(run / "checkpoints" / "step-000001"), "run.output_dir": str(tmp_path / "on")}
    fit(recipe, **STEPS, **resumed)
    assert log_of(tmp_path / "on") == log_of(run)[1:]
    assert scores_of(tmp_path / "on") == scores_of(run)


def test_what_it_leaves_is_opened_evaluated_and_predicts(tiny, begun, scenes, tmp_path):
    _, run = begun
    segmenter = Segmenter.from_pretrained(run)
    assert type(segmenter.model) is tiny.family.model()
    report = segmenter.evaluate(open_data_set(scenes, "coco_panoptic", "val"), boundaries=False)
    assert {name: report[name] for name in ("pq", "mask_ap", "miou")} == {
        name: scores_of(run)[name] for name in ("pq", "mask_ap", "miou")
    }
    image = tmp_path / "image.png"
    Image.effect_noise((71, 53), 90).convert("RGB").save(image)
    assert segmenter.predict([image], tmp_path / "predicted", "coco_panoptic")["images"] == 1
    augmented = Segmenter.from_pretrained(run, augment=True)(image).semantic
    assert augmented.shape == segmenter(image).semantic.shape == (53, 71)


def test_a_rehearsal_names_what_will_be_trained(tiny, begun):
    recipe, run = begun
    text = dry_run(recipe, **{"run.output_dir": f"{run}-new"})
    assert all(part in text for part in tiny.family.describe(tiny.config()))
    assert "# memory  " in text
    assert "activations" in text


def test_adapters_alone_learn(tiny, begun, tmp_path):
    recipe, run = begun
    values = parse_yaml(recipe.read_text(), "recipe")
    values["model"] = {"pretrained": str(run / "checkpoint"), "lora": {"rank": 2}}
    adapted = tmp_path / "adapted.yaml"
    adapted.write_text(json.dumps(values))
    fit(adapted, **{"schedule.max_steps": 1, "run.output_dir": str(tmp_path / "adapted")})
    before, after = (Segmenter.from_pretrained(folder).model for folder in (run, tmp_path / "adapted"))
    old, new = before.state_dict(), after.state_dict()
    changed = {name for name, value in new.items() if not torch.equal(value, old[name])}
    learning = {f"{name}.weight" for name in (*before.lora_targets(), before.class_head)}
    assert changed <= learning | {f"{before.class_head}.bias"}
    assert len(changed) > len(learning) / 2


def test_a_run_goes_to_the_hub_with_its_card(tiny, begun, hub, tmp_path):
    _, run = begun
    push(run, "someone/scenes")
    arrived = hub.write("someone/scenes", tmp_path / "arrived")
    card = (arrived / "README.md").read_text()
    assert tiny.family.name in card
    assert tiny.family.source in card
    assert all(part in card for part in tiny.family.describe(tiny.config()))
    image = Image.effect_noise((71, 53), 90).convert("RGB")
    found, expected = (Segmenter.from_pretrained(folder)(image) for folder in (arrived, run))
    assert torch.equal(found.panoptic.segmentation, expected.panoptic.segmentation)
