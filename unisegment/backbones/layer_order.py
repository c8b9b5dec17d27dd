# SPDX-License-Identifier: Apache-2.0
"""The name of a weight of a transformers backbone in, how many of its layers lie above that weight out."""

from torch import nn
from transformers import PreTrainedModel

from unisegment.backbones.freezing import LAYOUTS

_GROUPS = ("blocks", "layers")
"""What a stage calls its layers."""
_AFTER_LAYERS = "downsample."
"""A part of Swin's stages; what other backbones have beside the layers of a stage comes before these."""


def layers_above(body: PreTrainedModel, name: str) -> int:
    """Return how many layers lie between a weight's own layer and the output.

    Layers are those of transformers, the blocks of Swin and ConvNeXt, and the bottlenecks of ResNets. What turns pixels
    into the first map belongs to the first layer, what makes maps smaller to the layer beside it in the same stage, and
    norms behind the layers to none: nothing lies above them.

    Args:
        body: A backbone of transformers.
        name: Of the weight in `body`.

    Returns:
        0 as well where it is not known which modules of `body` are its layers.
    """
    layout = LAYOUTS.get(body.config.model_type)
    if layout is None:
        return 0
    depths = [len(_layers(stage)) for stage in body.get_submodule(layout.stages).children()]
    if name.startswith(tuple(f"{part}." for part in layout.stem)):
        return sum(depths) - 1
    if not name.startswith(f"{layout.stages}."):
        return 0
    stage, rest = name.removeprefix(f"{layout.stages}.").split(".", 1)
    group, place = [*rest.split("."), ""][:2]
    depth = depths[int(stage)]
    own = depth - 1 if rest.startswith(_AFTER_LAYERS) else int(place) if group in _GROUPS and place.isdigit() else 0
    return sum(depths[int(stage) :]) - 1 - own


def _layers(stage: nn.Module) -> list[nn.Module]:
    """Return the layers of a stage; a plain vision transformer has stages of one."""
    for group in _GROUPS:
        if isinstance(found := getattr(stage, group, None), nn.ModuleList | nn.Sequential):
            return [*found]
    return [stage]
