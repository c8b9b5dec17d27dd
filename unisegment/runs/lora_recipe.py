# SPDX-License-Identifier: Apache-2.0
"""The section `model.lora` of a recipe."""

import re
from dataclasses import dataclass
from typing import Annotated

from unisegment.runs.settings import Bounds, NotBelowZero, Share


@dataclass(frozen=True, kw_only=True)
class LoraRecipe:
    """Whether two small matrices learn beside each layer, instead of the layer itself.

    Besides them only the class head learns, and what the checkpoint does not have.

    Args:
        rank: The smaller side of both matrices; 0 lets the layers themselves learn.
        alpha: Their product counts `alpha / rank` times; None is `rank`, so once.
        dropout: Share of their inputs dropped in training.
        targets: Regular expression for the full names of the linear layers that get them, such as
            `.*(q_proj|v_proj)`. None is all of them: attention, feed-forward and mask head. What
            `model.frozen_stages` freezes gets none.

    Source:
        LoRA (arXiv:2106.09685); section 4.1 for `rank` and `alpha`.
    """

    rank: Annotated[int, Bounds(0, 2**16)] = 0
    alpha: NotBelowZero | None = None
    dropout: Share = 0.0
    targets: str | None = None

    def __post_init__(self) -> None:
        if self.alpha == 0:
            raise ValueError("alpha must be more than 0, got 0.")
        if self.dropout == 1:
            raise ValueError("dropout must be below 1, got 1.")
        if len(re.findall(r"[*+{]", self.targets or "")) > 4 or re.search(r"\)[*+{]", self.targets or ""):
            raise ValueError(
                f"targets={self.targets!r}: more than 4 repetitions (* + {{}}), or one of a group, can take years to "
                "match. Name the layers with fewer."
            )
        try:
            re.compile(self.targets or "")
        except re.error as error:
            raise ValueError(f"targets={self.targets!r} is not a regular expression: {error}.") from error
