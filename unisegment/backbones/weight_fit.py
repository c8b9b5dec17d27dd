# SPDX-License-Identifier: Apache-2.0
"""Do these weights fit that backbone? Names and shapes are compared, and what does not fit is said."""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from unisegment.ops.limits import MAX_LAYERS

STAGES = ["stage1", "stage2", "stage3", "stage4"]
"""transformers' names of the stages whose maps have strides 4, 8, 16 and 32."""

# The norm after each stage is new by design (an image classifier has none), the norm before a classifier's head and the
# token of masked patches are unused, and batch counters of no use.
_OPTIONAL = re.compile(
    r"hidden_states_norms\..+|swin\.layernorm\.(weight|bias)|embeddings\.mask_token|.+\.num_batches_tracked"
)


def require_fit(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], complaint: str) -> None:
    """Check that weights are those that a backbone has.

    Args:
        weights: What there is.
        expected: The backbone's own weights, on any device.
        complaint: What the error starts with.

    Raises:
        ValueError: When weights are missing, left over, or of another shape.
    """
    missing = [name for name in expected if name not in weights and not _OPTIONAL.fullmatch(name)]
    left_over = [name for name in weights if name not in expected and not _OPTIONAL.fullmatch(name)]
    misshapen = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(own.shape)}"
        for name, own in expected.items()
        if name in weights and weights[name].shape != own.shape
    ]
    if missing or left_over or misshapen:
        raise ValueError(
            f"{complaint}: {len(missing)} weights are missing{_first(missing)}, {len(left_over)} are left over"
            f"{_first(left_over)}, {len(misshapen)} have another shape{_first(misshapen)}."
        )


def _first(names: list[str]) -> str:
    return f" (first: {', '.join(names[:3])})" if names else ""


def require_expressible(weights: Mapping[str, Tensor], config: PreTrainedConfig, complaint: str) -> None:
    """Check that a config, inferred from some of the weights, gives a backbone with just these weights.

    Raises:
        ValueError: When weights are missing, left over, or of another shape.
    """
    from transformers import AutoBackbone  # which the code of models comes with: seconds

    with torch.device("meta"):
        body = AutoBackbone.from_config(config)
    require_fit(weights, body.state_dict(), complaint)


def layer_counts(names: Iterable[str], layer: re.Pattern[str], kind: str) -> list[int]:
    """Return how many layers each of the four stages has.

    Args:
        names: Names of weights.
        layer: What the name of a layer's weight starts with; its groups are the numbers of stage and layer, from 0.
        kind: What the weights belong to, for the errors.

    Raises:
        ValueError: When a stage or a layer is missing, or there are more layers than any backbone has.
    """
    found = {(int(match[1]), int(match[2])) for name in names if (match := layer.match(name))}
    if {stage for stage, _ in found} != set(range(len(STAGES))):
        raise ValueError(
            f"A {kind} has stages 0 to {len(STAGES) - 1}; among these weights there are stages "
            f"{sorted({stage for stage, _ in found})}."
        )
    if len(found) > MAX_LAYERS:
        raise ValueError(f"This {kind} has {len(found)} layers, expected at most {MAX_LAYERS}.")
    counts = [sum(stage == at for at, _ in found) for stage in range(len(STAGES))]
    for stage, count in enumerate(counts):
        missing = set(range(count)) - {index for at, index in found if at == stage}
        if missing:
            raise ValueError(f"Stage {stage} of this {kind} has a layer {count} or above, but no layer {min(missing)}.")
    return counts


def size_of(weights: Mapping[str, Tensor], name: str, axis: int = 0) -> int:
    """Return one size of a weight, at least 1.

    Raises:
        ValueError: When there is no such weight, or nothing along such an axis.
    """
    if name not in weights:
        raise ValueError(f"The weight {name!r} is missing.")
    shape = tuple(weights[name].shape)
    if len(shape) <= axis or not shape[axis]:
        raise ValueError(f"The weight {name!r} has shape {shape}: there is nothing along axis {axis}.")
    return shape[axis]
