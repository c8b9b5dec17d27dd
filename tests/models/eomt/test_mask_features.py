# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from transformers import EomtConfig
from transformers.models.eomt.modeling_eomt import EomtScaleLayer

from unisegment.models.eomt import mask_features
from unisegment.models.eomt.mask_features import MAX_ELEMENTS, Upscale, UpscaleBlock


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_map_and_gradients_equal_those_of_transformers(activation):
    stock, ours = EomtScaleLayer(EomtConfig(hidden_size=6, hidden_act=activation)), UpscaleBlock(6, activation)
    parts = ((ours.deconv, stock.conv1), (ours.conv, stock.conv2), (ours.norm, stock.layernorm2d))
    for mine, theirs in parts:
        torch.nn.init.normal_(theirs.weight)
        mine.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 6, 5, 7, requires_grad=True)
    found = [ours(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), stock(x)]
    assert found[0].shape == (2, 6, 10, 14)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
    wanted = [[x, *(weight for pair in parts for weight in pair[side].parameters())] for side in (0, 1)]
    change = torch.randn(2, 6, 10, 14)
    gradients = [torch.autograd.grad(y, of, change) for y, of in zip(found, wanted, strict=True)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(ours(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), found[0])


def test_the_large_maps_are_not_held_for_the_backward_pass():
    block, x, held = UpscaleBlock(6, "gelu"), torch.randn(1, 5, 7, 6), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: held.append(tensor) or tensor, lambda tensor: tensor):
        block(x.requires_grad_())
    # Of what has the size of the result, only what the rest is computed again from.
    assert sum(tensor.numel() == 4 * x.numel() for tensor in held) == 1


@pytest.mark.parametrize("num_blocks", [0, 1, 2])
@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_masks_are_the_same_piece_by_piece(monkeypatch, num_blocks, rows):
    upscale, patches, embeddings = Upscale(6, num_blocks, "gelu"), torch.randn(2, 5, 7, 6), torch.randn(2, 3, 6)
    width = 7 * 2 ** max(num_blocks - 1, 0)
    monkeypatch.setattr(mask_features, "MAX_ELEMENTS", MAX_ELEMENTS._replace(cpu=rows * 4 * 2 * width * 6))
    expected = torch.einsum("bqc,bhwc->bqhw", embeddings, upscale(patches))
    found = upscale.masks(patches, embeddings)
    assert found.shape == (2, 3, 5 * 2**num_blocks, 7 * 2**num_blocks)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
