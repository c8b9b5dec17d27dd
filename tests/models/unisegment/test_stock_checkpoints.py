# SPDX-License-Identifier: Apache-2.0
import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    DetrConfig,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessorPil,
)

from tests.models.unisegment.original_files import BACKBONES, SIZES, stock_model
from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation, UniSegmentImageProcessor
from unisegment.models.choices import is_ours
from unisegment.models.unisegment.stock_checkpoints import config_to_stock, read_stock_config


@pytest.fixture(params=["swin", "resnet"])
def stock(request):
    return stock_model(request.param)


def logits(model):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        output = model(torch.randn(2, 3, 64, 96, generator=generator))
    return output.class_queries_logits, output.masks_queries_logits


def assert_same_logits(ours, theirs):
    for one, other in zip(logits(ours.eval()), logits(theirs.eval()), strict=True):
        assert (one - other).abs().max() <= 1e-4 * other.abs().max()


@pytest.mark.parametrize("layout", ["as saved", "hub", "in memory", "in memory, bin", "sharded"])
def test_every_stock_layout_loads(stock, tmp_path, layout):
    stock.save_pretrained(tmp_path, max_shard_size="40KB" if layout == "sharded" else "1GB")
    file = tmp_path / "model.safetensors"
    if layout == "sharded":
        assert len(list(tmp_path.glob("*.safetensors"))) > 1
    elif layout == "hub":
        # Files of transformers 4: without Swin's final norm, with index buffers that are recomputed today.
        tensors = {key: value for key, value in load_file(file).items() if ".swin.layernorm." not in key}
        tables = [key for key in tensors if key.endswith("relative_position_bias_table")]
        for key in tables:
            tensors[key.replace("bias_table", "index")] = torch.zeros(9, 9, dtype=torch.int64)
        save_file(tensors, file, metadata={"format": "pt"})
    elif layout.startswith("in memory"):
        tensors = {key: value.contiguous() for key, value in stock.state_dict().items()}
        file.unlink()
        if layout.endswith("bin"):
            torch.save(tensors, tmp_path / "pytorch_model.bin")
        else:
            save_file(tensors, file, metadata={"format": "pt"})
    ours = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path)
    assert ours.config.model_type == "unisegment"
    assert ours.config.freeze_backbone_norm is False
    assert_same_logits(ours, stock)


def test_a_loaded_stock_checkpoint_is_saved_as_ours(stock, tmp_path):
    stock.save_pretrained(tmp_path / "stock")
    ours = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path / "stock")
    ours.save_pretrained(tmp_path / "ours")
    again = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path / "ours")
    assert again.config.architectures == ["UniSegmentForUniversalSegmentation"]
    assert_same_logits(again, stock)


def test_config_keys_and_dtype_can_be_overridden_on_the_way(stock, tmp_path):
    stock.save_pretrained(tmp_path)
    ours = UniSegmentForUniversalSegmentation.from_pretrained(
        tmp_path, dtype=torch.bfloat16, no_object_weight=0.5, freeze_backbone_norm=True
    )
    assert ours.dtype == torch.bfloat16
    assert ours.criterion.no_object_weight == 0.5
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in ours.modules())
    with pytest.raises(ValueError, match=r"'num_querys' is not a key .* 'num_queries'"):
        UniSegmentForUniversalSegmentation.from_pretrained(tmp_path, num_querys=4)


def test_another_architecture_is_named(tmp_path):
    DetrConfig(use_timm_backbone=False, backbone_config=BACKBONES["resnet"]).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"checkpoint of model_type 'detr'; UniSegmentForUniversalSegmentation reads 'unisegment'"
    ):
        UniSegmentForUniversalSegmentation.from_pretrained(tmp_path)


@pytest.mark.parametrize("kind", ["stock", "ours"])
def test_weights_that_do_not_fit_the_config_are_named(stock, tmp_path, kind):
    stock.save_pretrained(tmp_path)
    if kind == "ours":
        UniSegmentForUniversalSegmentation.from_pretrained(tmp_path).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "encoder_layers": 3}))
    with pytest.raises(ValueError, match=r"do not fit the config: \d+ are missing .*layers\.2\."):
        UniSegmentForUniversalSegmentation.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "encoder_layers": 1}))
    with pytest.raises(ValueError, match=r"\d+ are left over .*layers\.1\."):
        UniSegmentForUniversalSegmentation.from_pretrained(tmp_path)


