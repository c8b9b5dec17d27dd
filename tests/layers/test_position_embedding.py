# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from transformers.models.mask2former.modeling_mask2former import Mask2FormerSinePositionEmbedding

from unisegment.layers.position_embedding import sine_position_embedding


@pytest.mark.parametrize("dim", [4, 32, 256])
def test_equals_transformers(dim):
    peer = Mask2FormerSinePositionEmbedding(dim // 2, normalize=True)
    expected = peer(torch.Size([1, dim, 7, 11]), torch.device("cpu"), torch.float32)[0].flatten(1).T
    torch.testing.assert_close(sine_position_embedding(7, 11, dim), expected)


def test_values_of_the_specification():
    code = sine_position_embedding(2, 3, 256).view(2, 3, 256)
    torch.testing.assert_close(
        code[0, 0, :6], torch.tensor([0.0, -1.0, 0.40875, -0.91265, 0.70734, -0.70687]), rtol=0, atol=1e-4
    )
    torch.testing.assert_close(
        code[1, 2, :6], torch.tensor([0.0, 1.0, -0.74609, 0.66584, -1.0, -0.00067]), rtol=0, atol=1e-4
    )
    assert torch.equal(code[0, 0, :128], code[0, 2, :128])  # y first: the same along a row
    assert torch.equal(code[0, 1, 128:], code[1, 1, 128:])  # then x: the same along a column
