# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from unisegment.losses import mask_losses
from unisegment.ops import point_sampling
from unisegment.ops.piece_size import PieceSize
from unisegment.postprocessing import resize


@pytest.mark.parametrize("device", ["cuda:1", "mps", "xpu", "meta"])
def test_what_suits_the_device_unless_asked(device):
    size = PieceSize(cpu=7, accelerator=70)
    assert size.on(torch.device("cpu")) == 7
    assert size.on(torch.device(device)) == 70
    assert {size.on(torch.device(name), 11) for name in ("cpu", device)} == {11}
    with pytest.raises(ValueError, match="max_elements must be at least 1, or None for what suits the device, got 0"):
        size.on(torch.device(device), 0)


def test_pieces_of_a_cpu_are_those_that_results_were_published_with():
    """Other pieces of the loss draw other points."""
    assert resize.MAX_ELEMENTS.cpu == mask_losses.MAX_ELEMENTS.cpu == 2**22
    share = mask_losses.MAX_ELEMENTS.accelerator // mask_losses.ELEMENTS_PER_POINT
    assert share == point_sampling.MAX_POINTS.accelerator


@pytest.mark.parametrize(("device", "pieces"), [("cpu", 2), ("meta", 1)])
def test_an_accelerator_gets_larger_pieces(device, pieces):
    logits, frame = torch.zeros(3, 256, 256, device=device), resize.Frame((1024, 1024), (1024, 1024), 4)
    assert len([chunk for chunk, _ in resize.resize_queries(logits, frame)]) == pieces
