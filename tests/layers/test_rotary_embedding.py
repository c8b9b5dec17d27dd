# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from transformers import DINOv3ViTConfig
from transformers.models.dinov3_vit.modeling_dinov3_vit import DINOv3ViTRopePositionEmbedding, apply_rotary_pos_emb

from unisegment.layers.rotary_embedding import AxialRotaryEmbedding, rotate


def twins(**keys):
    """Return transformers' embedding, for patches of one pixel and heads of 12 channels, and ours."""
    config = DINOv3ViTConfig(
        hidden_size=24,
        num_attention_heads=2,
        patch_size=1,
        **{f"pos_embed_{k}": keys.get(k) for k in ("shift", "jitter", "rescale")},
    )
    return DINOv3ViTRopePositionEmbedding(config), AxialRotaryEmbedding(12, 100.0, **keys)


@pytest.mark.parametrize("size", [(3, 5), (7, 2)])
def test_turns_queries_and_keys_as_transformers_does(size):
    theirs, ours = (module.eval() for module in twins())
    q, k = torch.randn(2, 2, 4 + size[0] * size[1], 12), torch.randn(2, 2, 4 + size[0] * size[1], 12)
    expected = apply_rotary_pos_emb(q, k, *theirs(torch.zeros(1, 3, *size)))
    rotation = ours(*size)
    torch.testing.assert_close((rotate(q, rotation), rotate(k, rotation)), expected, rtol=1e-5, atol=1e-5)


def test_the_dot_product_of_two_turned_tokens_tells_how_far_apart_they_are():
    q, k = torch.randn(12), torch.randn(12)
    rotation = AxialRotaryEmbedding(12)(4, 4)
    dots = rotate(q.expand(1, 1, 16, 12), rotation)[0, 0] @ rotate(k.expand(1, 1, 16, 12), rotation)[0, 0].T
    dots = dots.view(4, 4, 4, 4)  # row and column of one, row and column of the other
    torch.testing.assert_close(dots[0, 0, 2, 1], dots[1, 2, 3, 3])
    assert (dots[0, 0, 2, 1] - dots[0, 0, 1, 2]).abs() > 1e-3


@pytest.mark.parametrize(
    "keys", [{"shift": 0.3}, {"jitter": 1.4}, {"rescale": 2.0}, {"shift": 0.3, "jitter": 1.4, "rescale": 2.0}]
)
def test_the_grid_moves_in_training_as_in_transformers(keys):
    theirs, ours = twins(**keys)
    still = ours.eval()(3, 5)
    torch.manual_seed(7)
    cos, sin = theirs.train()(torch.zeros(1, 3, 3, 5))
    torch.manual_seed(7)
    found = ours.train()(3, 5)
    torch.testing.assert_close((found.cos, found.sin[:, 6:]), (cos, sin[:, 6:]), rtol=1e-5, atol=1e-5)
    assert (found.cos - still.cos).abs().max() > 1e-3


def test_heads_that_cannot_be_turned_are_named():
    with pytest.raises(ValueError, match="multiple of 4 channels, got 10"):
        AxialRotaryEmbedding(10)
