# SPDX-License-Identifier: Apache-2.0
"""transformers' Swin, at inference in pieces that stay in a cache, with two copies of the tokens for each layer.

A layer reads the tokens of some windows by their places, attends within them, and reads what came out by the places of
the tokens; shift, padding and partition are in these places. Windows that look alike to the mask of the shift lie
together: there are four kinds, and one mask for each. The layers are those of transformers, of the same names and
weights, and its functions compute them where `unisegment.ops.fused_products.fuses` says no, in training, and
where somebody has set hooks on a module that would not be called.

Axes: n tokens of all images, p places in windows (all of a kind together), l places in one window.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import SymInt, Tensor, nn
from torch.nn.functional import pad
from transformers.modeling_outputs import BackboneOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.swin import modeling_swin

from unisegment.layers.linear import apply_linear
from unisegment.layers.own_layers import is_untouched
from unisegment.ops.constants import cached_constant
from unisegment.ops.fused_products import fuses, plain_products

_PIECE_ELEMENTS = 2**21
"""Numbers of the widest tensor that are there at a time: eight megabytes of float32, which stay in a cache."""


class SwinLayer(modeling_swin.SwinLayer):
    """Attention within windows, and a feed-forward."""

    def forward(
        self,
        hidden_states: Float[Tensor, "b hw c"],
        input_dimensions: tuple[int, int],
        always_partition: bool = False,
        **kwargs: Any,
    ) -> tuple[Float[Tensor, "b hw c"], Tensor | None]:
        """Return the next tokens, and the weights of attention where transformers' function computes them."""
        parts = ((self.attention, modeling_swin.SwinAttention), (self.mlp, modeling_swin.SwinMLP))
        is_seen = not all(is_untouched(*part) for part in parts)
        if self.training or is_seen or not (always_partition and fuses(hidden_states)):
            return super().forward(hidden_states, input_dimensions, always_partition, **kwargs)
        tokens = hidden_states.flatten(0, 1)
        places = (len(hidden_states), *input_dimensions, self.window_size, self.shift_size, tokens.device)
        attended = self._attend(tokens, places)
        in_windows, y = _places_of_tokens(*places), torch.empty_like(tokens)
        for piece in _pieces(0, len(tokens), _PIECE_ELEMENTS // self.mlp.fc1.out_features):
            x = apply_linear(self.attention.o_proj, attended.index_select(0, in_windows[piece]), None, tokens[piece])
            widened = apply_linear(self.mlp.fc1, self.layernorm_after(x), self.attention.config.hidden_act)
            y[piece] = apply_linear(self.mlp.fc2, widened, None, x)
        return y.view_as(hidden_states), None

    def _attend(self, tokens: Float[Tensor, "n c"], places: tuple[Any, ...]) -> Float[Tensor, "p c"]:
        """Return what each place in the windows sees, without the output's product."""
        attention, area = self.attention, self.window_size**2
        order = _tokens_of_places(*places)
        is_padded = len(order) > len(tokens)
        masks = attention.relative_position_bias() + _shift_masks(
            self.window_size, self.shift_size, tokens.dtype, tokens.device
        )
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            attention.config._attn_implementation, modeling_swin.eager_attention_forward
        )
        y = tokens.new_empty(len(order), tokens.shape[1])
        first, length = 0, max(_PIECE_ELEMENTS // (4 * area * tokens.shape[1]), 1) * area
        for mask, count in zip(masks.split(1), _windows_of_kinds(*places[:-1]), strict=True):
            for piece in _pieces(first, first + count * area, length):
                indices = order[piece]
                x = self.layernorm_before(tokens.index_select(0, indices.clamp(min=0) if is_padded else indices))
                if is_padded:
                    x.masked_fill_((indices < 0)[:, None], 0)
                q, k, v = (
                    apply_linear(layer, x).view(-1, area, attention.num_attention_heads, attention.head_dim)
                    for layer in (attention.q_proj, attention.k_proj, attention.v_proj)
                )
                heads = (part.transpose(1, 2) for part in (q, k, v))
                seen, _ = attend(attention, *heads, mask, dropout=0.0, scaling=attention.scaling)
                y[piece] = seen.reshape(len(x), -1)
            first += count * area
        return y

    def maybe_pad(
        self, hidden_states: Tensor, height: int | SymInt, width: int | SymInt
    ) -> tuple[Tensor, tuple[int | SymInt, ...]]:
        """Pad (b h w c) at bottom and right to whole windows.

        transformers has `(window - height % window) % window` here: over two maps of unknown sizes and the views that
        follow, the tracer did not come to an end. A number of windows, times their size, it divides at once.
        """
        window = self.window_size
        padding = (0, 0, 0, -(-width // window) * window - width, 0, -(-height // window) * window - height)
        return pad(hidden_states, padding), padding


class SwinPatchMerging(modeling_swin.SwinPatchMerging):
    """Four neighbours become one token."""

    def forward(
        self, input_feature: Float[Tensor, "b hw c"], input_dimensions: tuple[int, int]
    ) -> Float[Tensor, "b _ c2"]:
        """Return the tokens of the next stage."""
        if self.training or not fuses(input_feature):
            return super().forward(input_feature, input_dimensions)
        x = self.maybe_pad(input_feature.unflatten(1, input_dimensions), *input_dimensions)
        # transformers puts the neighbours of a column after each other
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(x.flatten(3).flatten(1, 2)))


class SwinStage(modeling_swin.SwinStage):
    """Layers of one resolution, and the step to the next."""

    def get_reshaped_hidden_states(
        self,
        hidden_states: Float[Tensor, "b _ _"],
        hidden_states_before_downsampling: Float[Tensor, "b hw c"],
        height: int,
        width: int,
        output_hidden_states_before_downsampling: bool,
    ) -> Float[Tensor, "b _ _ _"]:
        """Return the map of this stage, at inference as a view of its tokens."""
        if self.training or not (output_hidden_states_before_downsampling and fuses(hidden_states)):
            return super().get_reshaped_hidden_states(
                hidden_states,
                hidden_states_before_downsampling,
                height,
                width,
                output_hidden_states_before_downsampling,
            )
        return _map_of(hidden_states_before_downsampling, (height, width))


class SwinBackbone(modeling_swin.SwinBackbone):
    """The whole backbone."""

    def forward(self, pixel_values: Float[Tensor, "b 3 h w"], **kwargs: Any) -> BackboneOutput | tuple[Any, ...]:
        """Return the maps of the stages in `out_features`, and by transformers' function what else is asked for."""
        if self.training or not fuses(pixel_values):
            return super().forward(pixel_values, **kwargs)
        config, model = self.config, self.swin
        parts = ((model, modeling_swin.SwinModel), (model.encoder, modeling_swin.SwinEncoder))
        is_seen = not all(is_untouched(*part) for part in parts)
        if is_seen or kwargs or config.output_hidden_states or config.output_attentions or not config.return_dict:
            with plain_products():
                return super().forward(pixel_values, **kwargs)
        tokens, size = model.embeddings(pixel_values)
        maps = [_map_of(tokens, size)]
        for stage in model.encoder.layers:
            tokens, features, _ = stage(
                tokens, size, always_partition=True, output_hidden_states_before_downsampling=True
            )
            size = ((size[0] + 1) // 2, (size[1] + 1) // 2)
            maps.append(features)
        return BackboneOutput(
            feature_maps=tuple(
                self.hidden_states_norms[name](features.movedim(1, -1)).movedim(-1, 1)
                for name, features in zip(self.stage_names, maps, strict=True)
                if name in self.out_features
            )
        )


OWN_LAYERS: dict[type[nn.Module], type[nn.Module]] = {
    getattr(modeling_swin, own.__name__): own for own in (SwinLayer, SwinPatchMerging, SwinStage, SwinBackbone)
}
"""Ours in place of transformers', see `use_own_layers`."""


def _map_of(tokens: Float[Tensor, "b hw c"], size: Sequence[int]) -> Float[Tensor, "b c h w"]:
    return tokens.unflatten(1, tuple(size)).movedim(-1, 1)


def _pieces(first: int, end: int, length: int) -> Iterator[slice]:
    for start in range(first, end, max(length, 1)):
        yield slice(start, min(start + max(length, 1), end))


def _windows_of_kinds(batch: int, height: int, width: int, window: int, shift: int) -> list[int]:
    """Return how many windows there are within, of the last column, of the last row, and in the corner of both.

    All are of one kind where nothing is shifted.
    """
    rows, columns = -(-height // window), -(-width // window)
    if not shift:
        return [batch * rows * columns]
    return [batch * (rows - 1) * (columns - 1), batch * (rows - 1), batch * (columns - 1), batch]


@cached_constant
def _tokens_of_places(
    batch: int, height: int, width: int, window: int, shift: int, device: torch.device
) -> Int[Tensor, " p"]:
    """Return which token lies at each place of the windows, kind after kind; -1 is padding."""
    tokens = torch.arange(batch * height * width, device=device).view(batch, height, width)
    tokens = pad(tokens, (0, -width % window, 0, -height % window), value=-1).roll((-shift, -shift), (1, 2))
    windows = tokens.unflatten(2, (-1, window)).unflatten(1, (-1, window)).transpose(2, 3)
    if not shift:
        return windows.flatten()
    parts = (windows[:, rows, columns] for rows in _WITHIN_LAST for columns in _WITHIN_LAST)
    return torch.cat([part.flatten() for part in parts])


_WITHIN_LAST = (slice(None, -1), slice(-1, None))


@cached_constant
def _places_of_tokens(
    batch: int, height: int, width: int, window: int, shift: int, device: torch.device
) -> Int[Tensor, " n"]:
    """Return at which place of the windows each token lies."""
    order = _tokens_of_places(batch, height, width, window, shift, device)
    places = torch.nonzero(order >= 0)[:, 0]
    return torch.empty_like(places).scatter_(0, order[places], places)


@cached_constant
def _shift_masks(window: int, shift: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "kinds 1 l l"]:
    """Return what is added to the logits of each kind of window: -100 between tokens that are no neighbours."""
    if not shift:
        return torch.zeros(1, 1, 1, 1, dtype=dtype, device=device)
    came_round: Bool[Tensor, " window"] = torch.arange(window, device=device) >= window - shift
    rows, columns = came_round[:, None].expand(window, window).flatten(), came_round.repeat(window)
    apart_rows, apart_columns = (side[:, None] != side for side in (rows, columns))
    apart = torch.stack([torch.zeros_like(apart_rows), apart_columns, apart_rows, apart_rows | apart_columns])
    return torch.zeros(apart.shape, dtype=dtype, device=device).masked_fill_(apart, -100)[:, None]
