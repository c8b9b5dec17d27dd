# SPDX-License-Identifier: Apache-2.0
"""Checkpoints described without their weights."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from unisegment.models.base import FAMILIES
from unisegment.models.checkpoint_description import describe, describe_file

RESNET = {"model_type": "resnet"}


def checkpoint(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"weight": torch.zeros(3)}, folder / "model.safetensors")
    return folder


def test_ours_and_stock_ones_are_told_apart(tmp_path):
    ours = describe(checkpoint(tmp_path, {"model_type": "unisegment", "backbone_config": RESNET}), {})
    assert ours.stock is None
    assert ours.config.backbone_config.model_type == "resnet"
    assert ours.num_bytes == (tmp_path / "model.safetensors").stat().st_size
    stock = describe(checkpoint(tmp_path, {"model_type": "mask2former", "backbone_config": RESNET}), {})
    assert (stock.family.name, stock.stock[0].model_type) == ("Mask2Former", "mask2former")
    assert not stock.config.freeze_backbone_norm


@pytest.mark.parametrize("size", [5, 60])
def test_weights_shorter_than_their_header_says_are_damaged(tmp_path, size):
    file = checkpoint(tmp_path, {"model_type": "unisegment", "backbone_config": RESNET}) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"The weights of .* cannot be read: .* The file is damaged"):
        describe(tmp_path, {})


def test_a_file_of_no_family_is_said_to_be_of_none(monkeypatch, tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"stem.weight": torch.zeros(3)}, file)
    other = replace(FAMILIES["unisegment"], name="Other", config=type("Other", (), {"model_type": "other"}))
    monkeypatch.setitem(FAMILIES._others, "other", other)
    with pytest.raises(ValueError, match=r"original Mask2Former.* or Other: its weights are called, .* stem\.weight"):
        describe_file(file)
    with pytest.raises(ValueError, match="not a checkpoint of the original Mask2Former: it has no weights sem_seg"):
        describe_file(file, FAMILIES["unisegment"])
