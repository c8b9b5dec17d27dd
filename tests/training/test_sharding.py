# SPDX-License-Identifier: Apache-2.0
"""What can be seen without other processes; weights that are cut up are in test_several_processes.py."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import DistributedType
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException

from unisegment.pixel_decoders.ms_deform_attn import MSDeformAttnPixelDecoder
from unisegment.runs.settings import RecipeError
from unisegment.training.sharding import layer_names, plain_errors, settle_sharding, with_whole_weights, without_weights


def model():
    layers = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    layers[2].weight = nn.Parameter(layers[0].weight.T.clone())
    layers[1].register_buffer("constant", torch.tensor([7.0]), persistent=False)
    return layers


def test_a_copy_gets_all_weights_and_shares_none_before():
    layers = model()
    empty = without_weights(layers)
    assert {weight.device.type for weight in empty.parameters()} == {"meta"}
    assert {buffer.device.type for buffer in empty.buffers()} == {"cpu"}
    layers(torch.randn(11, 3))
    copied = with_whole_weights(layers, empty).eval()
    images = torch.randn(7, 3)
    assert torch.equal(copied(images), layers.eval()(images))
    assert copied[1].constant == 7
    assert {weight.device.type for weight in empty.parameters()} == {"meta"}


def test_layers_are_gathered_one_after_the_other():
    decoder = MSDeformAttnPixelDecoder(
        [5, 7], dim=32, mask_dim=8, num_levels=2, num_layers=1, num_heads=2, feed_forward_dim=11, num_points=2
    )
    assert layer_names(decoder) == ["MSDeformAttnEncoderLayer"]
    assert layer_names(model()) == []


def test_the_first_version_is_refused():
    with pytest.raises(RecipeError, match="Set fsdp_version: 2"):
        settle_sharding(SimpleNamespace(distributed_type=DistributedType.FSDP, is_fsdp2=False))


def test_an_error_in_one_process_is_raised_as_it_is():
    with pytest.raises(OSError, match="No space left"), plain_errors():
        raise CheckpointException("failed", {1: (OSError("No space left on device"), None)})
