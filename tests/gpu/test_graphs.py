# SPDX-License-Identifier: Apache-2.0
"""Recorded passes on a GPU give what the model gives, bit by bit."""

import pytest
import torch

from tests.training.small_steps import network
from unisegment import UniSegmentEomtConfig, UniSegmentEomtForUniversalSegmentation
from unisegment.inference.graphs import RECORDED_AT, GraphedNetwork

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
SIZES = [(1, 64, 96), (2, 96, 64), (1, 128, 32)]


def eomt():
    torch.manual_seed(4)
    config = UniSegmentEomtConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, image_size=64, num_queries=7, num_blocks=1,
        num_labels=2,
    )  # fmt: skip
    return UniSegmentEomtForUniversalSegmentation(config)


def inputs(size, seed=0):
    batch, height, width = size
    generator = torch.Generator("cuda").manual_seed(seed)
    images = torch.randn(batch, 3, height, width, generator=generator, device="cuda")
    mask = torch.ones(batch, height, width, dtype=torch.int64, device="cuda")
    mask[:, height - 7 :] = 0
    return {"pixel_values": images, "pixel_mask": mask}


def assert_same(network, batch):
    wanted, found = network.model(**batch), network(**batch)
    assert list(found) == list(wanted)
    for name in ("class_queries_logits", "masks_queries_logits", "image_sizes"):
        assert torch.equal(found[name], wanted[name]), name


@pytest.mark.parametrize(
    "make", [lambda: network("resnet"), lambda: network("swin"), eomt], ids=["resnet", "swin", "eomt"]
)
def test_replays_are_the_same_bits(make, caplog):
    sizes = SIZES if make is not eomt else [(1, 64, 64), (2, 64, 64)]
    graphed = GraphedNetwork(make().eval().cuda())
    with torch.no_grad():
        for seed in range(RECORDED_AT + 2):
            for size in sizes:
                assert_same(graphed, inputs(size, seed))
        assert len(graphed._recordings) == len(sizes), caplog.text
        for side in range(32, 32 * 12, 32):  # constants of other sizes take the places of these
            graphed(**inputs((1, side, 64) if make is not eomt else (3, 64, 64)))
        for parameter in graphed.model.parameters():
            parameter.mul_(1.01)
        for size in sizes:
            assert_same(graphed, inputs(size, 99))
        graphed.model.to(torch.bfloat16)
        for seed in range(RECORDED_AT + 1):
            assert_same(graphed, inputs(sizes[0], seed))
    assert not [record for record in caplog.records if record.name.startswith("unisegment")]


def test_other_streams_are_left_alone():
    graphed = GraphedNetwork(network("resnet").eval().cuda())
    with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream()):
        for seed in range(RECORDED_AT + 1):
            assert_same(graphed, inputs(SIZES[0], seed))
    assert not graphed._recordings
