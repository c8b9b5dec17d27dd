# SPDX-License-Identifier: Apache-2.0
import torch

from unisegment.layers.attention import MultiHeadAttention


def test_equals_torch_with_a_mask_of_its_own_for_every_query():
    ours, theirs = MultiHeadAttention(24, 3), torch.nn.MultiheadAttention(24, 3, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.q_proj.weight, ours.k_proj.weight, ours.v_proj.weight]))
        theirs.in_proj_bias.copy_(torch.randn(72))
        for part, projection in zip(theirs.in_proj_bias.chunk(3), (ours.q_proj, ours.k_proj, ours.v_proj), strict=True):
            projection.bias.copy_(part)
        theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
    query, key, value = torch.randn(2, 7, 24), torch.randn(2, 11, 24), torch.randn(2, 11, 24)
    allowed = torch.rand(2, 7, 11) > 0.5
    allowed[..., 0] = True
    expected, _ = theirs(query, key, value, attn_mask=(~allowed).repeat_interleave(3, dim=0))
    torch.testing.assert_close(ours(query, key, value, allowed), expected, rtol=1e-4, atol=1e-5)
    expected, _ = theirs(query, key, value)
    torch.testing.assert_close(ours(query, key, value), expected, rtol=1e-4, atol=1e-5)


def test_dropout_acts_in_training_only():
    attention = MultiHeadAttention(8, 2, dropout=0.5)
    x = torch.randn(1, 5, 8)
    assert not torch.equal(attention(x, x, x), attention(x, x, x))
    attention.eval()
    assert torch.equal(attention(x, x, x), attention(x, x, x))
