# SPDX-License-Identifier: Apache-2.0
"""Weights of ResNets: three sets of names, and the sizes that follow from the shapes.

Ours are the names of transformers' ResNetBackbone in memory (`embedder.embedder.convolution.weight`,
`encoder.stages.0.layers.0.layer.0.normalization.bias`, …), without a prefix. detectron2's are those of its backbone
without a prefix (`stem.conv1.weight`, `res2.0.conv1.norm.bias`, …), as in checkpoints of the original Mask2Former under
`backbone.` and in the torchvision models of detectron2's own zoo. torchvision's are those of its classifiers
(`conv1.weight`, `layer1.0.bn1.bias`, …). All three have the same tensors; only classifiers have `fc`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor
from transformers import ResNetConfig

from unisegment.backbones.weight_fit import STAGES, layer_counts, require_expressible, size_of
from unisegment.ops.weight_names import WeightNames

CLASSIFIER_ONLY = re.compile(r"(stem\.)?fc\.(weight|bias)")
"""Names of torchvision's, and of detectron2's copies of it, that no backbone has."""

_STEM = "embedder.embedder"
_LAYER = re.compile(r"encoder\.stages\.(\d+)\.layers\.(\d+)\.")


def _names(
    stem: str, stem_norm: str, stages: Sequence[str], norm: str, shortcut: str, shortcut_norm: str
) -> Iterator[tuple[str, str]]:
    """Yield our names and foreign ones; `{}` in `norm` is the number of its convolution, from 1."""
    yield f"{_STEM}.convolution.weight", f"{stem}.weight"
    yield f"{_STEM}.normalization", stem_norm
    for index, stage in enumerate(stages):
        ours, theirs = f"encoder.stages.{index}.layers.{{i}}", f"{stage}.{{i}}"
        yield f"{ours}.shortcut.convolution.weight", f"{theirs}.{shortcut}.weight"
        yield f"{ours}.shortcut.normalization", f"{theirs}.{shortcut_norm}"
        for conv in range(3):
            yield f"{ours}.layer.{conv}.convolution.weight", f"{theirs}.conv{conv + 1}.weight"
            yield f"{ours}.layer.{conv}.normalization", f"{theirs}.{norm.format(conv + 1)}"


DETECTRON2_NAMES = WeightNames(
    _names(
        "stem.conv1",
        "stem.conv1.norm",
        [f"res{number}" for number in range(2, 6)],
        "conv{}.norm",
        "shortcut",
        "shortcut.norm",
    ),
    kind="detectron2's ResNet",
)
TORCHVISION_NAMES = WeightNames(
    _names("conv1", "bn1", [f"layer{number}" for number in range(1, 5)], "bn{}", "downsample.0", "downsample.1"),
    kind="torchvision's ResNet",
)


def infer_config(weights: Mapping[str, Tensor]) -> ResNetConfig:
    """Return the config of the ResNet that has these weights; its strides lie in the 3x3 convolutions.

    Args:
        weights: Weights under our names.

    Raises:
        ValueError: When a stage is missing, or transformers' ResNet cannot be what the shapes say: groups (ResNeXt),
            bottlenecks of another width, a stem of several convolutions.
    """
    depths = layer_counts(weights, _LAYER, "ResNet")
    is_bottleneck = "encoder.stages.0.layers.0.layer.2.convolution.weight" in weights
    last = 2 if is_bottleneck else 1
    config = ResNetConfig(
        embedding_size=size_of(weights, f"{_STEM}.convolution.weight"),
        hidden_sizes=[
            size_of(weights, f"encoder.stages.{stage}.layers.0.layer.{last}.convolution.weight") for stage in range(4)
        ],
        depths=depths,
        layer_type="bottleneck" if is_bottleneck else "basic",
        downsample_in_bottleneck=False,
        out_features=STAGES,
    )
    complaint = "transformers' ResNet cannot have these weights (it has no groups, no wider bottlenecks, no deep stem)"
    require_expressible(weights, config, complaint)
    return config
