# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest
import torch

from unisegment.pixel_decoders.base import PixelDecoderOutput


def test_output_cannot_be_changed():
    output = PixelDecoderOutput(torch.zeros(1, 2, 3, 4), (torch.zeros(1, 2, 1, 1),))
    with pytest.raises(dataclasses.FrozenInstanceError):
        output.mask_features = torch.zeros(1)
