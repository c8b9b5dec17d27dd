# SPDX-License-Identifier: Apache-2.0
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from transformers import Mask2FormerForUniversalSegmentation

import unisegment
from tests.hub.tiny_runs import logits, save, tiny_model, tiny_processor
from unisegment import UniSegmentForUniversalSegmentation, UniSegmentImageProcessor
from unisegment.hub.staging import stage
from unisegment.runs.recipe import load_recipe

FILES = ["README.md", "config.json", "model.safetensors", "prediction.png", "preprocessor_config.json", "recipe.yaml"]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_same(ours, theirs, tolerance=0.0):
    for one, other in zip(logits(ours), logits(theirs), strict=True):
        assert (one - other).abs().max() <= tolerance * other.abs().max()


def test_a_run_is_staged_for_plain_transformers(run, tmp_path):
    stage(run, tmp_path / "staged", "someone/cows", license="mit")
    staged = contents(tmp_path / "staged")
    assert sorted(staged) == FILES
    assert staged["prediction.png"] == (run / "predictions" / "00000_secret name.png").read_bytes()
    ours = UniSegmentForUniversalSegmentation.from_pretrained(run / "checkpoint")
    assert_same(UniSegmentForUniversalSegmentation.from_pretrained(tmp_path / "staged"), ours)
    assert_same(Mask2FormerForUniversalSegmentation.from_pretrained(tmp_path / "staged"), ours, 1e-4)
    assert ModelCard.load(tmp_path / "staged" / "README.md").data.license == "mit"
    assert load_recipe(tmp_path / "staged" / "recipe.yaml").optim.batch_size == 4
    for name, content in staged.items():
        assert str(tmp_path).encode() not in content, name
        assert b"customers" not in content, name


def test_the_same_run_gives_the_same_bytes_and_is_not_touched(run, tmp_path):
    before = {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in run.rglob("*")}
    for name in ("one", "other"):
        stage(run, tmp_path / name, "someone/cows")
    assert contents(tmp_path / "one") == contents(tmp_path / "other")
    after = {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in run.rglob("*")}
    assert before == after


def test_what_transformers_cannot_be_is_staged_as_ours(tmp_path):
    save(tmp_path / "fpn", pixel_decoder="fpn")
    stage(tmp_path / "fpn", tmp_path / "staged", "someone/cows")
    config = json.loads((tmp_path / "staged" / "config.json").read_text())
    assert config["model_type"] == "unisegment"
    card = ModelCard.load(tmp_path / "staged" / "README.md")
    assert "Plain transformers cannot open it: transformers' Mask2Former has pixel\\_decoder='ms" in card.text
    assert_same(*map(UniSegmentForUniversalSegmentation.from_pretrained, (tmp_path / "staged", tmp_path / "fpn")))
    with pytest.raises(ValueError, match="Save it with format='unisegment'"):
        stage(tmp_path / "fpn", tmp_path / "again", "someone/cows", format="transformers")


def test_our_layout_on_demand(run, tmp_path):
    stage(run, tmp_path / "staged", "someone/cows", format="unisegment")
    assert json.loads((tmp_path / "staged" / "config.json").read_text())["model_type"] == "unisegment"
    assert ModelCard.load(tmp_path / "staged" / "README.md").data.library_name == "unisegment"
    with pytest.raises(ValueError, match="format must be 'unisegment' or 'transformers', got 'onnx'"):
        stage(run, tmp_path / "again", "someone/cows", format="onnx")


@pytest.mark.parametrize("pixel_decoder", ["fpn", "ms_deform_attn"])
def test_where_a_backbone_came_from_is_not_told(tmp_path, pixel_decoder):
    model = tiny_model(pixel_decoder=pixel_decoder)
    model.config.backbone, model.config.use_pretrained_backbone = "/home/me/resnet.pth", True
    model.config.backbone_config._name_or_path = "/home/me/resnet"
    model.config.base_weights = [{"name": "https://me/resnet.pth?token=/home/me", "license": "bsd-3-clause"}]
    model.config.from_another_tool = {"/home/me/data": "s3://me/cows?token=/home/me"}
    model.config.auto_map = {"AutoModel": "me/evil--file.Model"}
    model.save_pretrained(tmp_path / "mine")
    tiny_processor().save_pretrained(tmp_path / "mine")
    stage(tmp_path / "mine", tmp_path / "staged", "someone/cows")
    assert b"/home/me" not in b"".join(contents(tmp_path / "staged").values())
    config = json.loads((tmp_path / "staged" / "config.json").read_text())
    assert config["base_weights"] == [{"name": "resnet.pth", "license": "bsd-3-clause"}]
    assert config["from_another_tool"] == {"data": "cows"}
    assert "auto_map" not in config
    assert ModelCard.load(tmp_path / "staged" / "README.md").data.license == "bsd-3-clause"


@pytest.mark.parametrize("format", ["transformers", "unisegment"])
def test_code_on_the_card_runs(run, tmp_path, monkeypatch, capsys, format):
    monkeypatch.chdir(tmp_path)
    stage(run, tmp_path / "someone" / "cows", "someone/cows", format=format)
    pixels = np.random.default_rng(0).integers(0, 256, (53, 71, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("photo.jpg")
    card = ModelCard.load(tmp_path / "someone" / "cows" / "README.md")
    blocks = re.findall(r"```python\n(.*?)```", card.text, flags=re.DOTALL)
    assert len(blocks) == (2 if format == "transformers" else 1)
    if "Segmenter" not in unisegment.__all__:
        pytest.skip("there is no Segmenter yet")
    for block in blocks:  # the name is that of a folder here
        exec(block, {})
    assert capsys.readouterr().out
    assert Path("seen.png").stat().st_size > 0


def test_a_processor_arrives_as_it_was(run, tmp_path):
    stage(run, tmp_path / "staged", "someone/cows")
    processor = UniSegmentImageProcessor.from_pretrained(tmp_path / "staged")
    # The names of its labels are the model's.
    assert processor.settings() == tiny_processor().settings() | {"id2label": tiny_model().config.id2label}


def test_weights_in_half_precision_stay_so(tmp_path):
    tiny_model().to(torch.bfloat16).save_pretrained(tmp_path / "half")
    tiny_processor().save_pretrained(tmp_path / "half")
    stage(tmp_path / "half", tmp_path / "staged", "someone/cows")
    arrived = Mask2FormerForUniversalSegmentation.from_pretrained(tmp_path / "staged", dtype="auto")
    assert arrived.dtype == torch.bfloat16
