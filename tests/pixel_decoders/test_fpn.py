# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn.functional as F

from tests.pixel_decoders.half_precision import assert_bfloat16_gives_nearly_the_same
from unisegment.pixel_decoders.fpn import FPNPixelDecoder

CHANNELS = (3, 5, 7, 11)
SIZES = [(11, 17), (6, 9), (3, 5), (2, 3)]  # a 41x67 image at strides 4, 8, 16, 32, rounded up


def features():
    return [torch.randn(2, channels, *size) for channels, size in zip(CHANNELS, SIZES, strict=True)]


def pixel_decoder(num_levels=3):
    decoder = FPNPixelDecoder(CHANNELS, dim=64, mask_dim=6, num_levels=num_levels)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # no scale is 1 and no bias 0
    return decoder


def written_out(weights, maps):
    """The pyramid of the specification, from the coarsest map down, on weights by name."""

    def normed(x, name):
        x = F.conv2d(x, weights[f"{name}.conv.weight"], padding="same")
        return F.group_norm(x, 32, weights[f"{name}.norm.weight"], weights[f"{name}.norm.bias"])

    fine_to_coarse, refined = list(maps), []
    for index in range(4):
        feature = fine_to_coarse.pop()
        if index > 0:
            height, width = feature.shape[-2:]
            rows = torch.arange(height) * refined[-1].shape[-2] // height
            columns = torch.arange(width) * refined[-1].shape[-1] // width
            enlarged = refined[-1][:, :, rows][:, :, :, columns]
            feature = normed(feature, f"lateral_convs.{index - 1}") + enlarged
        refined.append(normed(feature, f"output_convs.{index}").relu())
    return F.conv2d(refined[-1], weights["mask_proj.weight"], weights["mask_proj.bias"], padding=1), refined


@pytest.mark.parametrize("num_levels", [1, 3, 4])
def test_equals_the_pyramid_written_out(num_levels):
    decoder, maps = pixel_decoder(num_levels), features()
    mask_features, refined = written_out(decoder.state_dict(), maps)
    output = decoder(maps)
    assert output.mask_features.shape == (2, 6, 11, 17)
    torch.testing.assert_close(output.mask_features, mask_features, rtol=1e-4, atol=1e-4)
    assert len(output.multi_scale_features) == num_levels
    for ours, expected in zip(output.multi_scale_features, refined, strict=False):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_weights_are_named_coarse_to_fine():
    shapes = {name: tuple(weight.shape) for name, weight in pixel_decoder().state_dict().items()}
    norms = {name: shapes.pop(name) for name in list(shapes) if ".norm." in name}
    assert set(norms.values()) == {(64,)}
    assert len(norms) == 2 * 7
    assert shapes == {
        "lateral_convs.0.conv.weight": (64, 7, 1, 1),
        "lateral_convs.1.conv.weight": (64, 5, 1, 1),
        "lateral_convs.2.conv.weight": (64, 3, 1, 1),
        "output_convs.0.conv.weight": (64, 11, 3, 3),
        "output_convs.1.conv.weight": (64, 64, 3, 3),
        "output_convs.2.conv.weight": (64, 64, 3, 3),
        "output_convs.3.conv.weight": (64, 64, 3, 3),
        "mask_proj.weight": (6, 64, 3, 3),
        "mask_proj.bias": (6,),
    }


def test_convolutions_start_as_in_the_original():
    decoder = FPNPixelDecoder(CHANNELS, dim=64, mask_dim=6)
    convs = [module for module in decoder.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(convs) == 8
    for conv in convs:
        bound = (3 / conv.weight[0].numel()) ** 0.5
        assert 0.97 * bound < conv.weight.abs().max() <= bound
    assert decoder.mask_proj.bias.abs().max() == 0


def test_every_weight_gets_a_gradient_from_the_mask_features_alone():
    decoder = pixel_decoder()
    decoder(features()).mask_features.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in decoder.parameters())


@pytest.mark.parametrize("autocast", [True, False])
def test_bfloat16_gives_nearly_the_same(autocast):
    assert_bfloat16_gives_nearly_the_same(pixel_decoder(), features(), autocast)
