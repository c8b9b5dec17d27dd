# SPDX-License-Identifier: Apache-2.0
"""A plain vision transformer in the style of DINOv2 or DINOv3: an image becomes tokens, layers turn tokens into tokens.

Tokens stand in the order class token, register tokens, patches row by row. Whoever uses it may put more tokens before
them between two layers. Axes: b image, s token, c channel, h and w rows and columns of the grid of patches.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from unisegment.backbones.base import pad_to_multiple
from unisegment.backbones.freezing import FrozenStages
from unisegment.layers.attention import MultiHeadAttention
from unisegment.layers.feed_forward import FeedForward, GatedFeedForward
from unisegment.layers.rotary_embedding import AxialRotaryEmbedding, Rotation
from unisegment.types import Size


class VisionTransformerLayer(GradientCheckpointingLayer):
    """Self-attention and a feed-forward network, each after a norm, scaled channel by channel and added.

    Args:
        dim: Channels.
        attention: Self-attention.
        feed_forward: The network applied to each token.
        layer_scale: What all channels are scaled by at first.
        drop_path_rate: Share of images for which one of the two parts is left out in training.
        norm_eps: Added to the variance by the norms.
        initializer_range: Standard deviation of the initial weights.
    """

    def __init__(
        self,
        dim: int,
        attention: MultiHeadAttention,
        feed_forward: FeedForward | GatedFeedForward,
        *,
        layer_scale: float,
        drop_path_rate: float,
        norm_eps: float,
        initializer_range: float,
    ) -> None:
        super().__init__()
        self.initial_scale, self.drop_path_rate, self.initializer_range = layer_scale, drop_path_rate, initializer_range
        self.norm1 = nn.LayerNorm(dim, norm_eps)
        self.self_attn = attention
        self.layer_scale1 = nn.Parameter(torch.empty(dim))
        self.norm2 = nn.LayerNorm(dim, norm_eps)
        self.feed_forward = feed_forward
        self.layer_scale2 = nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as vision transformers are trained from scratch: small normal weights, biases zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=self.initializer_range)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for scale in (self.layer_scale1, self.layer_scale2):
            nn.init.constant_(scale, self.initial_scale)

    def forward(
        self,
        tokens: Float[Tensor, "b s c"],
        allowed: Bool[Tensor, "b _ s"] | None = None,
        rotation: Rotation | None = None,
        with_attentions: bool = False,
    ) -> tuple[Float[Tensor, "b s c"], Float[Tensor, "b m s s"] | None]:
        """Return the tokens after the layer, and how much each looked at the others where that is asked for.

        Args:
            tokens: The tokens.
            allowed: Where the first tokens may look, see `MultiHeadAttention`.
            rotation: Turns queries and keys of the patches, which are the last tokens.
            with_attentions: Also return the weights of attention.
        """
        x, weights = self.norm1(tokens), None
        if with_attentions:
            x, weights = self.self_attn.with_weights(x, x, x, allowed, rotation)
        else:
            x = self.self_attn(x, x, x, allowed, rotation)
        tokens = self._joined(tokens, x, self.layer_scale1)
        return self._joined(tokens, self.feed_forward(self.norm2(tokens)), self.layer_scale2), weights

    def _joined(
        self, tokens: Float[Tensor, "b s c"], x: Float[Tensor, "b s c"], scale: Float[Tensor, " c"]
    ) -> Float[Tensor, "b s c"]:
        if not self.training or self.drop_path_rate == 0:
            return torch.addcmul(tokens, x, scale)
        kept = 1 - self.drop_path_rate
        drawn = torch.rand((len(x), 1, 1), dtype=x.dtype, device=x.device)
        return torch.addcmul(tokens, x * scale, torch.floor(drawn + kept) / kept)


class VisionTransformer(nn.Module):
    """Patches become tokens, with learned positions (as DINOv2) or turned by their places (as DINOv3).

    Args:
        dim: Channels c.
        num_layers: Layers.
        num_heads: Heads of attention.
        feed_forward_dim: Channels inside the feed-forward networks.
        image_size: (height, width) of the images that the learned positions are for, multiples of `patch_size`.
        patch_size: Side of a patch in pixels.
        in_channels: Channels of the images.
        num_register_tokens: Tokens beside the class token that stand for no place.
        position_encoding: "learned" adds a table to the patches, "rope" turns queries and keys.
        rope: Arguments of `AxialRotaryEmbedding`, without `head_dim`.
        activation: Of the feed-forward networks, a name that transformers knows.
        is_gated: Whether these are gated.
        feed_forward_bias: Whether these have biases.
        attention_biases: Whether projections of queries, keys, values and results have biases.
        dropout: Share of values of the tokens dropped at the start in training.
        attention_dropout: Share of attention weights dropped in training.
        drop_path_rate: See `VisionTransformerLayer`.
        layer_scale: See `VisionTransformerLayer`.
        norm_eps: Added to the variance by the norms.
        initializer_range: Standard deviation of the initial weights.

    Source:
        ViT (arXiv:2010.11929); DINOv2 (arXiv:2304.07193); registers (arXiv:2309.16588); DINOv3 (arXiv:2508.10104).
    """

    frozen_stages: FrozenStages = 0

    def __init__(
        self,
        dim: int,
        *,
        num_layers: int,
        num_heads: int,
        feed_forward_dim: int,
        image_size: Size,
        patch_size: int,
        in_channels: int = 3,
        num_register_tokens: int = 0,
        position_encoding: Literal["learned", "rope"] = "learned",
        rope: Mapping[str, Any] | None = None,
        activation: str = "gelu",
        is_gated: bool = False,
        feed_forward_bias: bool = True,
        attention_biases: Sequence[bool] = (True, True, True, True),
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        drop_path_rate: float = 0.0,
        layer_scale: float = 1.0,
        norm_eps: float = 1e-6,
        initializer_range: float = 0.02,
    ) -> None:
        super().__init__()
        self.patch_size, self.initializer_range = patch_size, initializer_range
        self.grid_size = (image_size[0] // patch_size, image_size[1] // patch_size)
        self.num_prefix_tokens = 1 + num_register_tokens
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.register_tokens = nn.Parameter(torch.empty(1, num_register_tokens, dim))
        self.patch_proj = nn.Conv2d(in_channels, dim, patch_size, patch_size)
        self.position_embeddings: nn.Parameter | None = None
        self.rope: AxialRotaryEmbedding | None = None
        if position_encoding == "learned":
            self.position_embeddings = nn.Parameter(torch.empty(1, self.grid_size[0] * self.grid_size[1], dim))
        else:
            self.rope = AxialRotaryEmbedding(dim // num_heads, **(rope or {}))
        self.dropout = nn.Dropout(dropout)
        query_bias, key_bias, value_bias, out_bias = attention_biases
        self.layers = nn.ModuleList(
            VisionTransformerLayer(
                dim,
                MultiHeadAttention(
                    dim,
                    num_heads,
                    attention_dropout,
                    query_bias=query_bias,
                    key_bias=key_bias,
                    value_bias=value_bias,
                    out_bias=out_bias,
                ),
                (GatedFeedForward if is_gated else FeedForward)(
                    dim, feed_forward_dim, activation, bias=feed_forward_bias
                ),
                layer_scale=layer_scale,
                drop_path_rate=drop_path_rate,
                norm_eps=norm_eps,
                initializer_range=initializer_range,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim, norm_eps)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise what is no layer's own: class token and positions small and normal, register tokens zero."""
        nn.init.trunc_normal_(self.cls_token, std=self.initializer_range)
        nn.init.zeros_(self.register_tokens)
        if self.position_embeddings is not None:
            nn.init.trunc_normal_(self.position_embeddings, std=self.initializer_range)

    def embed(self, pixel_values: Float[Tensor, "b _ _ _"]) -> tuple[Float[Tensor, "b s c"], Size]:
        """Return the tokens of images of any size, and rows and columns of their patches.

        Images are padded at bottom and right to whole patches. The table of learned positions is resized to the grid
        where it was made for another one.
        """
        patches = self.patch_proj(pad_to_multiple(pixel_values, self.patch_size))
        grid = (patches.shape[2], patches.shape[3])
        tokens = patches.flatten(2).transpose(1, 2)
        if self.position_embeddings is not None:
            tokens = tokens + resized_positions(self.position_embeddings, self.grid_size, grid).to(tokens.dtype)
        prefix = (self.cls_token, self.register_tokens)
        tokens = torch.cat([*(part.to(tokens.dtype).expand(tokens.shape[0], -1, -1) for part in prefix), tokens], dim=1)
        return self.dropout(tokens), grid

    def rotation(self, grid: Size) -> Rotation | None:
        """Return what the layers turn patches of a grid by; None where positions are learned."""
        return None if self.rope is None else self.rope(*grid, device=self.cls_token.device)

    def load_pretrained(self, name_or_path: str) -> None:
        """Start from the weights of a vision transformer of transformers, see `backbone_weights.load_backbone`."""
        from unisegment.models.eomt.backbone_weights import load_backbone  # it knows this class

        load_backbone(self, name_or_path)

    def freeze(self, frozen_stages: FrozenStages) -> None:
        """Keep the first stages from learning, from now on, as `unisegment.backbones.base.Backbone.freeze` does.

        Args:
            frozen_stages: 0 nothing, 1 what makes tokens of images, 1 + n also the first n layers (with the last of
                them, the norm after it), "all" all of it.

        Raises:
            ValueError: When there are fewer layers.
        """
        most = 1 + len(self.layers)
        if frozen_stages != "all" and not 0 <= frozen_stages <= most:
            raise ValueError(
                f"frozen_stages={frozen_stages}, but this vision transformer has only {most} parts to freeze, the "
                f"embeddings and {most - 1} layers. Give 0 to {most}, or 'all'."
            )
        self.frozen_stages = frozen_stages
        for part in self._frozen_parts():
            part.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "VisionTransformer":
        """Set training or evaluation mode, as in torch; frozen stages stay in evaluation mode."""
        super().train(mode)
        for part in self._frozen_parts():
            if isinstance(part, nn.Module):
                part.eval()
        return self

    def _frozen_parts(self) -> Iterator[nn.Module | nn.Parameter]:
        count = 1 + len(self.layers) if self.frozen_stages == "all" else self.frozen_stages
        if count > 0:
            parts = (self.cls_token, self.register_tokens, self.position_embeddings)
            yield from (part for part in (*parts, self.patch_proj, self.rope, self.dropout) if part is not None)
            yield from self.layers[: count - 1]
        if count > len(self.layers):
            yield self.norm


def resized_positions(table: Float[Tensor, "1 s c"], grid: Size, new_grid: Size) -> Float[Tensor, "1 _ c"]:
    """Return a table of positions for another grid of patches, bicubic and smoothed where the grid shrinks.

    Args:
        table: One row for each patch of `grid`, row by row.
        grid: Rows and columns that the table is for.
        new_grid: Rows and columns wanted.
    """
    # A program that is exported for all sizes has unknown sides, and no branch for one of them.
    if all(isinstance(side, int) for side in new_grid) and new_grid == grid:
        return table
    dtype = torch.promote_types(table.dtype, torch.float32)
    image = table.to(dtype).transpose(1, 2).unflatten(2, grid)
    image = F.interpolate(image, new_grid, mode="bicubic", antialias=True, align_corners=False)
    return image.flatten(2).transpose(1, 2).to(table.dtype)
