# SPDX-License-Identifier: Apache-2.0
"""Configs of somebody else: whatever stands in them, nothing is asked of a network, no terminal, and no code runs."""

import builtins
import json
import socket

import pytest
from huggingface_hub import constants
from transformers import AutoConfig

from tests.hub.tiny_runs import save, tiny_model
from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation
from unisegment.backbones.pretrained import pretrained_config

ADDRESS = "https://example.com/resnet50.pth"
ATTENTION = "somebody/attention-kernels"


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """Give the list of hosts, and of questions at the terminal, that the test has asked for."""
    questions = []

    def ask(question, *rest, **keywords):
        questions.append(question)
        raise OSError(f"{question} is not asked for")

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    monkeypatch.setattr(builtins, "input", ask)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield questions
    assert questions == []


@pytest.fixture(scope="module", params=["unisegment", "transformers"])
def saved(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    tiny_model().save_pretrained(folder, format=request.param)
    return folder


@pytest.fixture
def change(saved, tmp_path):
    """Give what writes the checkpoint with other keys into `tmp_path`."""

    def write(keys):
        config = json.loads((saved / "config.json").read_text())
        backbone = keys.pop("into_backbone", {})
        config = {**config, **keys}
        if backbone:
            config["backbone_config"] |= backbone
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "model.safetensors").symlink_to(saved / "model.safetensors")
        return tmp_path

    return write


REFUSED = [
    ({"backbone": ADDRESS, "backbone_config": None}, "backbone='https://.*' stands in a file without backbone_config"),
    ({"backbone": "microsoft/resnet-50", "backbone_config": None}, "stands in a file without backbone_config"),
    (
        {"backbone": "resnet50", "backbone_config": None, "use_timm_backbone": True, "use_pretrained_backbone": True},
        "backbone='resnet50' stands in a file without backbone_config",
    ),
    ({"backbone_config": {"model_type": "unisegment", "backbone": ADDRESS}}, "needs a model_type .* got 'unisegment'"),
    ({"backbone_config": {"model_type": "maskformer", "backbone": "a/b"}}, "needs a model_type .* got 'maskformer'"),
    ({"backbone_config": {"model_type": "timm_backbone", "backbone": "resnet18"}}, "got 'timm_backbone'"),
    ({"backbone_config": {"model_type": ["swin"]}}, r"needs a model_type .* got \['swin'\]"),
    ({"attn_implementation": ATTENTION}, "attn_implementation='somebody/attention-kernels': a file may say 'eager' or"),
    ({"_attn_implementation_internal": {"": ATTENTION}}, "a file may say 'eager' or 'sdpa'"),
    ({"into_backbone": {"_attn_implementation": ATTENTION}}, "backbone_config: _attn_implementation='somebody"),
    ({"quantization_config": {"quant_method": "mxfp4"}}, "quantization_config: quantised weights cannot be read"),
    ({"dtype": "hub"}, "dtype='hub' is no type of torch"),
    ({"torch_dtype": "float31"}, "torch_dtype='float31' is no type of torch"),
    ({"into_backbone": {"dtype": "load"}}, "backbone_config: dtype='load' is no type of torch"),
]


@pytest.mark.parametrize(("keys", "message"), REFUSED)
def test_what_would_be_fetched_or_run_is_refused(change, keys, message):
    with pytest.raises(ValueError, match=message) as caught:
        UniSegmentForUniversalSegmentation.from_pretrained(change(dict(keys)))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("keys", "message"), REFUSED[:4])
def test_auto_classes_fetch_nothing_either(tmp_path, keys, message):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "unisegment", **keys}))
    with pytest.raises(ValueError, match=message):
        AutoConfig.from_pretrained(tmp_path)


def test_names_of_code_and_of_other_weights_have_no_effect(change):
    code = {"AutoConfig": "evil.Config", "AutoBackbone": "somebody/evil--evil.Backbone"}
    keys = {"auto_map": code, "backbone": ADDRESS, "use_pretrained_backbone": True}
    folder = change({**keys, "into_backbone": {"auto_map": code}})
    model = UniSegmentForUniversalSegmentation.from_pretrained(folder)
    assert not model.config.use_pretrained_backbone
    UniSegmentForUniversalSegmentation(model.config)


def test_weights_for_a_config_of_a_file_are_a_wish_of_the_caller(tmp_path):
    tiny_model().config.save_pretrained(tmp_path)
    config = UniSegmentConfig.from_pretrained(tmp_path, backbone=ADDRESS, use_pretrained_backbone=True)
    assert (config.backbone, config.use_pretrained_backbone) == (ADDRESS, True)


def test_the_base_of_an_adapter_is_not_fetched(tmp_path):
    save(tmp_path)
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "somebody/model"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter))
    for open_it in (UniSegmentForUniversalSegmentation.from_pretrained, lambda folder: pretrained_config(str(folder))):
        with pytest.raises(ValueError, match=r"holds an adapter \(adapter_config.json\), and nothing is fetched"):
            open_it(tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}},
        {"model_type": "llava", "vision_config": {"model_type": "unisegment", "backbone": ADDRESS}},
        {"model_type": "detr", "backbone": "somebody/resnet", "use_timm_backbone": False},
    ],
)
def test_a_backbone_by_name_runs_no_code_and_leads_nowhere_else(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(ValueError, match=r"has no usable config of transformers: backbone_config needs a model_type"):
        UniSegmentConfig(backbone=str(tmp_path))
