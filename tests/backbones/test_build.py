# SPDX-License-Identifier: Apache-2.0
import pytest
from torch import nn
from transformers import Dinov2Config, ResNetConfig

from unisegment.backbones.build import build_backbone
from unisegment.backbones.plain_vit import PlainViTBackbone
from unisegment.backbones.transformers_backbone import TransformersBackbone

STRIDES = (4, 8, 16, 32)


@pytest.mark.parametrize("freeze_norm", [True, False])
def test_the_type_of_the_config_chooses_the_class(freeze_norm):
    vit = Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28)
    assert isinstance(build_backbone(vit, STRIDES, freeze_norm), PlainViTBackbone)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    resnet = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], out_features=stages)
    backbone = build_backbone(resnet, STRIDES, freeze_norm)
    assert isinstance(backbone, TransformersBackbone)
    assert any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules()) is not freeze_norm
