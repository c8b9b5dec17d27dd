# SPDX-License-Identifier: Apache-2.0
import torch
from torch import nn

from unisegment.layers.norm import FrozenBatchNorm2d, freeze_batch_norm


def trained_batch_norm(channels):
    norm = nn.BatchNorm2d(channels, eps=1e-3)
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(tensor, 0.5, 2)
    return norm


def test_frozen_equals_batch_norm_in_evaluation_and_stays_so_in_training():
    model = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Sequential(trained_batch_norm(5)))
    x = torch.randn(2, 3, 7, 11)
    expected = model.eval()(x)
    freeze_batch_norm(model)
    assert isinstance(model[1][0], FrozenBatchNorm2d)
    model.train()
    torch.testing.assert_close(model(x), expected)
    torch.testing.assert_close(model(x), expected)
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]


def test_reads_what_batch_norm_saved_and_keeps_half_precision():
    norm = trained_batch_norm(4)
    frozen = FrozenBatchNorm2d(4, norm.eps)
    report = frozen.load_state_dict(norm.state_dict(), strict=False)
    assert report.missing_keys == []
    assert report.unexpected_keys == ["num_batches_tracked"]
    x = torch.randn(1, 4, 3, 5)
    torch.testing.assert_close(frozen(x), norm.eval()(x))
    assert frozen(x.bfloat16()).dtype == torch.bfloat16
