# SPDX-License-Identifier: Apache-2.0
"""Weights of EoMT under three sets of names: ours, those of transformers' Eomt and EomtDinov3 ("stock"), the authors'.

Every table is one to one, so weights go in and out without a change. Files are read and written in
`stock_checkpoints.py` and `original_checkpoints.py`.
"""

import re
from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor

from unisegment.models.eomt.configuration_eomt import UniSegmentEomtConfig
from unisegment.ops.weight_names import WeightNames

_OWN_LAYER, _LAYER = "backbone.layers.{i}", "layers.{i}"
_POSITIONS = "embeddings.position_embeddings.weight"
_HEADS = (
    ("backbone.norm", "layernorm"),
    ("queries.weight", "query.weight"),
    ("upscale.{i}.deconv", "upscale_block.block.{i}.conv1"),
    ("upscale.{i}.conv.weight", "upscale_block.block.{i}.conv2.weight"),
    ("upscale.{i}.norm", "upscale_block.block.{i}.layernorm2d"),
    ("predictor.class_head", "class_predictor"),
    ("predictor.mask_head.0", "mask_head.fc1"),
    ("predictor.mask_head.2", "mask_head.fc2"),
    ("predictor.mask_head.4", "mask_head.fc3"),
    ("attn_mask_probs", "attn_mask_probs"),
)
_TOKENS = (
    ("backbone.cls_token", "embeddings.cls_token"),
    ("backbone.register_tokens", "embeddings.register_tokens"),
)
_LAYERS = (
    (f"{_OWN_LAYER}.norm1", f"{_LAYER}.norm1"),
    *((f"{_OWN_LAYER}.self_attn.{part}_proj", f"{_LAYER}.attention.{part}_proj") for part in "qkv"),
    (f"{_OWN_LAYER}.layer_scale1", f"{_LAYER}.layer_scale1.lambda1"),
    (f"{_OWN_LAYER}.norm2", f"{_LAYER}.norm2"),
    (f"{_OWN_LAYER}.layer_scale2", f"{_LAYER}.layer_scale2.lambda1"),
)
_LEARNED = (
    *_TOKENS,
    ("backbone.position_embeddings", _POSITIONS),
    ("backbone.patch_proj", "embeddings.patch_embeddings.projection"),
    *_LAYERS,
    (f"{_OWN_LAYER}.self_attn.out_proj", f"{_LAYER}.attention.out_proj"),
    *_HEADS,
)
_ROPE = (
    *_TOKENS,
    ("backbone.patch_proj", "embeddings.patch_embeddings"),
    *_LAYERS,
    (f"{_OWN_LAYER}.self_attn.out_proj", f"{_LAYER}.attention.o_proj"),
    *_HEADS,
)


def _plain(layer: str, linear1: str, linear2: str) -> tuple[tuple[str, str], ...]:
    return (
        (f"{_OWN_LAYER}.feed_forward.linear1", f"{layer}.mlp.{linear1}"),
        (f"{_OWN_LAYER}.feed_forward.linear2", f"{layer}.mlp.{linear2}"),
    )


def _gated(layer: str) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"{_OWN_LAYER}.feed_forward.{part}_proj", f"{layer}.mlp.{part}_proj") for part in ("gate", "up", "down")
    )


STOCK_NAMES = {
    ("learned", False): WeightNames((*_LEARNED, *_plain(_LAYER, "fc1", "fc2")), kind="The EoMT of transformers"),
    ("learned", True): WeightNames((*_LEARNED, *_gated(_LAYER)), kind="The EoMT of transformers"),
    ("rope", False): WeightNames(
        (*_ROPE, *_plain(_LAYER, "up_proj", "down_proj")), kind="The EoMT-DINOv3 of transformers"
    ),
    ("rope", True): WeightNames((*_ROPE, *_gated(_LAYER)), kind="The EoMT-DINOv3 of transformers"),
}
"""Names in transformers, for each pair of position encoding and whether the feed-forward networks are gated."""

