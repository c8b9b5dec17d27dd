# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification, SwinConfig, SwinForImageClassification

from tests.models.model_tester import random_targets
from tests.models.tiny_families import tiny_family
from tests.models.unisegment.parity_with_transformers import ParityTester, WholeParityTester
from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation
from unisegment.layers.norm import FrozenBatchNorm2d
from unisegment.models.mask_classification import mask_logits

SWIN = {"image_size": 64, "embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8], "window_size": 3}
RESNET = {"embedding_size": 8, "hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 2, 1]}
STAGES = ["stage1", "stage2", "stage3", "stage4"]
SMALL = {
    "feature_size": 32, "mask_feature_size": 16, "hidden_dim": 32, "encoder_layers": 1, "decoder_layers": 2,
    "num_attention_heads": 4, "num_queries": 3, "dim_feedforward": 32, "encoder_feedforward_dim": 32, "num_labels": 2,
}  # fmt: skip


class TestSwin(WholeParityTester):
    def backbone_config(self):
        return SwinConfig(**SWIN, drop_path_rate=0.0, out_features=STAGES)


class TestResNet(ParityTester):
    def backbone_config(self):
        return ResNetConfig(**RESNET, out_features=STAGES)


@pytest.fixture(scope="module")
def tiny():
    return tiny_family("unisegment")


@pytest.mark.parametrize("levels", [1, 2, 4])
@pytest.mark.parametrize("points", [1, 3])
def test_any_number_of_levels_points_layers_and_queries(tiny, levels, points):
    keys = {"encoder_layers": 1, "decoder_layers": 2 + levels, "num_queries": 1}
    model = tiny.model(num_feature_levels=levels, encoder_n_points=points, **keys)
    masks, labels = random_targets([3, 0], 64, 96)
    output = model(torch.randn(2, 3, 64, 96), mask_labels=masks, class_labels=labels, output_auxiliary_logits=True)
    output.loss.backward()
    assert output.masks_queries_logits.shape == (2, 1, 16, 24)
    assert len(output.auxiliary_logits) == 1 + levels
    assert len(output.loss_dict) == 3 * (2 + levels)


def test_autocast_leaves_the_pixel_decoder_in_float32(tiny):
    seen = {}
    for key in ("float32", "autocast"):
        model = tiny.model(pixel_decoder_dtype=key)
        hook = model.pixel_decoder.mask_proj.register_forward_hook(
            lambda module, inputs, output, key=key: seen.__setitem__(key, output.dtype)
        )
        masks, labels = random_targets([3], 64, 96)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.train()(torch.randn(1, 3, 64, 96), mask_labels=masks, class_labels=labels).loss
        hook.remove()
        loss.backward()
        assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    assert seen == {"float32": torch.float32, "autocast": torch.bfloat16}


def test_initial_values_are_those_of_the_original():
    sizes = {**SMALL, "feature_size": 256, "hidden_dim": 256, "num_queries": 300}
    model = UniSegmentForUniversalSegmentation(UniSegmentConfig(backbone_config=ResNetConfig(**RESNET), **sizes))
    attention = model.transformer_decoder.layers[0].cross_attn
    assert attention.q_proj.weight.abs().max() <= (6 / (256 + 768)) ** 0.5
    assert attention.q_proj.weight.std().item() == pytest.approx((2 / (256 + 768)) ** 0.5, rel=0.02)
    assert attention.out_proj.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)
    assert model.transformer_decoder.query_features.weight.std().item() == pytest.approx(1, rel=0.02)
    assert model.pixel_decoder.level_embed.std().item() == pytest.approx(1, rel=0.1)
    heads = model.transformer_decoder.predictor
    assert heads.class_head.weight.std().item() == pytest.approx(1 / 256**0.5 / 3**0.5, rel=0.05)
    offsets = model.pixel_decoder.layers[0].self_attn.sampling_offsets
    assert offsets.weight.abs().max() == 0
    bias = offsets.bias.view(4, 3, 4, 2)  # 4 heads, 3 levels, 4 points
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    for level in range(3):
        for point in range(4):
            torch.testing.assert_close(bias[:, level, point], directions * (point + 1))


def test_auxiliary_losses_can_be_switched_off(tiny):
    model = tiny.model(use_auxiliary_loss=False)
    masks, labels = random_targets([3], 32, 64)
    output = model(torch.randn(1, 3, 32, 64), mask_labels=masks, class_labels=labels)
    assert set(output.loss_dict) == {"loss_cross_entropy", "loss_mask", "loss_dice"}


def test_frozen_batch_norm_is_the_default_and_has_no_parameters():
    config = UniSegmentConfig(backbone_config=ResNetConfig(**RESNET), **SMALL)
    model = UniSegmentForUniversalSegmentation(config)
    assert any(isinstance(module, FrozenBatchNorm2d) for module in model.modules())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    assert not any("normalization" in name for name, _ in model.backbone.named_parameters())


@pytest.mark.parametrize(
    ("classifier_class", "backbone_config"),
    [(ResNetForImageClassification, ResNetConfig(**RESNET)), (SwinForImageClassification, SwinConfig(**SWIN))],
)
def test_a_pretrained_classifier_becomes_the_backbone(tmp_path, classifier_class, backbone_config):
    classifier = classifier_class(backbone_config).eval()
    for name, buffer in classifier.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    classifier.save_pretrained(tmp_path)
    config = UniSegmentConfig(backbone=str(tmp_path), use_pretrained_backbone=True, **SMALL)
    model = UniSegmentForUniversalSegmentation(config).eval()
    pixel_values = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        features = model.backbone(pixel_values)
    if classifier_class is ResNetForImageClassification:
        with torch.no_grad():
            hidden_states = classifier.base_model(pixel_values, output_hidden_states=True).hidden_states
        for ours, theirs in zip(features, hidden_states[1:], strict=True):
            torch.testing.assert_close(ours, theirs)
    else:
        own = model.backbone.body.state_dict()
        for name, value in classifier.base_model.state_dict().items():
            if not name.startswith("layernorm."):
                assert torch.equal(own[f"swin.{name}"], value), name
    fresh = UniSegmentForUniversalSegmentation(UniSegmentConfig(backbone=str(tmp_path), **SMALL)).eval()
    with torch.no_grad():
        assert not torch.allclose(fresh.backbone(pixel_values)[-1], features[-1])


def test_a_saved_model_no_longer_needs_its_pretrained_backbone(tmp_path):
    backbone, saved = tmp_path / "backbone", tmp_path / "model"
    ResNetForImageClassification(ResNetConfig(**RESNET)).save_pretrained(backbone)
    config = UniSegmentConfig(backbone=str(backbone), use_pretrained_backbone=True, **SMALL)
    model = UniSegmentForUniversalSegmentation(config)
    model.save_pretrained(saved)
    for file in backbone.iterdir():
        file.unlink()
    loaded = UniSegmentForUniversalSegmentation.from_pretrained(saved)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_a_pretrained_backbone_that_does_not_fit_is_named(tmp_path):
    ResNetForImageClassification(ResNetConfig(**RESNET)).save_pretrained(tmp_path)
    wider = ResNetConfig(**{**RESNET, "depths": [1, 1, 3, 1]}, out_features=STAGES)
    config = UniSegmentConfig(backbone_config=wider, backbone=str(tmp_path), use_pretrained_backbone=True, **SMALL)
    with pytest.raises(ValueError, match=r"does not fit the backbone ResNetBackbone: \d+ weights are missing"):
        UniSegmentForUniversalSegmentation(config)
    config = UniSegmentConfig(use_pretrained_backbone=True, **SMALL)
    with pytest.raises(ValueError, match="use_pretrained_backbone needs `backbone`"):
        UniSegmentForUniversalSegmentation(config)


def test_overrides_are_checked_on_loading(tmp_path):
    model = UniSegmentForUniversalSegmentation(UniSegmentConfig(backbone_config=ResNetConfig(**RESNET), **SMALL))
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"'num_querys' is not a key .* 'num_queries'"):
        UniSegmentForUniversalSegmentation.from_pretrained(tmp_path, num_querys=4)
    with pytest.raises(ValueError, match="num_queries: 0, expected a whole number from 1"):
        UniSegmentForUniversalSegmentation.from_pretrained(tmp_path, num_queries=0)
    assert (
        UniSegmentForUniversalSegmentation.from_pretrained(tmp_path, no_object_weight=0.3).criterion.no_object_weight
        == 0.3
    )


def test_shapes_are_found_on_the_meta_device():
    with torch.device("meta"):
        model = UniSegmentForUniversalSegmentation(UniSegmentConfig(backbone_config=ResNetConfig(**RESNET), **SMALL))
        outputs = model.eval()(torch.empty(2, 3, 64, 96))
    assert outputs.masks_queries_logits.shape == (2, 3, 16, 24)
    assert outputs.class_queries_logits.device.type == "meta"


def test_masks_in_float16_end_at_its_largest_number_and_are_not_kept_for_gradients():
    embeddings = torch.full((1, 3, 16), 300.0, dtype=torch.float16, requires_grad=True)
    features = torch.full((1, 16, 5, 7), 20.0, dtype=torch.float16)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda x: x):
        masks = mask_logits(embeddings, features)
    assert (masks == torch.finfo(torch.float16).max).all()
    assert not any(shape.numel() == masks.numel() for shape in kept)
    masks.sum().backward()
    assert embeddings.grad.eq(700).all()
