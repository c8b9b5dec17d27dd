# SPDX-License-Identifier: Apache-2.0
"""Official weights that lie elsewhere, fetched from a server of our own."""

from pathlib import Path

import pytest
import torch
import yaml
from transformers import ResNetConfig, ResNetForImageClassification

from tests.backbones.small_configs import RESNET
from tests.https_server import https_server
from unisegment.backbones.pretrained import OFFICIAL_DIGESTS, pretrained_config, require_backbone
from unisegment.backbones.resnet_weights import TORCHVISION_NAMES
from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation

SIZES = {
    **{"num_labels": 3, "feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_layers": 1},
    **{"decoder_layers": 2, "num_attention_heads": 2, "dim_feedforward": 16, "encoder_feedforward_dim": 16},
}


@pytest.fixture
def served(tmp_path):
    """Give a folder with a small ResNet under torchvision's names in it."""
    (tmp_path / "served").mkdir()
    return tmp_path / "served"


@pytest.fixture
def server(served, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(served.parent / "hub"))
    with https_server(served, monkeypatch) as server:
        yield server


@pytest.fixture
def own(served):
    """Give the weights of the small ResNet under our names."""
    weights = ResNetForImageClassification(ResNetConfig(**RESNET)).resnet.state_dict()
    torch.save(TORCHVISION_NAMES.to_theirs(weights), served / "resnet.pth")
    return weights


def test_a_file_is_fetched_once_and_loaded(server, own):
    source = server.address("resnet.pth?token=secret")
    model = UniSegmentForUniversalSegmentation(UniSegmentConfig(backbone=source, use_pretrained_backbone=True, **SIZES))
    weights = model.backbone.state_dict()
    key = "embedder.embedder.convolution.weight"
    assert torch.equal(next(value for name, value in weights.items() if name.endswith(key)), own[key])
    assert server.asked == ["/resnet.pth?token=secret"]
    assert [record["name"] for record in model.config.base_weights] == [server.address("resnet.pth")]


def test_a_password_in_an_address_is_not_written(server, own, tmp_path):
    source = server.address("resnet.pth?token=secret")
    UniSegmentConfig(backbone=source, **SIZES).save_pretrained(tmp_path)
    assert UniSegmentConfig.from_pretrained(tmp_path).backbone == server.address("resnet.pth")
    assert "secret" not in (tmp_path / "config.json").read_text()


def test_a_file_of_another_address_is_no_answer(server, own, served, tmp_path):
    """What an earlier release kept of any address under the last part of its name is not used."""
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "resnet.pth").write_bytes(b"planted")
    require_backbone(server.address("resnet.pth"))
    assert pretrained_config(server.address("resnet.pth")).depths == [1, 1, 2, 1]
    assert server.asked == ["/resnet.pth"]


@pytest.mark.parametrize("of", [pretrained_config, require_backbone, lambda name: UniSegmentConfig(backbone=name)])
def test_other_ways_than_https_are_refused(server, of):
    address = server.address("resnet.pth").replace("https", "http")
    with pytest.raises(ValueError, match=r"/resnet\.pth: only an https:// address"):
        of(address)
    assert server.asked == []


def test_digests_are_of_addresses_in_recipes():
    recipes = [yaml.safe_load(path.read_text()) for path in Path("recipes").glob("*.yaml")]
    named = {recipe.get("model", {}).get("config", {}).get("backbone") for recipe in recipes} - {None}
    assert set(OFFICIAL_DIGESTS) <= named
    for address, digest in OFFICIAL_DIGESTS.items():
        assert len(digest) == 64
        assert f"-{digest[:8]}.pth" in address