_NETWORK, _ENCODER = "network", "network.encoder.backbone"
_BLOCK = f"{_ENCODER}.blocks.{{i}}"
_QUERIES, _CLASS_TOKEN = f"{_NETWORK}.q.weight", f"{_ENCODER}.cls_token"
_ORIGINAL_POSITIONS, _REGISTERS = f"{_ENCODER}.pos_embed", f"{_ENCODER}.reg_token"
_ORIGINAL_HEADS = (
    ("backbone.norm", f"{_ENCODER}.norm"),
    (f"{_OWN_LAYER}.norm1", f"{_BLOCK}.norm1"),
    (f"{_OWN_LAYER}.norm2", f"{_BLOCK}.norm2"),
    ("queries.weight", _QUERIES),
    ("upscale.{i}.deconv", f"{_NETWORK}.upscale.{{i}}.conv1"),
    ("upscale.{i}.conv.weight", f"{_NETWORK}.upscale.{{i}}.conv2.weight"),
    ("upscale.{i}.norm", f"{_NETWORK}.upscale.{{i}}.norm"),
    ("predictor.class_head", f"{_NETWORK}.class_head"),
    ("predictor.mask_head.0", f"{_NETWORK}.mask_head.0"),
    ("predictor.mask_head.2", f"{_NETWORK}.mask_head.2"),
    ("predictor.mask_head.4", f"{_NETWORK}.mask_head.4"),
    ("attn_mask_probs", f"{_NETWORK}.attn_mask_probs"),
)
# DINOv2 is timm's.
_ORIGINAL_LEARNED = (
    ("backbone.cls_token", _CLASS_TOKEN),
    ("backbone.register_tokens", _REGISTERS),
    ("backbone.position_embeddings", _ORIGINAL_POSITIONS),
    ("backbone.patch_proj", f"{_ENCODER}.patch_embed.proj"),
    (f"{_OWN_LAYER}.self_attn.out_proj", f"{_BLOCK}.attn.proj"),
    (f"{_OWN_LAYER}.layer_scale1", f"{_BLOCK}.ls1.gamma"),
    (f"{_OWN_LAYER}.layer_scale2", f"{_BLOCK}.ls2.gamma"),
    *_ORIGINAL_HEADS,
)
_ORIGINAL_FUSED = ((f"{_OWN_LAYER}.self_attn.{{part}}_proj.{{leaf}}", f"{_BLOCK}.attn.qkv.{{leaf}}"),)
# DINOv3 is transformers', with two of its parts under names of timm.
_ORIGINAL_ROPE = (
    ("backbone.cls_token", f"{_ENCODER}.patch_embed.cls_token"),
    ("backbone.register_tokens", f"{_ENCODER}.patch_embed.register_tokens"),
    ("backbone.patch_proj", f"{_ENCODER}.patch_embed.patch_embeddings"),
    *((f"{_OWN_LAYER}.self_attn.{part}_proj", f"{_BLOCK}.attention.{part}_proj") for part in "qkv"),
    (f"{_OWN_LAYER}.self_attn.out_proj", f"{_BLOCK}.attention.o_proj"),
    (f"{_OWN_LAYER}.layer_scale1", f"{_BLOCK}.layer_scale1.lambda1"),
    (f"{_OWN_LAYER}.layer_scale2", f"{_BLOCK}.layer_scale2.lambda1"),
    *_ORIGINAL_HEADS,
)


ORIGINAL_NAMES = {
    ("learned", False): WeightNames(
        (*_ORIGINAL_LEARNED, *_plain(_BLOCK, "fc1", "fc2")), fused=_ORIGINAL_FUSED, kind="The authors' EoMT"
    ),
    ("learned", True): WeightNames(
        (*_ORIGINAL_LEARNED, *_gated(_BLOCK)), fused=_ORIGINAL_FUSED, kind="The authors' EoMT"
    ),
    ("rope", False): WeightNames(
        (*_ORIGINAL_ROPE, *_plain(_BLOCK, "up_proj", "down_proj")), kind="The authors' EoMT with DINOv3"
    ),
    ("rope", True): WeightNames((*_ORIGINAL_ROPE, *_gated(_BLOCK)), kind="The authors' EoMT with DINOv3"),
}
"""Names in the authors' code, for the same pairs."""
_TOKEN_TABLES = ("backbone.cls_token", "backbone.register_tokens", "backbone.position_embeddings")
# Theirs alone: the class weights of the loss, the token of masked patches, which only pre-training uses, and what
# normalises images.
_STOCK_ONLY = re.compile(r"criterion\.empty_weight|embeddings\.mask_token")
_WITHOUT_WEIGHTS = re.compile(r"criterion\.empty_weight|network\.encoder\.pixel_(mean|std)")


def from_stock(weights: Mapping[str, Tensor], config: UniSegmentEomtConfig) -> dict[str, Tensor]:
    """Return stock weights under our names.

    Args:
        weights: Weights under transformers' names of any release. Where masks have no probabilities, these are 1, as
            transformers has it.
        config: Their config, as ours.

    Raises:
        ValueError: For names that this model has not.
    """
    names = STOCK_NAMES[config.position_encoding, config.is_gated]
    ours = names.to_ours(split_gates({key: value for key, value in weights.items() if not _STOCK_ONLY.fullmatch(key)}))
    ours.setdefault("attn_mask_probs", torch.ones(config.num_blocks))
    if "backbone.position_embeddings" in ours:
        ours["backbone.position_embeddings"] = ours["backbone.position_embeddings"][None]
    return ours


def to_stock(weights: Mapping[str, Tensor], config: UniSegmentEomtConfig, of: Iterable[str] = ()) -> dict[str, Tensor]:
    """Return our weights under the stock names; the reverse of `from_stock`.

    Args:
        weights: Our weights.
        config: Our config.
        of: Names in the release of transformers that is wanted; any release of today where there are none.

    Raises:
        ValueError: For names that the stock model has no place for.
    """
    theirs = STOCK_NAMES[config.position_encoding, config.is_gated].to_theirs(weights)
    if _POSITIONS in theirs:
        theirs[_POSITIONS] = theirs[_POSITIONS][0]
    return _join_gates(theirs) if any(".mlp.weights_in." in name for name in of) else theirs


