# SPDX-License-Identifier: Apache-2.0
import torch


def assert_bfloat16_gives_nearly_the_same(decoder, maps, autocast):
    """Compare mask features in bfloat16, by weights or by autocast, with those in float32."""
    expected = decoder(maps)
    if not autocast:
        decoder, maps = decoder.bfloat16(), [feature.bfloat16() for feature in maps]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = decoder(maps)
    assert output.mask_features.dtype == torch.bfloat16
    torch.testing.assert_close(
        output.mask_features.float(), expected.mask_features, rtol=0, atol=0.1 * expected.mask_features.std().item()
    )
