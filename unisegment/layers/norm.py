# SPDX-License-Identifier: Apache-2.0
"""Batch normalisation whose statistics and scale never change."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class FrozenBatchNorm2d(nn.Module):
    """Scale and shift each channel by constants; the names are those of `nn.BatchNorm2d`, so its weights load.

    Nothing here is trained or decayed, and batches never mix: detectors and segmenters fine-tune with batches too small
    for honest statistics.

    Args:
        num_channels: Channels c.
        eps: Added to the variance.

    Source:
        Mask2Former's ResNets use detectron2's layer of this name.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.empty(num_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the identity (up to eps)."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)
        nn.init.zeros_(self.running_mean)
        nn.init.ones_(self.running_var)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the scaled and shifted map in its own dtype."""
        if not x.requires_grad:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        # The same for training: batch_norm would keep the map for gradients of constants.
        scale, shift = scale_and_shift(self.weight, self.bias, self.running_mean, self.running_var, self.eps)
        return x * scale.to(x.dtype)[:, None, None] + shift.to(x.dtype)[:, None, None]


def scale_and_shift(
    weight: Float[Tensor, " c"],
    bias: Float[Tensor, " c"],
    running_mean: Float[Tensor, " c"],
    running_var: Float[Tensor, " c"],
    eps: float,
) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Return what a batch normalisation of constant statistics multiplies each channel by, and then adds."""
    scale = weight * (running_var + eps).rsqrt()
    return scale, bias - running_mean * scale


def freeze_batch_norm(module: nn.Module) -> None:
    """Replace every `nn.BatchNorm2d` (or SyncBatchNorm) inside a module by its frozen twin, values kept."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d | nn.SyncBatchNorm):
            frozen = FrozenBatchNorm2d(child.num_features, child.eps)
            kept = {key: value for key, value in child.state_dict().items() if key != "num_batches_tracked"}
            frozen.load_state_dict(kept, assign=True)
            setattr(module, name, frozen)
        else:
            freeze_batch_norm(child)