def split_gates(
    weights: Mapping[str, Tensor], joined: str = "weights_in", last: str = "weights_out"
) -> dict[str, Tensor]:
    """Return weights in which no two layers of gated feed-forward networks are one tensor.

    Args:
        weights: Weights with names that end in `mlp`, a part and `weight` or `bias`.
        joined: The part that stands for `gate_proj` and `up_proj`, one above the other.
        last: The part that stands for `down_proj`.

    Raises:
        ValueError: When one cannot be split in two.
    """
    split: dict[str, Tensor] = {}
    for name, value in weights.items():
        place, part, leaf = _parts(name)
        if part == last:
            split[f"{place}.down_proj.{leaf}"] = value
        elif part != joined:
            split[name] = value
        elif value.ndim == 0 or len(value) % 2:
            raise ValueError(f"{name!r} holds two layers, so its length must be even, got shape {tuple(value.shape)}.")
        else:
            gate, up = value.chunk(2)
            split |= {f"{place}.gate_proj.{leaf}": gate.clone(), f"{place}.up_proj.{leaf}": up.clone()}
    return split


def _join_gates(
    weights: Mapping[str, Tensor], joined: str = "weights_in", last: str = "weights_out"
) -> dict[str, Tensor]:
    """Undo `split_gates`."""
    whole: dict[str, Tensor] = {}
    for name, value in weights.items():
        place, part, leaf = _parts(name)
        if part == "gate_proj":
            whole[f"{place}.{joined}.{leaf}"] = torch.cat([value, weights[f"{place}.up_proj.{leaf}"]])
        elif part != "up_proj":
            whole[f"{place}.{last}.{leaf}" if part == "down_proj" else name] = value
    return whole


def _parts(name: str) -> tuple[str, str, str]:
    """Return where a feed-forward network is, the part of it and of that part; for other weights no part."""
    place, _, rest = name.rpartition(".mlp.")
    part, _, leaf = rest.partition(".")
    return (f"{place}.mlp", part, leaf) if place else ("", "", "")


def from_original(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of the authors' code under our names.

    Args:
        state_dict: Their weights, whole or as differences.

    Raises:
        ValueError: For weights of another model, or names that are not known.
    """
    weights = {original_name(key): value for key, value in state_dict.items()}
    weights = {key: value for key, value in weights.items() if not _WITHOUT_WEIGHTS.fullmatch(key)}
    if not owns(weights):
        raise ValueError(
            f"This is not a checkpoint of the authors' EoMT: it has no weight {_QUERIES}, but for example "
            f"{', '.join(list(weights)[:3])}."
        )
    is_learned, mlp = _ORIGINAL_POSITIONS in weights, f"{_ENCODER}.blocks.0.mlp"
    (rows, *_), (*_, columns) = (_shape(weights, f"{mlp}.{part}.weight") for part in ("fc1", "fc2"))
    if rows == 2 * columns:
        weights = split_gates(weights, "fc1", "fc2")
    names = ORIGINAL_NAMES["learned" if is_learned else "rope", f"{mlp}.gate_proj.weight" in weights]
    ours = names.to_ours(weights)
    channels = _shape(ours, "backbone.cls_token")[-1]
    for name in filter(ours.__contains__, _TOKEN_TABLES):
        shape = tuple(ours[name].shape)
        if len(shape) != 3 or shape[::2] != (1, channels):
            raise ValueError(f"{name!r} has shape {shape}, expected (1, tokens, {channels}).")
    if is_learned and _REGISTERS not in weights and _CLASS_TOKEN in weights:  # then the class token has a position
        tokens, positions = ours["backbone.cls_token"], ours["backbone.position_embeddings"]
        ours["backbone.register_tokens"] = tokens[:, :0]
        ours["backbone.cls_token"] = tokens + positions[:, :1]
        ours["backbone.position_embeddings"] = positions[:, 1:]
    return ours


def _shape(weights: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Return the shape of a weight; (0, -1), which none has, where it is missing or has no axis."""
    return tuple(weights[name].shape if name in weights else ()) or (0, -1)


def to_original(weights: Mapping[str, Tensor], config: UniSegmentEomtConfig) -> dict[str, Tensor]:
    """Return our weights under the names of the authors' code; the reverse of `from_original`.

    Raises:
        ValueError: For names that their model has no place for.
    """
    theirs = ORIGINAL_NAMES[config.position_encoding, config.is_gated].to_theirs(weights)
    if config.position_encoding == "rope":
        return theirs
    if not theirs[_REGISTERS].numel():
        theirs[_ORIGINAL_POSITIONS] = torch.cat(
            [torch.zeros_like(theirs[_CLASS_TOKEN]), theirs[_ORIGINAL_POSITIONS]], 1
        )
        del theirs[_REGISTERS]
    return _join_gates(theirs, "fc1", "fc2")


def owns(names: Collection[str]) -> bool:
    """Tell by the names of weights whether the authors' code has given them."""
    return any(original_name(name) == _QUERIES for name in names)


def original_name(key: str) -> str:
    """Bring a name of the authors' to its plain form, without what compiling and data parallelism put into it."""
    return re.sub(r"(^|\.)((module|_orig_mod)\.)+", r"\1", key)
