# SPDX-License-Identifier: Apache-2.0
import hashlib

import pytest
import torch
from transformers import ResNetConfig, SwinConfig

from tests.models.unisegment.original_files import STAGES, original_state_dict, stock_model
from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation
from unisegment.models.unisegment.checkpoint_conversion import (
    ORIGINAL_NAMES,
    STOCK_ONLY,
    from_original,
    from_stock,
    to_original,
    to_stock,
)


@pytest.mark.parametrize("backbone", ["swin", "resnet", "basic resnet"])
def test_stock_names_map_one_to_one(backbone):
    theirs = {key: value for key, value in stock_model(backbone).state_dict().items() if not STOCK_ONLY.fullmatch(key)}
    ours = from_stock(theirs)
    back = to_stock(ours)
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[key], value) for key, value in theirs.items())
    assert from_stock(back).keys() == ours.keys()


@pytest.mark.parametrize("backbone", ["swin", "resnet", "basic resnet"])
def test_original_names_are_those_of_the_stock_model(backbone):
    model = stock_model(backbone)
    theirs = original_state_dict(model)
    ours = from_original(theirs)
    expected = from_stock(model.state_dict())
    assert ours.keys() == {name for name in expected if not name.endswith("num_batches_tracked")}
    assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.items())
    back = to_original(ours, "ms_deform_attn", backbone.split()[-1])
    assert back.keys() == {name for name in theirs if not name.endswith(("empty_weight", "relative_position_index"))}
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in back.items())


def swin(embed_dim, depth, window_size):
    heads = [embed_dim // 32 * 2**stage for stage in range(4)]
    return SwinConfig(
        embed_dim=embed_dim, depths=[2, 2, depth, 2], num_heads=heads, window_size=window_size, out_features=STAGES
    )


def resnet(depth):
    return ResNetConfig(depths=[3, 4, depth, 3], out_features=STAGES)


# The digests are those of names and shapes in the original code's own models (COCO panoptic), read off once.
@pytest.mark.parametrize(
    ("backbone_config", "num_queries", "num_weights", "num_parameters", "digest"),
    [
        (resnet(6), 100, 557, 43_983_878, "a713be78e4b1af15bbba837851a8906d1da208e5872deeba00365e892e6c7a7e"),
        (resnet(23), 100, 812, 62_923_782, "2e2ecccd2450e0545faf765cded3b01eef082f196d3c5cd1e351f6a7cb3178ff"),
        (swin(96, 6, 7), 100, 469, 47_435_264, "bd93d6b7d7ea09d11f7ed67ccd37996f297499a756f9e29ffff4ac76ad3ac013"),
        (swin(96, 18, 7), 100, 625, 68_753_168, "6f1a6a990dd504839fa9a152b2cdf2abc39d22e1603fa19d92ffcbf49b8578ce"),
        (swin(128, 18, 12), 100, 625, 106_917_822, "c44de8911d2749f0fde99e62d526dadad9023efbe0c759660d1d069632d49009"),
        (swin(192, 18, 12), 200, 625, 215_535_610, "9530592dfca32faeb0f006974d66758681dca39894bc4afef63520740a0f84e8"),
    ],
    ids=["R50", "R101", "Swin-T", "Swin-S", "Swin-B", "Swin-L"],
)
def test_published_models_map_one_to_one(backbone_config, num_queries, num_weights, num_parameters, digest):
    with torch.device("meta"):
        config = UniSegmentConfig(backbone_config=backbone_config, num_queries=num_queries, num_labels=133)
        model = UniSegmentForUniversalSegmentation(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters
    ours = model.state_dict()
    theirs = to_original(ours, config.pixel_decoder, backbone_config.model_type)
    lines = sorted(f"{name} {list(tensor.shape)}" for name, tensor in theirs.items())
    assert len(lines) == num_weights
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == digest
    back = from_original(theirs)
    assert {name: tensor.shape for name, tensor in back.items()} == {name: t.shape for name, t in ours.items()}
    stock = to_stock(ours)
    assert from_stock(stock).keys() == ours.keys()


def test_no_name_is_there_twice():
    for names in ORIGINAL_NAMES.values():
        for side in (0, 1):
            listed = [pair[side] for pair in (*names.pairs, *names.fused)]
            assert len(listed) == len(set(listed))


def test_an_unknown_name_is_an_error():
    with pytest.raises(ValueError, match=r"of transformers has no weights named 'roi_heads\.box_head\.fc1\.weight'"):
        from_stock({"roi_heads.box_head.fc1.weight": torch.zeros(1)})
    with pytest.raises(
        ValueError, match="no pixel decoder 'fpn' with backbone 'swinv2'; it has ms_deform_attn with resn"
    ):
        to_original({}, "fpn", "swinv2")
