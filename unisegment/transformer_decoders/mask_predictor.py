# SPDX-License-Identifier: Apache-2.0
"""Queries in; a class and a mask embedding for each out.

The mask itself is the dot product of the embedding with every pixel's mask features. Sampling and resizing are linear
too, so whoever needs a mask only at points, or only at a coarse size, samples or resizes the features first.
"""

from jaxtyping import Float
from torch import Tensor, nn
from transformers.activations import ACT2FN


class MaskPredictor(nn.Module):
    """Norm, a linear class head and a three-layer mask head, shared by all layers that predict.

    Args:
        dim: Channels of the queries.
        mask_dim: Channels of the mask features.
        num_labels: Classes without "no object".
        activation: Between the layers of the mask head, a name that transformers knows.
        with_norm: False where the queries come normalised.

    Source:
        Mask2Former (arXiv:2112.01527), section 3.1.
    """

    def __init__(
        self, dim: int, mask_dim: int, num_labels: int, activation: str = "relu", with_norm: bool = True
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim) if with_norm else nn.Identity()
        self.class_head = nn.Linear(dim, num_labels + 1)
        self.mask_head = nn.Sequential(
            nn.Linear(dim, dim), ACT2FN[activation], nn.Linear(dim, dim), ACT2FN[activation], nn.Linear(dim, mask_dim)
        )

    def forward(
        self, queries: Float[Tensor, "*batch q c"], with_classes: bool = True
    ) -> tuple[Float[Tensor, "*batch q k"] | None, Float[Tensor, "*batch q c2"]]:
        """Return class logits (the last one is "no object"; None without classes) and mask embeddings."""
        queries = self.norm(queries)
        return self.class_head(queries) if with_classes else None, self.mask_head(queries)
