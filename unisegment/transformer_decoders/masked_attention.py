# SPDX-License-Identifier: Apache-2.0
"""Mask2Former's transformer decoder: queries look only where their own mask was last predicted.

Enters: multi-scale features, coarse to fine, and mask features. Leaves: class logits and mask embeddings after every
layer.

Axes: b batch, q query, c channel, s pixel of one level, t prediction (0 is the learned queries' own, then one a layer).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from unisegment.layers.attention import MultiHeadAttention
from unisegment.layers.conv import initialise_conv
from unisegment.layers.feed_forward import FeedForward
from unisegment.layers.position_embedding import sine_position_embedding
from unisegment.ops.fused_products import dot_products
from unisegment.transformer_decoders.mask_predictor import MaskPredictor


class MaskedAttentionOutput(NamedTuple):
    """Predictions, the learned queries' own first, and what they were made of.

    A tuple, as what wraps modules (FSDP, device maps) finds no tensors in other classes.

    Args:
        class_logits: The last class is "no object". Without inner predictions there is the last one alone.
        mask_embeddings: A mask is the dot product of one with the mask features; for the same predictions.
        queries: The learned queries, and the queries after each layer, before the norm that all predictions share.
        attentions: Weights of each layer's self-attention, where asked for.
    """

    class_logits: Float[Tensor, "t b q k"]
    mask_embeddings: Float[Tensor, "t b q c"]
    queries: tuple[Float[Tensor, "q b c2"], ...]
    attentions: tuple[Float[Tensor, "b m q q"], ...] | None


class MaskedAttentionLayer(GradientCheckpointingLayer):
    """Masked cross-attention, self-attention, feed-forward network; the norm after each, or before it (`pre_norm`)."""

    def __init__(
        self, dim: int, num_heads: int, feed_forward_dim: int, activation: str, dropout: float, pre_norm: bool
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.cross_attn = MultiHeadAttention(dim, num_heads, dropout)
        self.cross_attn_norm = nn.LayerNorm(dim)
        self.self_attn = MultiHeadAttention(dim, num_heads, dropout)
        self.self_attn_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, feed_forward_dim, activation, dropout)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        queries: Float[Tensor, "b q c"],
        query_pos: Float[Tensor, "b q c"],
        memory: Float[Tensor, "b s c"],
        memory_keys: Float[Tensor, "b s c"],
        allowed: Bool[Tensor, "b q s"],
        with_attentions: bool = False,
    ) -> tuple[Float[Tensor, "b q c"], Float[Tensor, "b m q q"] | None]:
        """Return the queries after one round, and how much each looked at the others where that is asked for.

        Args:
            queries: Content of the queries.
            query_pos: Their learned positions, added wherever queries are compared.
            memory: One level of pixel features.
            memory_keys: The same with the positions of its pixels added.
            allowed: Which pixels each query may look at.
            with_attentions: Also return the weights of self-attention.
        """
        x = self._normed(queries, self.cross_attn_norm)
        x = self.cross_attn(x + query_pos, memory_keys, memory, allowed)
        queries = self._joined(queries, x, self.cross_attn_norm)
        x = self._normed(queries, self.self_attn_norm)
        weights = None
        if with_attentions:
            x, weights = self.self_attn.with_weights(x + query_pos, x + query_pos, x)
        else:
            x = self.self_attn(x + query_pos, x + query_pos, x)
        queries = self._joined(queries, x, self.self_attn_norm)
        x = self.feed_forward(self._normed(queries, self.feed_forward_norm))
        return self._joined(queries, x, self.feed_forward_norm), weights

    def _normed(self, x: Float[Tensor, "b q c"], norm: nn.LayerNorm) -> Float[Tensor, "b q c"]:
        return norm(x) if self.pre_norm else x

    def _joined(
        self, residual: Float[Tensor, "b q c"], x: Float[Tensor, "b q c"], norm: nn.LayerNorm
    ) -> Float[Tensor, "b q c"]:
        x = residual + self.dropout(x)
        return x if self.pre_norm else norm(x)


class MaskedAttentionDecoder(nn.Module):
    """Let learned queries attend to one level after the other, round after round, and predict after each layer.

    Args:
        in_channels: Channels of the multi-scale features.
        dim: Channels of the queries.
        mask_dim: Channels of the mask features.
        num_labels: Classes without "no object".
        num_queries: Queries, the largest number of segments that can be found.
        num_layers: Decoder layers; there is one prediction more than layers.
        num_levels: Levels; layer i looks at level i mod `num_levels`.
        num_heads: Heads of every attention.
        feed_forward_dim: Width of the feed-forward networks.
        activation: Their activation.
        dropout: Share of values dropped in training.
        pre_norm: Norm before attention and feed-forward instead of after.
        project_inputs: Put a 1x1 convolution before each level even if channels agree.

    Source:
        Mask2Former (arXiv:2112.01527), section 3.2, and its released code.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        dim: int,
        mask_dim: int,
        num_labels: int,
        num_queries: int,
        num_layers: int,
        num_levels: int,
        num_heads: int,
        feed_forward_dim: int,
        activation: str = "relu",
        dropout: float = 0.0,
        pre_norm: bool = False,
        project_inputs: bool = False,
    ) -> None:
        super().__init__()
        self.dim, self.num_levels = dim, num_levels
        self.query_features = nn.Embedding(num_queries, dim)
        self.query_pos = nn.Embedding(num_queries, dim)
        self.level_embed = nn.Embedding(num_levels, dim)
        with_projection = project_inputs or in_channels != dim
        self.input_proj = nn.ModuleList(
            nn.Conv2d(in_channels, dim, 1) if with_projection else nn.Identity() for _ in range(num_levels)
        )
        self.layers = nn.ModuleList(
            MaskedAttentionLayer(dim, num_heads, feed_forward_dim, activation, dropout, pre_norm)
            for _ in range(num_layers)
        )
        self.predictor = MaskPredictor(dim, mask_dim, num_labels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise what is the decoder's own; its layers initialise themselves."""
        for projection in self.input_proj:
            if isinstance(projection, nn.Conv2d):
                initialise_conv(projection, "kaiming")

    def forward(
        self,
        multi_scale_features: Sequence[Float[Tensor, "b _ _ _"]],
        mask_features: Float[Tensor, "b c h w"],
        with_attentions: bool = False,
        with_inner_predictions: bool = True,
    ) -> MaskedAttentionOutput:
        """Predict with the learned queries, and again after each layer.

        Args:
            multi_scale_features: Maps to attend to, coarse to fine.
            mask_features: Embedding of each pixel at stride 4, same channels as the mask embeddings.
            with_attentions: Also return the weights of self-attention.
            with_inner_predictions: Also return what was predicted before the last layer.
        """
        batch_size = len(mask_features)
        memories, keys, coarse_mask_features = self._prepare(multi_scale_features, mask_features)
        queries = repeat(_rows(self.query_features, mask_features), "q c -> b q c", b=batch_size)
        query_pos = repeat(_rows(self.query_pos, mask_features), "q c -> b q c", b=batch_size)
        # Queries come first in the states that are given out, and what follows is computed from these, so that it has
        # a gradient in them; both as in transformers' Mask2Former.
        states, attentions = [queries.transpose(0, 1)], []
        # Before the last layer, masks say where queries look, and classes are only given out.
        predictions = [self.predictor(queries, with_inner_predictions or not self.layers)]
        for index, layer in enumerate(self.layers):
            level = index % self.num_levels
            allowed = attention_mask(predictions[-1][1].detach(), coarse_mask_features[level])
            queries, weights = layer(
                states[-1].transpose(0, 1), query_pos, memories[level], keys[level], allowed, with_attentions
            )
            states.append(queries.transpose(0, 1))
            attentions.append(weights)
            is_last = index == len(self.layers) - 1
            predictions.append(self.predictor(states[-1].transpose(0, 1), with_inner_predictions or is_last))
        class_logits, mask_embeddings = zip(*predictions[0 if with_inner_predictions else -1 :], strict=True)
        return MaskedAttentionOutput(
            torch.stack(class_logits),
            torch.stack(mask_embeddings),
            tuple(states),
            tuple(attentions) if with_attentions else None,
        )

    def _prepare(
        self, multi_scale_features: Sequence[Tensor], mask_features: Float[Tensor, "b c h w"]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Flatten each level into memory, with positions and without, and bring the mask features to its size."""
        memories, keys, coarse_mask_features = [], [], []
        level_embed = _rows(self.level_embed, mask_features)
        for level, feature in enumerate(multi_scale_features):
            memory = self.input_proj[level](feature).flatten(2).transpose(1, 2) + level_embed[level]
            height, width = feature.shape[-2:]
            memories.append(memory)
            keys.append(memory + sine_position_embedding(height, width, self.dim, memory.device, memory.dtype))
            # Resizing commutes with the dot product: once a level instead of once for each query and layer.
            coarse = F.interpolate(mask_features.detach(), (height, width), mode="bilinear")
            coarse_mask_features.append(coarse.flatten(2).transpose(1, 2))
        return memories, keys, coarse_mask_features


def _rows(embedding: nn.Embedding, like: Tensor) -> Float[Tensor, "n c"]:
    """Return all rows of a table, on the device of `like`.

    By a call, as accelerate puts an offloaded weight in its place only while its own module is called.
    """
    return embedding(torch.arange(embedding.num_embeddings, device=like.device))


def attention_mask(
    mask_embeddings: Float[Tensor, "b q c"], mask_features: Float[Tensor, "b s c"]
) -> Bool[Tensor, "b q s"]:
    """Return where each query's mask is at least as likely as not; everywhere, for a query that sees nothing."""
    inside = dot_products(mask_embeddings, mask_features) >= 0
    return inside | ~inside.any(dim=-1, keepdim=True)
