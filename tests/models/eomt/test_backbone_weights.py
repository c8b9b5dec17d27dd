# SPDX-License-Identifier: Apache-2.0
"""Starting points of transformers in our vision transformer, beside the models that they were saved from."""

import re

import pytest
import torch
from torch.nn.functional import interpolate
from transformers import (
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    ResNetConfig,
    ResNetModel,
)

from unisegment.models.eomt.backbone_weights import resample_kernel, sizes_of
from unisegment.models.eomt.configuration_eomt import UniSegmentEomtConfig
from unisegment.models.eomt.modeling_eomt import UniSegmentEomtForUniversalSegmentation

_SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "layerscale_value": 0.7}
_SIDE, _PATCH = 42, 14
KINDS = {
    "dinov2": (Dinov2Model, Dinov2Config(image_size=_SIDE, patch_size=_PATCH, mlp_ratio=3, **_SIZES)),
    "dinov2 swiglu": (
        Dinov2Model,
        Dinov2Config(image_size=_SIDE, patch_size=_PATCH, use_swiglu_ffn=True, qkv_bias=False, **_SIZES),
    ),
    "dinov2 with a head": (Dinov2ForImageClassification, Dinov2Config(image_size=_SIDE, patch_size=_PATCH, **_SIZES)),
    "registers": (
        Dinov2WithRegistersModel,
        Dinov2WithRegistersConfig(image_size=_SIDE, patch_size=_PATCH, num_register_tokens=2, **_SIZES),
    ),
    "dinov3": (
        DINOv3ViTModel,
        DINOv3ViTConfig(image_size=_SIDE, patch_size=_PATCH, intermediate_size=40, num_register_tokens=3, **_SIZES),
    ),
    "dinov3 gated": (
        DINOv3ViTModel,
        DINOv3ViTConfig(
            image_size=_SIDE, patch_size=_PATCH, intermediate_size=40, use_gated_mlp=True, hidden_act="silu",
            rope_theta=30.0, key_bias=True, mlp_bias=False, **_SIZES,
        ),
    ),
}  # fmt: skip


