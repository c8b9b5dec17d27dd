# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn.functional as F
from transformers.models.mask2former.modeling_mask2former import Mask2FormerSinePositionEmbedding

from tests.pixel_decoders.half_precision import assert_bfloat16_gives_nearly_the_same
from unisegment.pixel_decoders.fpn import FPNPixelDecoder
from unisegment.pixel_decoders.transformer_fpn import TransformerEncoderLayer, TransformerFPNPixelDecoder

CHANNELS = (3, 5, 7, 11)
SIZES = [(11, 17), (6, 9), (3, 5), (2, 3)]  # a 41x67 image at strides 4, 8, 16, 32, rounded up


def features():
    return [torch.randn(2, channels, *size) for channels, size in zip(CHANNELS, SIZES, strict=True)]


def pixel_decoder(pre_norm):
    decoder = TransformerFPNPixelDecoder(
        CHANNELS, dim=64, mask_dim=6, num_layers=2, num_heads=4, feed_forward_dim=13, pre_norm=pre_norm
    )
    return disturbed(decoder)


def disturbed(module):
    """Leave no scale at 1 and no bias at 0."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def peer_of(layer, dropout=0.0):
    """Torch's own layer with the same weights."""
    dim, feed_forward_dim = layer.feed_forward.linear1.in_features, layer.feed_forward.linear1.out_features
    peer = torch.nn.TransformerEncoderLayer(
        dim, layer.self_attn.num_heads, feed_forward_dim, dropout, batch_first=True, norm_first=layer.pre_norm
    )
    projections = [layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj]
    with torch.no_grad():
        peer.self_attn.in_proj_weight.copy_(torch.cat([projection.weight for projection in projections]))
        peer.self_attn.in_proj_bias.copy_(torch.cat([projection.bias for projection in projections]))
    for theirs, ours in (
        (peer.self_attn.out_proj, layer.self_attn.out_proj),
        (peer.norm1, layer.self_attn_norm),
        (peer.linear1, layer.feed_forward.linear1),
        (peer.linear2, layer.feed_forward.linear2),
        (peer.norm2, layer.feed_forward_norm),
    ):
        theirs.load_state_dict(ours.state_dict())
    return peer


def with_positions(peer, x, pos):
    """Torch's layer written out, since it has no positions of its own."""
    attended = peer.norm1(x) if peer.norm_first else x
    x = x + peer.self_attn(attended + pos, attended + pos, attended)[0]
    x = x if peer.norm_first else peer.norm1(x)
    hidden = peer.norm2(x) if peer.norm_first else x
    x = x + peer.linear2(peer.linear1(hidden).relu())
    return x if peer.norm_first else peer.norm2(x)


def encoded(decoder, feature):
    """The coarsest map after the encoder, by torch's layers and transformers' positions."""
    x = F.conv2d(feature, decoder.input_proj.weight, decoder.input_proj.bias)
    pos = Mask2FormerSinePositionEmbedding(32, normalize=True)(x.shape, x.device, x.dtype)
    grid = x.shape[-2:]
    x, pos = x.flatten(2).mT, pos.flatten(2).mT
    for layer in decoder.layers:
        x = with_positions(peer_of(layer), x, pos)
    if layer.pre_norm:
        x = F.layer_norm(x, (64,), decoder.norm.weight, decoder.norm.bias)
    return x.mT.unflatten(2, grid)


@pytest.mark.parametrize("pre_norm", [True, False])
def test_layer_without_positions_equals_torch_dropout_included(pre_norm):
    layer = disturbed(TransformerEncoderLayer(24, 3, 37, 0.3, pre_norm))
    peer = peer_of(layer, dropout=0.3)
    x, nowhere = torch.randn(1, 7, 24), torch.zeros(7, 24)  # one image: torch's layer orders random numbers otherwise
    for mode in (True, False):
        torch.manual_seed(1)
        ours = layer.train(mode)(x, nowhere)
        torch.manual_seed(1)
        torch.testing.assert_close(ours, peer.train(mode)(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pre_norm", [True, False])
def test_equals_torchs_encoder_and_then_the_pyramid(pre_norm):
    decoder, maps = pixel_decoder(pre_norm), features()
    pyramid = FPNPixelDecoder((*CHANNELS[:3], 64), dim=64, mask_dim=6)
    pyramid.load_state_dict(
        {name: value for name, value in decoder.state_dict().items() if name in pyramid.state_dict()}
    )
    expected, output = pyramid([*maps[:3], encoded(decoder, maps[3])]), decoder(maps)
    torch.testing.assert_close(output.mask_features, expected.mask_features, rtol=1e-4, atol=1e-4)
    assert [tuple(level.shape[-2:]) for level in output.multi_scale_features] == SIZES[:0:-1]
    for ours, theirs in zip(output.multi_scale_features, expected.multi_scale_features, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pre_norm", [True, False])
def test_weights_beside_the_pyramids_own(pre_norm):
    shapes = {name: tuple(weight.shape) for name, weight in pixel_decoder(pre_norm).state_dict().items()}
    pyramid = FPNPixelDecoder((*CHANNELS[:3], 64), dim=64, mask_dim=6).state_dict()
    assert {name: shapes.pop(name) for name in pyramid} == {name: tuple(value.shape) for name, value in pyramid.items()}
    layer = TransformerEncoderLayer(64, 4, 13, 0.0, pre_norm)
    parts = {name for name, _ in layer.named_children()}
    assert parts == {"self_attn", "self_attn_norm", "feed_forward", "feed_forward_norm", "dropout"}
    weights = layer.state_dict().items()
    expected = {f"layers.{i}.{name}": tuple(weight.shape) for i in range(2) for name, weight in weights}
    expected |= {"input_proj.weight": (64, 11, 1, 1), "input_proj.bias": (64,)}
    if pre_norm:
        expected |= {"norm.weight": (64,), "norm.bias": (64,)}
    assert shapes == expected


def test_plain_convolutions_start_as_in_the_original():
    decoder = TransformerFPNPixelDecoder(CHANNELS, dim=64, mask_dim=6, num_layers=1, num_heads=4, feed_forward_dim=13)
    for conv in (decoder.input_proj, decoder.mask_proj):
        bound = (3 / conv.weight[0].numel()) ** 0.5
        assert 0.97 * bound < conv.weight.abs().max() <= bound
        assert conv.bias.abs().max() == 0


@pytest.mark.parametrize("pre_norm", [True, False])
def test_every_weight_gets_a_gradient_from_the_mask_features_alone(pre_norm):
    decoder = pixel_decoder(pre_norm)
    decoder(features()).mask_features.square().sum().backward()
    without = {name for name, weight in decoder.named_parameters() if weight.grad is None or not weight.grad.any()}
    # The same bias on every key changes no attention weight: its gradient is zero but for rounding.
    assert without <= {f"layers.{i}.self_attn.k_proj.bias" for i in range(2)}


@pytest.mark.parametrize("pre_norm", [True, False])
@pytest.mark.parametrize("autocast", [True, False])
def test_bfloat16_gives_nearly_the_same(autocast, pre_norm):
    assert_bfloat16_gives_nearly_the_same(pixel_decoder(pre_norm), features(), autocast)
