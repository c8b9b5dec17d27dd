# SPDX-License-Identifier: Apache-2.0
import torch
from accelerate.utils import send_to_device
from torch.utils._pytree import tree_leaves

from unisegment.pixel_decoders.base import PixelDecoderOutput


def test_what_wraps_modules_finds_the_tensors():
    output = PixelDecoderOutput(torch.zeros(1, 2, 3, 4), (torch.zeros(1, 2, 1, 1),))
    assert [leaf.shape for leaf in tree_leaves(output)] == [(1, 2, 3, 4), (1, 2, 1, 1)]  # FSDP2
    sent = send_to_device(output, "meta")  # device maps
    assert sent.mask_features.device.type == sent.multi_scale_features[0].device.type == "meta"
