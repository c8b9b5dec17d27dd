# SPDX-License-Identifier: Apache-2.0
"""How much is held at a time, where something large is made piece by piece."""

from typing import NamedTuple

import torch


class PieceSize(NamedTuple):
    """Most numbers of a piece, unless somebody asks for another size.

    A piece for a CPU fits into its cache. On an accelerator each piece costs the start of some dozen kernels, however
    small it is, so pieces are large there. Numbers that are fixed need no question to the device, which would have to
    be waited for, and give the same pieces in every run.

    Args:
        cpu: On a CPU.
        accelerator: On any other device.
    """

    cpu: int
    accelerator: int

    def on(self, device: torch.device, asked: int | None = None) -> int:
        """Return the size for a device, or the one that is asked for.

        Raises:
            ValueError: When a piece of nothing is asked for.
        """
        if asked is None:
            return self.cpu if device.type == "cpu" else self.accelerator
        if asked < 1:
            raise ValueError(f"max_elements must be at least 1, or None for what suits the device, got {asked}.")
        return asked
