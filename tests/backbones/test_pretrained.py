# SPDX-License-Identifier: Apache-2.0
import logging

import pytest
import torch
from torch.nn.functional import layer_norm
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextV2Config,
    ConvNextV2ForImageClassification,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    ResNetConfig,
    ResNetForImageClassification,
    SwinConfig,
    SwinForImageClassification,
    Swinv2Config,
    Swinv2ForImageClassification,
)

from tests.backbones.small_configs import CONVNEXT, RESNET, STRIDES, SWIN
from unisegment.backbones.build import build_backbone
from unisegment.backbones.config_files import PLAIN_VIT_TYPES
from unisegment.backbones.pretrained import pretrained_config
from unisegment.backbones.resnet_weights import TORCHVISION_NAMES
from unisegment.backbones.swin_weights import OFFICIAL_NAMES, resize_tables

VIT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
DINOV2 = Dinov2Config(**VIT, image_size=42)
REGISTERS = Dinov2WithRegistersConfig(**VIT, image_size=42, num_register_tokens=3)
DINOV3 = DINOv3ViTConfig(**VIT, intermediate_size=40, image_size=48, num_register_tokens=3)


def starting_point(folder, model_class, config):
    """Save a model, none of whose weights is at a special value; return it and the folder as text."""
    model = model_class(config).eval()
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(0.1 * torch.rand_like(value))
    model.save_pretrained(folder)
    return model, str(folder)


def backbone_for(name_or_path, **changes):
    """Return a fresh backbone for a starting point, as the model makes it."""
    config = pretrained_config(name_or_path)
    if config.model_type not in PLAIN_VIT_TYPES:
        config.out_features = config.stage_names[1:]
    for key, value in changes.items():
        setattr(config, key, value)
    return build_backbone(config, STRIDES, freeze_norm=True).eval()


def stage_maps(model, images):
    """Return what each stage of a classifier gives, with a fresh norm where its backbone has one."""
    if model.config.model_type == "swinv2":
        encoder_outputs = model.encoder(
            *model.embeddings(images), output_hidden_states=True, output_hidden_states_before_downsampling=True
        )
        return encoder_outputs.reshaped_hidden_states[1:]
    maps = model(images, output_hidden_states=True).hidden_states[1:]
    if model.config.model_type == "resnet":
        return maps
    return [layer_norm(x.movedim(1, -1), x.shape[1:2], eps=1e-6).movedim(-1, 1) for x in maps]


@pytest.mark.parametrize(
    ("model_class", "config"),
    [
        (ResNetForImageClassification, ResNetConfig(**RESNET)),
        (Swinv2ForImageClassification, Swinv2Config(**SWIN)),
        (ConvNextForImageClassification, ConvNextConfig(**CONVNEXT)),
        (ConvNextV2ForImageClassification, ConvNextV2Config(**CONVNEXT)),
    ],
)
def test_a_classifier_becomes_a_backbone(tmp_path, model_class, config):
    classifier, folder = starting_point(tmp_path, model_class, config)
    backbone = backbone_for(folder)
    backbone.load_pretrained(folder)
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(backbone(images), stage_maps(classifier.base_model, images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


def test_loading_says_nothing_and_leaves_the_log_level(tmp_path, caplog):
    _, folder = starting_point(tmp_path, ConvNextForImageClassification, ConvNextConfig(**CONVNEXT))
    backbone = backbone_for(folder)
    logger = logging.getLogger("transformers")  # it does not propagate
    logger.addHandler(caplog.handler)
    try:
        level = logger.level
        backbone.load_pretrained(folder)
        assert caplog.text == ""
        assert logger.level == level
    finally:
        logger.removeHandler(caplog.handler)


@pytest.mark.parametrize("window", [3, 5])
def test_a_swin_classifier_becomes_a_backbone_with_windows_of_any_size(tmp_path, window):
    classifier, folder = starting_point(tmp_path, SwinForImageClassification, SwinConfig(**SWIN))
    backbone = backbone_for(folder, window_size=window)
    backbone.load_pretrained(folder)
    expected = resize_tables(classifier.state_dict(), window)
    own = backbone.body.state_dict()
    assert all(
        torch.equal(value, expected[name]) for name, value in own.items() if not name.startswith("hidden_states_norms")
    )
    assert len(own) == len(expected) - 4 + 8  # without the head and the norm before it, with four norms of our own


@pytest.mark.parametrize(
    ("model_class", "config"),
    [
        (Dinov2Model, DINOV2),
        (Dinov2ForImageClassification, DINOV2),
        (Dinov2WithRegistersModel, REGISTERS),
        (DINOv3ViTModel, DINOV3),
    ],
)
def test_a_plain_transformer_becomes_the_body(tmp_path, model_class, config):
    model, folder = starting_point(tmp_path, model_class, config)
    backbone = backbone_for(folder)
    backbone.load_pretrained(folder)
    images = torch.randn(2, 3, 3 * config.patch_size, 5 * config.patch_size)
    model = getattr(model, "dinov2", model)
    with torch.no_grad():
        tokens = model(images).last_hidden_state[:, -15:]
        torch.testing.assert_close(backbone.body(images).feature_maps[0], tokens.mT.unflatten(2, (3, 5)))


def test_a_saved_backbone_is_a_starting_point_too(tmp_path):
    _, folder = starting_point(tmp_path / "classifier", SwinForImageClassification, SwinConfig(**SWIN))
    backbone = backbone_for(folder)
    with torch.no_grad():
        for norm in backbone.body.hidden_states_norms.values():
            norm.weight.uniform_()
    backbone.body.save_pretrained(tmp_path / "backbone")
    again = backbone_for(str(tmp_path / "backbone"))
    again.load_pretrained(str(tmp_path / "backbone"))
    for name, value in backbone.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def resnet_file(folder, change=None):
    """Write a file as torchvision does; return the weights in it and its path."""
    model, _ = starting_point(folder / "source", ResNetForImageClassification, ResNetConfig(**RESNET))
    weights = TORCHVISION_NAMES.to_theirs(model.resnet.state_dict()) | (change or {})
    torch.save(weights, folder / "resnet.pth")
    return weights, str(folder / "resnet.pth")


def swin_file(folder, change=None):
    model, _ = starting_point(folder / "source", SwinForImageClassification, SwinConfig(**SWIN))
    own = {name: value for name, value in model.state_dict().items() if name.startswith(("swin.en", "swin.em"))}
    weights = OFFICIAL_NAMES.to_theirs(own) | (change or {})
    torch.save({"model": weights}, folder / "swin.pth")
    return weights, str(folder / "swin.pth")


def test_sizes_follow_from_the_file(tmp_path):
    config = pretrained_config(resnet_file(tmp_path)[1])
    assert (config.model_type, config.hidden_sizes, config.depths) == ("resnet", [16, 24, 32, 40], [1, 1, 2, 1])
    config = pretrained_config(swin_file(tmp_path)[1])
    assert (config.model_type, config.window_size, config.depths) == ("swin", 3, [1, 1, 2, 1])


MASK_RCNN = {"backbone.body.conv1.weight": torch.zeros(3), "backbone.body.bn1.weight": torch.zeros(3)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            MASK_RCNN,
            r"holds no known backbone: neither .* It starts with backbone.body.conv1.weight, backbone.body.bn1",
        ),
        (
            {"bn1.weight": torch.zeros(3), "rpn.weight": torch.zeros(3)},
            r"bad.pth': torchvision's ResNet .* 'rpn.weight'",
        ),
        ({"bn1.weight": torch.zeros(3)}, r"bad.pth': A ResNet has stages 0 to 3"),
        ({"model": 3}, r"holds no weights"),
    ],
)
def test_a_file_without_a_backbone_is_named(tmp_path, content, message):
    path = str(tmp_path / "bad.pth")
    torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        pretrained_config(path)


