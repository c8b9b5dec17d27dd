# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn.functional as F

from unisegment.layers.attention import MultiHeadAttention, eager_attention, set_attn_implementation
from unisegment.layers.rotary_embedding import AxialRotaryEmbedding, rotate


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


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 0.02)]
)
@pytest.mark.parametrize("is_masked", [True, False])
def test_eager_attention_equals_torch(dtype, tolerance, is_masked):
    q, k, v = (torch.randn(2, 3, tokens, 5, dtype=dtype, requires_grad=True) for tokens in (7, 11, 11))
    allowed = None
    if is_masked:
        allowed = torch.rand(2, 1, 7, 11) > 0.5
        allowed[..., 0] = True
    mixed, weights = eager_attention(q, k, v, allowed)
    assert weights.shape == (2, 3, 7, 11)
    results = [mixed, F.scaled_dot_product_attention(q, k, v, allowed)]
    assert results[0].dtype == dtype
    torch.testing.assert_close(*results, rtol=tolerance, atol=tolerance)
    gradients = [torch.autograd.grad(result.square().sum(), (q, k, v)) for result in results]
    torch.testing.assert_close(*gradients, rtol=10 * tolerance, atol=10 * tolerance)


def test_implementation_is_set_for_all_layers_inside(monkeypatch):
    layers = torch.nn.Sequential(MultiHeadAttention(8, 2), torch.nn.Sequential(MultiHeadAttention(8, 2)))
    set_attn_implementation(layers, "eager")
    monkeypatch.setattr(F, "scaled_dot_product_attention", None)
    x = torch.randn(1, 5, 8)
    eager = [layers[0](x, x, x), layers[1][0](x, x, x)]
    monkeypatch.undo()
    set_attn_implementation(layers, "sdpa")
    torch.testing.assert_close(eager, [layers[0](x, x, x), layers[1][0](x, x, x)])


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_dropout_acts_in_training_only(implementation):
    attention = MultiHeadAttention(8, 2, dropout=0.5)
    attention.implementation = implementation
    x = torch.randn(1, 5, 8)
    assert not torch.equal(attention(x, x, x), attention(x, x, x))
    attention.eval()
    assert torch.equal(attention(x, x, x), attention(x, x, x))


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_a_mask_of_the_first_queries_leaves_the_others_free(implementation):
    attention = MultiHeadAttention(24, 3)
    attention.implementation = implementation
    query, memory = torch.randn(2, 7, 24), torch.randn(2, 11, 24)
    some = torch.rand(2, 4, 11) > 0.5
    some[..., 0] = True
    whole = torch.cat([some, torch.ones(2, 3, 11, dtype=torch.bool)], dim=1)
    expected = attention(query, memory, memory, whole)
    torch.testing.assert_close(attention(query, memory, memory, some), expected, rtol=1e-5, atol=1e-6)
    assert (expected - attention(query, memory, memory)).abs().max() > 1e-3


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_the_last_tokens_are_turned_by_their_places(implementation):
    attention = MultiHeadAttention(24, 3)
    attention.implementation = implementation
    x, rotation = torch.randn(2, 9, 24), AxialRotaryEmbedding(8).eval()(2, 3)
    q, k, v = (
        part(x).unflatten(2, (3, 8)).transpose(1, 2) for part in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    mixed = eager_attention(rotate(q, rotation), rotate(k, rotation), v)[0]
    expected = attention.out_proj(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x, x, x, rotation=rotation), expected, rtol=1e-5, atol=1e-6)
    assert (expected - attention(x, x, x)).abs().max() > 1e-3


def test_each_projection_has_a_bias_or_none():
    names = ("query", "key", "value", "out")
    for name in names:
        attention = MultiHeadAttention(8, 2, **{f"{name}_bias": False})
        parts = (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj)
        assert [part.bias is None for part in parts] == [other == name for other in names]
        attention.reset_parameters()
