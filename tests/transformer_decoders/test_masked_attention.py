# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import torch.nn.functional as F
from accelerate import cpu_offload

from unisegment.transformer_decoders.masked_attention import MaskedAttentionDecoder, attention_mask


def decoder(**overrides):
    keys = {
        "dim": 16, "mask_dim": 6, "num_labels": 3, "num_queries": 5, "num_layers": 4, "num_levels": 2, "num_heads": 2,
        "feed_forward_dim": 8, **overrides,
    }  # fmt: skip
    return MaskedAttentionDecoder(8, **keys)


def test_attention_mask_equals_the_resized_full_masks():
    mask_features, embeddings = torch.randn(2, 6, 12, 20), torch.randn(2, 5, 6)
    coarse = F.interpolate(mask_features, (3, 7), mode="bilinear")
    allowed = attention_mask(embeddings, coarse.flatten(2).transpose(1, 2))
    full = torch.einsum("bqc,bchw->bqhw", embeddings, mask_features)
    blocked = F.interpolate(full, (3, 7), mode="bilinear").sigmoid().flatten(2) < 0.5
    blocked &= ~blocked.all(-1, keepdim=True)
    assert torch.equal(allowed, ~blocked)


def test_a_query_that_sees_nothing_sees_everything():
    features = torch.ones(1, 4, 1)
    features[:, 3] = -1
    allowed = attention_mask(torch.tensor([[[1.0], [-1.0]]]), features)
    assert allowed.tolist() == [[[True, True, True, False], [False, False, False, True]]]
    assert attention_mask(torch.tensor([[[-1.0]]]), torch.ones(1, 4, 1)).all()


def test_one_prediction_more_than_layers():
    decoded = decoder()([torch.randn(2, 8, 2, 3), torch.randn(2, 8, 4, 6)], torch.randn(2, 6, 8, 12))
    assert decoded.class_logits.shape == (5, 2, 5, 4)
    assert decoded.mask_embeddings.shape == (5, 2, 5, 6)


@pytest.mark.parametrize("num_layers", [0, 4])
def test_without_inner_predictions_the_last_one_is_the_same_and_classes_are_computed_once(num_layers):
    model, calls = decoder(num_layers=num_layers), []
    inputs = [torch.randn(2, 8, 2, 3), torch.randn(2, 8, 4, 6)], torch.randn(2, 6, 8, 12)
    expected = model(*inputs)
    model.predictor.class_head.register_forward_hook(lambda *_: calls.append(1))
    found = model(*inputs, with_inner_predictions=False)
    assert len(calls) == 1
    for name in ("class_logits", "mask_embeddings"):
        assert torch.equal(getattr(found, name), getattr(expected, name)[-1:])


def test_layers_take_levels_in_turn():
    model = decoder(num_layers=5, num_levels=2)
    lengths = []
    for layer in model.layers:
        layer.register_forward_pre_hook(lambda module, inputs: lengths.append(inputs[2].shape[1]))
    model([torch.randn(1, 8, 2, 3), torch.randn(1, 8, 4, 6)], torch.randn(1, 6, 8, 12))
    assert lengths == [6, 24, 6, 24, 6]


def test_no_gradient_flows_through_the_attention_mask():
    model = decoder(num_layers=1, num_levels=1)
    mask_features = torch.randn(1, 6, 8, 12, requires_grad=True)
    model([torch.randn(1, 8, 2, 3)], mask_features).class_logits.sum().backward()
    assert mask_features.grad is None


def test_weights_may_be_elsewhere_until_their_module_is_called():
    model = decoder()
    features, mask_features = [torch.randn(2, 8, 2, 3), torch.randn(2, 8, 4, 6)], torch.randn(2, 6, 8, 12)
    expected = model(features, mask_features)
    offloaded = cpu_offload(model, torch.device("cpu"))
    assert {weight.device.type for weight in offloaded.parameters()} == {"meta"}
    result = offloaded(features, mask_features)
    assert torch.equal(result.class_logits, expected.class_logits)
    assert torch.equal(result.mask_embeddings, expected.mask_embeddings)
