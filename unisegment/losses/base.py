# SPDX-License-Identifier: Apache-2.0
"""What every loss says: the names of its terms, and that it is no finite number."""

from collections.abc import Sequence

from torch import Tensor


class NonFiniteLoss(RuntimeError):  # noqa: N818  # what is found; `NonFiniteLossError` is what training makes of it
    """The loss would be NaN or infinite: the network has diverged, or its weights are broken.

    Args:
        message: What was found, and what to do about it.
        touching: Tensors of the graph. A loss made of them reaches every weight that the loss would have reached.
        terms: Names of the terms that the loss would have had.
    """

    def __init__(self, message: str, *, touching: Sequence[Tensor], terms: Sequence[str]) -> None:
        super().__init__(message)
        self.touching, self.terms = touching, terms


def term_names(num_predictions: int) -> list[str]:
    """Return the names of all terms of the loss, those of the final prediction first; only these have no number."""
    endings = ["", *(f"_{index}" for index in range(num_predictions - 1))]
    return [kind + ending for ending in endings for kind in ("loss_cross_entropy", "loss_mask", "loss_dice")]