def own_model(backbone, **keys):
    config = UniSegmentConfig(backbone_config=BACKBONES[backbone], **SIZES | keys)
    model = UniSegmentForUniversalSegmentation(config)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.05 * torch.rand_like(tensor))
    return model


@pytest.mark.parametrize("backbone", ["swin", "resnet", "basic resnet"])
@pytest.mark.parametrize("freeze", [True, False])
def test_plain_transformers_opens_what_we_write(tmp_path, backbone, freeze):
    names = dict(enumerate("abcdefg"))
    ours = own_model(backbone, freeze_backbone_norm=freeze, id2label=names)
    ours.save_pretrained(tmp_path, format="transformers", max_shard_size="60KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    theirs, report = Mask2FormerForUniversalSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert theirs.config.id2label == names
    assert theirs.criterion.empty_weight.tolist() == pytest.approx([1.0] * 7 + [0.2])
    assert_same_logits(ours, theirs)
    again = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path)
    assert again.config.freeze_backbone_norm is freeze
    for name, value in ours.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_half_precision_is_kept(tmp_path):
    own_model("swin").bfloat16().save_pretrained(tmp_path, format="transformers")
    assert Mask2FormerForUniversalSegmentation.from_pretrained(tmp_path).dtype == torch.bfloat16
    assert UniSegmentForUniversalSegmentation.from_pretrained(tmp_path).dtype == torch.bfloat16


def test_weights_that_are_handed_over_are_the_ones_saved(tmp_path):
    # accelerate gathers the weights of a sharded model and hands them over.
    ours = own_model("resnet")
    weights = {name: value + 1 for name, value in ours.state_dict().items()}
    ours.save_pretrained(tmp_path, format="transformers", state_dict=weights)
    again = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(again[name], value) for name, value in weights.items() if value.is_floating_point())


def test_the_processor_goes_along(tmp_path):
    own_model("resnet").save_pretrained(tmp_path, format="transformers")
    processor = UniSegmentImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}, stuff_label_ids=[2, 5])
    processor.save_pretrained(tmp_path, format="transformers")
    theirs = Mask2FormerImageProcessorPil.from_pretrained(tmp_path)
    assert theirs.size == {"shortest_edge": 64, "longest_edge": 96}
    assert UniSegmentImageProcessor.from_pretrained(tmp_path).stuff_label_ids == [2, 5]


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        (
            {"pixel_decoder": "fpn"},
            "has pixel_decoder='ms_deform_attn' only, this model has 'fpn'. Save it with format=",
        ),
        ({"num_feature_levels": 2}, "has num_feature_levels=3 only, this model has 2"),
        ({"encoder_n_points": 2}, "has encoder_n_points=4 only, this model has 2"),
    ],
)
def test_what_the_stock_model_cannot_be_is_named(tmp_path, keys, match):
    with pytest.raises(ValueError, match=match):
        own_model("resnet", **keys).save_pretrained(tmp_path, format="transformers")
    assert list(tmp_path.iterdir()) == []


def test_another_format_is_named():
    assert is_ours("unisegment")
    assert not is_ours("transformers")
    with pytest.raises(ValueError, match="format must be 'unisegment' or 'transformers', got 'onnx'"):
        is_ours("onnx")


def test_a_file_of_another_shape_is_named(stock, tmp_path):
    stock.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["class_predictor.weight"] = torch.zeros(9, 64)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 have another shape \(first: \['class_predictor\.weight is \(9, 64\), exp"):
        UniSegmentForUniversalSegmentation.from_pretrained(tmp_path)


def test_a_whole_number_may_stand_for_a_float_in_a_config(tmp_path):
    stock_model("resnet").save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"mask_weight": 2, "init_std": 5}))
    config = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path).config
    assert (config.mask_weight, config.init_std) == (2, 5)
    config.save_pretrained(tmp_path)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"mask_weight": 3}))
    assert UniSegmentConfig.from_pretrained(tmp_path).mask_weight == 3


def test_no_backbone_that_works_is_doubted(monkeypatch):
    said = []
    logger = logging.getLogger("transformers.models.mask2former.configuration_mask2former")
    handler = logging.Handler()
    handler.emit = said.append
    monkeypatch.setattr(logger, "handlers", [handler])
    type(logger).warning_once.cache_clear()
    stock = config_to_stock(own_model("resnet").config)
    read_stock_config(stock.to_dict())
    assert not said
    type(logger).warning_once.cache_clear()
    Mask2FormerConfig.from_dict(stock.to_dict())
    assert len(said) == 1
