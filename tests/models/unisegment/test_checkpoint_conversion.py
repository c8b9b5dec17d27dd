# SPDX-License-Identifier: Apache-2.0
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    DetrConfig,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    ResNetConfig,
    SwinConfig,
)

from unisegment import UniSegmentForUniversalSegmentation
from unisegment.models.unisegment.checkpoint_conversion import STOCK_ONLY, from_stock, to_stock

SWIN = {"image_size": 64, "embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8], "window_size": 3}
RESNET = {"embedding_size": 8, "hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 2, 1]}
STAGES = ["stage1", "stage2", "stage3", "stage4"]
SMALL = {
    "feature_size": 32, "mask_feature_size": 16, "hidden_dim": 32, "encoder_layers": 2, "decoder_layers": 3,
    "num_attention_heads": 4, "num_queries": 7, "dim_feedforward": 32, "encoder_feedforward_dim": 24, "num_labels": 3,
}  # fmt: skip


@pytest.fixture(params=["swin", "resnet"])
def stock(request):
    config_class, keys = {"swin": (SwinConfig, SWIN), "resnet": (ResNetConfig, RESNET)}[request.param]
    config = Mask2FormerConfig(backbone_config=config_class(**keys, out_features=STAGES), **SMALL)
    model = Mask2FormerForUniversalSegmentation(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def logits(model):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        output = model(torch.randn(2, 3, 64, 96, generator=generator))
    return output.class_queries_logits, output.masks_queries_logits


def assert_same_logits(ours, theirs):
    for one, other in zip(logits(ours.eval()), logits(theirs), strict=True):
        assert (one - other).abs().max() <= 1e-4 * other.abs().max()


def test_names_map_one_to_one(stock):
    theirs = {key: value for key, value in stock.state_dict().items() if not STOCK_ONLY.fullmatch(key)}
    ours = from_stock(theirs)
    back = to_stock(ours)
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[key], value) for key, value in theirs.items())
    assert from_stock(back).keys() == ours.keys()


def test_an_unknown_name_is_an_error():
    with pytest.raises(ValueError, match=r"'roi_heads\.box_head\.fc1\.weight' is not a weight of Mask2Former"):
        from_stock({"roi_heads.box_head.fc1.weight": torch.zeros(1)})


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


def test_other_classes_start_fresh_when_asked_for(stock, tmp_path):
    stock.save_pretrained(tmp_path)
    ours = UniSegmentForUniversalSegmentation.from_pretrained(
        tmp_path, id2label={0: "cat", 1: "dog"}, ignore_mismatched_sizes=True
    )
    head = ours.transformer_decoder.predictor.class_head
    assert head.weight.shape == (3, 32)
    assert head.weight.abs().max() <= 1 / 32**0.5  # torch's own initialisation
    assert torch.equal(
        ours.transformer_decoder.query_pos.weight, stock.model.transformer_module.queries_embedder.weight
    )


def test_another_architecture_is_named(tmp_path):
    DetrConfig(use_timm_backbone=False, backbone_config=ResNetConfig(**RESNET)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"checkpoint of model_type 'detr'; UniSegment reads 'unisegment' and"):
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