def test_a_starting_point_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file '.*missing.pth'"):
        pretrained_config(str(tmp_path / "missing.pth"))
    with pytest.raises(ValueError, match=r"the folder .* has no usable config of transformers"):
        pretrained_config(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"^no/such does not exist here: .* HF_HUB_OFFLINE keeps from looking"):
        pretrained_config("no/such")


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def wider_stage(folder):
    return resnet_file(folder, {"layer4.0.conv3.weight": torch.zeros(44, 10, 1, 1)})[1]


def other_sizes(folder):
    config = ResNetConfig(**{**RESNET, "depths": [1, 1, 3, 1]})
    return starting_point(folder, ResNetForImageClassification, config)[1]


def weights_unlike_config(folder):
    starting_point(folder, ResNetForImageClassification, ResNetConfig(**RESNET))
    ResNetConfig(**{**RESNET, "hidden_sizes": [16, 24, 32, 48]}).save_pretrained(folder)
    return str(folder)


def truncated_file(folder):
    path = resnet_file(folder)[1]
    truncate(folder / "resnet.pth")
    return path


def truncated_folder(folder):
    starting_point(folder, ResNetForImageClassification, ResNetConfig(**RESNET))
    truncate(folder / "model.safetensors")
    return str(folder)


def empty_folder(folder):
    ResNetConfig(**RESNET).save_pretrained(folder)
    return str(folder)


def half_a_model(folder):
    model = ResNetForImageClassification(ResNetConfig(**RESNET))
    weights = {name: value for name, value in model.state_dict().items() if "stages.2" not in name}
    model.save_pretrained(folder, state_dict=weights)
    return str(folder)


@pytest.mark.parametrize(
    ("starting_point_of", "message"),
    [
        (wider_stage, r"resnet.pth': transformers' ResNet cannot have .* \(40, 32, 1, 1\) instead of \(44, 32"),
        (other_sizes, r"does not fit the backbone ResNetBackbone: 0 weights are missing, 15 are left over"),
        (weights_unlike_config, r"The weights of '.*' do not fit its own config: \[\('encoder.stages.3"),
        (truncated_file, r"cannot be read as a file of weights"),
        (truncated_folder, r"has no readable weights: Error while deserializing header"),
        (empty_folder, r"has no readable weights: Error no file named"),
        (half_a_model, r"does not fit the backbone ResNetBackbone: \d+ weights are missing \(first: encoder.stages.2"),
        (lambda folder: swin_file(folder)[1], r"holds a 'swin', which does not fit the backbone ResNetBackbone of"),
    ],
)
def test_a_failed_start_is_named_and_changes_nothing(tmp_path, starting_point_of, message):
    _, folder = starting_point(tmp_path / "right", ResNetForImageClassification, ResNetConfig(**RESNET))
    backbone = backbone_for(folder)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    (tmp_path / "wrong").mkdir()
    path = starting_point_of(tmp_path / "wrong")
    with pytest.raises(ValueError, match=message):
        backbone.load_pretrained(path)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (torch.zeros(24, 4), r"swin.pth': '.*layers.2.blocks.1.*bias_table' has shape \(24, 4\); a square window"),
        (torch.zeros(81, 4), r"swin.pth': All windows of a Swin have the same size"),
    ],
)
def test_tables_that_fit_no_window_are_named(tmp_path, table, message):
    _, right = swin_file(tmp_path)
    backbone = backbone_for(right)
    (tmp_path / "wrong").mkdir()
    _, wrong = swin_file(tmp_path / "wrong", {"layers.2.blocks.1.attn.relative_position_bias_table": table})
    with pytest.raises(ValueError, match=message):
        backbone.load_pretrained(wrong)
