# SPDX-License-Identifier: Apache-2.0
"""Which modules of a transformers backbone are its stem and its stages: the first of them can be kept from learning."""

from typing import Literal, NamedTuple

from torch import nn
from transformers import PreTrainedModel

FrozenStages = int | Literal["all"]
"""How much of a backbone does not learn, counted from its input: 0 nothing, 1 the stem, 2 the stem and the first stage,
and so on; "all" the whole of it. Source: the values are those of detectron2's FREEZE_AT."""


class _Layout(NamedTuple):
    """Names of modules in a backbone.

    Args:
        stem: What turns pixels into the first map.
        stages: The list of stages; in a plain vision transformer, of blocks.
        end: What follows them and belongs to the last. Norms of the maps that a pyramid gives out are no part of a
            stage: no classifier brings weights for them.
    """

    stem: tuple[str, ...]
    stages: str
    end: tuple[str, ...] = ()


LAYOUTS = {
    "resnet": _Layout(("embedder",), "encoder.stages"),
    "swin": _Layout(("swin.embeddings",), "swin.encoder.layers"),
    "swinv2": _Layout(("embeddings",), "encoder.layers"),
    "convnext": _Layout(("embeddings",), "encoder.stages"),
    "convnextv2": _Layout(("embeddings",), "encoder.stages"),
    "dinov3_convnext": _Layout(("model.stages.0.downsample_layers",), "model.stages"),
    "dinov2": _Layout(("embeddings",), "encoder.layer", ("layernorm",)),
    "dinov2_with_registers": _Layout(("embeddings",), "encoder.layer", ("layernorm",)),
    # Positions have no weights, but are moved at random in training.
    "dinov3_vit": _Layout(("embeddings", "rope_embeddings"), "model.layer", ("norm",)),
}


def frozen_modules(body: PreTrainedModel, frozen_stages: FrozenStages) -> list[nn.Module]:
    """Return the modules that do not learn.

    Args:
        body: A backbone of transformers.
        frozen_stages: See `FrozenStages`.

    Raises:
        ValueError: When there are fewer stages, or when it is not known where they are.
    """
    if frozen_stages == "all":
        return [body]
    if frozen_stages == 0:
        return []
    kind = body.config.model_type
    layout = LAYOUTS.get(kind)
    if layout is None:
        raise ValueError(
            f"frozen_stages={frozen_stages}: which modules of a {kind!r} are its stages is known only for "
            f"{', '.join(LAYOUTS)}. Give 0 or 'all'."
        )
    parts = [[body.get_submodule(name) for name in layout.stem]]
    parts += [[stage] for stage in body.get_submodule(layout.stages).children()]
    parts[-1] += [body.get_submodule(name) for name in layout.end]
    if frozen_stages > len(parts):
        raise ValueError(
            f"frozen_stages={frozen_stages}, but this {kind!r} has only {len(parts)} parts to freeze, the stem and "
            f"{len(parts) - 1} stages. Give 0 to {len(parts)}, or 'all'."
        )
    return [module for part in parts[:frozen_stages] for module in part]
