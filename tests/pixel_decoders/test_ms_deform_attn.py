# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from unisegment.pixel_decoders.ms_deform_attn import MSDeformAttnPixelDecoder, pixel_centres

CHANNELS = (3, 5, 7, 11)


def features(height=64, width=96):
    return [torch.randn(2, c, height // s, width // s) for c, s in zip(CHANNELS, (4, 8, 16, 32), strict=True)]


def pixel_decoder(num_levels):
    return MSDeformAttnPixelDecoder(
        CHANNELS, dim=32, mask_dim=6, num_levels=num_levels, num_layers=2, num_heads=4, num_points=3, feed_forward_dim=8
    )


@pytest.mark.parametrize("num_levels", [1, 2, 3, 4])
def test_maps_come_coarse_to_fine_and_masks_at_stride_4(num_levels):
    output = pixel_decoder(num_levels)(features())
    assert output.mask_features.shape == (2, 6, 16, 24)
    expected = [(2, 32, 64 // s, 96 // s) for s in (32, 16, 8, 4)[:num_levels]]
    assert [tuple(level.shape) for level in output.multi_scale_features] == expected


def test_sizes_need_not_be_multiples_of_each_other():
    maps = [torch.randn(1, c, *size) for c, size in zip(CHANNELS, [(10, 13), (5, 7), (3, 4), (2, 2)], strict=True)]
    assert pixel_decoder(3)(maps).mask_features.shape == (1, 6, 10, 13)


def test_pixel_centres_are_x_then_y_row_by_row():
    centres = pixel_centres(2, 4, torch.device("cpu"))
    expected = [[0.125, 0.25], [0.375, 0.25], [0.625, 0.25], [0.875, 0.25], [0.125, 0.75]]
    assert centres[:5].tolist() == expected


def test_images_of_a_batch_do_not_mix():
    decoder = pixel_decoder(3).eval()
    maps = features()
    with torch.no_grad():
        together = decoder(list(maps)).mask_features
        alone = decoder([level[1:] for level in maps]).mask_features
    torch.testing.assert_close(together[1:], alone)