@pytest.fixture(params=KINDS)
def saved(request, tmp_path):
    """A model of transformers in which all weights are other than at the start, and the folder it was saved to."""
    kind, config = KINDS[request.param]
    torch.manual_seed(5)
    model = kind(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(tmp_path)
    return model, str(tmp_path)


def tokens_of(vision_transformer, pixel_values):
    tokens, grid = vision_transformer.embed(pixel_values)
    rotation = vision_transformer.rotation(grid)
    for layer in vision_transformer.layers:
        tokens, _ = layer(tokens, None, rotation)
    return vision_transformer.norm(tokens)


def loaded(folder, **keys):
    config = UniSegmentEomtConfig(
        backbone=folder, use_pretrained_backbone=True, num_blocks=1, num_upscale_blocks=0, num_queries=3, **keys
    )
    return config, UniSegmentEomtForUniversalSegmentation(config).eval().backbone


def test_tokens_are_those_of_transformers(saved):
    model, folder = saved
    _, ours = loaded(folder, image_size=_SIDE, patch_size=_PATCH)
    pixel_values = torch.randn(2, 3, _SIDE, _SIDE)
    with torch.no_grad():
        expected = getattr(model, "dinov2", model)(pixel_values).last_hidden_state
        found = tokens_of(ours, pixel_values)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_sizes_are_those_of_the_starting_point_unless_they_are_given(saved):
    model, folder = saved
    config, _ = loaded(folder, image_size=64, patch_size=16)
    theirs = model.config.to_dict()
    same = config.to_dict().keys() & theirs.keys() - {"image_size", "patch_size", "architectures", "model_type"}
    same -= {"backbone", "transformers_version", "dtype", "_name_or_path", "id2label", "label2id"}
    assert {*_SIZES, "hidden_act", "layer_norm_eps"} <= same
    assert {key: getattr(config, key) for key in same} == {key: theirs[key] for key in same}
    assert config.num_register_tokens == theirs.get("num_register_tokens", 0)
    assert (config.image_size, config.patch_size) == (64, 16)
    given = UniSegmentEomtConfig(backbone=folder, num_hidden_layers=2, hidden_act="relu", num_blocks=1)
    assert (given.num_hidden_layers, given.hidden_act, given.hidden_size) == (2, "relu", 24)


# Without registers, transformers resizes positions by another rule.
@pytest.mark.parametrize("saved", ["registers", "dinov3"], indirect=True)
def test_patches_and_positions_are_resampled(saved):
    # Patches of one colour give the same tokens at any size, and positions are those that transformers' own code takes
    # for a larger image.
    model, folder = saved
    _, ours = loaded(folder, image_size=5 * 16, patch_size=16)
    with torch.no_grad():
        expected = model.embeddings(torch.full((1, 3, 5 * _PATCH, 5 * _PATCH), 0.3))
        found, grid = ours.embed(torch.full((1, 3, 80, 80), 0.3))
    assert grid == (5, 5)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def resized(patch, side):
    return interpolate(patch, (side, side), mode="bicubic", align_corners=False, antialias=True)


@pytest.mark.parametrize("new_side", [16, 17])
def test_larger_kernels_give_the_same_tokens_of_resized_patches(new_side):
    kernel, patches = torch.randn(5, 3, 14, 14).double(), torch.randn(4, 3, 14, 14).double()
    expected = torch.einsum("bihw,cihw->bc", patches, kernel)
    found = torch.einsum("bihw,cihw->bc", resized(patches, new_side), resample_kernel(kernel, new_side))
    assert torch.allclose(found, expected, atol=1e-10)
    assert resample_kernel(kernel, 14) is kernel


def test_smaller_kernels_have_the_least_error_over_all_patches():
    # The definition: least squares over patches of independent noise, solved for the kernel as a whole.
    kernel = torch.randn(3, 2, 11, 11).double()
    found = resample_kernel(kernel, 7)
    basis = torch.eye(11 * 11, dtype=torch.float64).unflatten(1, (1, 11, 11))
    matrix = resized(basis, 7).flatten(1)  # a row for each pixel of a patch
    expected = torch.linalg.lstsq(matrix, kernel.flatten(2).flatten(0, 1).T).solution.T.reshape(3, 2, 7, 7)
    assert torch.allclose(found, expected, atol=1e-9)


def test_kernels_need_not_be_square():
    kernel = torch.randn(2, 3, 5, 8)
    found = resample_kernel(kernel, 9)
    assert found.shape == (2, 3, 9, 9)
    patch = torch.randn(1, 3, 5, 8)
    larger = interpolate(patch, (9, 9), mode="bicubic", align_corners=False, antialias=True)
    expected = torch.einsum("bihw,cihw->bc", patch, kernel)
    assert torch.allclose(torch.einsum("bihw,cihw->bc", larger, found), expected, atol=1e-4)


def test_what_is_no_starting_point_is_named(tmp_path):
    ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"holds a 'resnet', expected a plain vision transformer of model_type dinov2,"
    ):
        sizes_of(str(tmp_path))
    with pytest.raises(ValueError, match=r"weights\.pth' is a file, expected a hub id or folder of transformers"):
        sizes_of(str(tmp_path / "weights.pth"))
    with pytest.raises(FileNotFoundError, match=r"^no/such/folder/at/all does not exist\.$"):
        UniSegmentEomtConfig(backbone="no/such/folder/at/all")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"position_encoding": "rope", "hidden_size": 24, "num_attention_heads": 2},
            "needs position_encoding='learned', the model has 'rope'",
        ),
        ({"num_hidden_layers": 2}, r"0 weights are missing, \d+ are left over \(first: layers\.2\."),
        ({"hidden_size": 30}, r"cls_token \(1, 1, 24\) instead of \(1, 1, 30\)"),
        ({"num_register_tokens": 5}, r"register_tokens \(1, 0, 24\) instead of \(1, 5, 24\)"),
    ],
)
def test_a_starting_point_that_does_not_fit_is_named(tmp_path, keys, message):
    kind, config = KINDS["dinov2"]
    kind(config).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=f"^{re.escape(repr(str(tmp_path)))} does not fit the vision transformer: .*{message}"
    ):
        loaded(str(tmp_path), image_size=_SIDE, patch_size=_PATCH, **keys)
