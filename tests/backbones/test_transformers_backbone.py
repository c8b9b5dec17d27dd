# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from transformers import AutoBackbone, Dinov2Config, ResNetConfig, SwinConfig

from unisegment.backbones.transformers_backbone import TransformersBackbone

STAGES = ["stage1", "stage2", "stage3", "stage4"]
STRIDES = (4, 8, 16, 32)
SWIN = {"image_size": 64, "embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8], "window_size": 3}
RESNET = {"embedding_size": 8, "hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 2, 1]}


@pytest.mark.parametrize(
    "config", [SwinConfig(**SWIN, out_features=STAGES), ResNetConfig(**RESNET, out_features=STAGES)]
)
@pytest.mark.parametrize("size", [(64, 96), (37, 51)])
def test_gives_what_transformers_gives(config, size):
    backbone = TransformersBackbone(config, STRIDES, freeze_norm=False).eval()
    peer = AutoBackbone.from_config(config).eval()
    peer.load_state_dict(backbone.body.state_dict(), strict=False)
    pixel_values = torch.randn(2, 3, *size)
    with torch.no_grad():
        for ours, theirs in zip(backbone(pixel_values), peer(pixel_values).feature_maps, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_every_parameter_is_used():
    backbone = TransformersBackbone(SwinConfig(**SWIN, out_features=STAGES), STRIDES, freeze_norm=False)
    sum(feature.sum() for feature in backbone(torch.randn(1, 3, 64, 96))).backward()
    assert [name for name, parameter in backbone.named_parameters() if parameter.grad is None] == []


def test_a_backbone_of_other_strides_is_named():
    config = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        out_features=STAGES,
        reshape_hidden_states=True,
    )
    backbone = TransformersBackbone(config, STRIDES, freeze_norm=False)
    with pytest.raises(
        ValueError, match=r"TransformersBackbone gave maps .*\(16, 4, 6\).* for an image of 56x84; .* promise"
    ):
        backbone(torch.randn(1, 3, 56, 84))


def test_a_missing_stage_is_named():
    with pytest.raises(ValueError, match="Check `out_features` of backbone_config and `feature_strides`"):
        TransformersBackbone(ResNetConfig(**RESNET, out_features=STAGES[1:]), STRIDES, freeze_norm=False)
