# SPDX-License-Identifier: Apache-2.0
"""Starting points of backbones: a hub id, a folder of transformers, or a file of official weights, here or elsewhere.

Files are told apart by the names in them: a ResNet of torchvision (or the copy of it in detectron2's zoo), or an
official Swin Transformer.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from unisegment.backbones import resnet_weights, swin_weights
from unisegment.backbones.config_files import backbone_config
from unisegment.backbones.weight_fit import require_fit
from unisegment.ops.checkpoint_files import require_whole, weight_bytes
from unisegment.ops.downloads import fetch, is_address
from unisegment.ops.weight_files import read_weight_file, weights_in
from unisegment.ops.weight_sources import WEIGHT_ENDINGS, require_source

# A name in the file that tells its kind, the names, those to pass over, and what infers the sizes.
_KINDS = (
    ("bn1.weight", resnet_weights.TORCHVISION_NAMES, resnet_weights.CLASSIFIER_ONLY, resnet_weights.infer_config),
    ("stem.conv1.weight", resnet_weights.DETECTRON2_NAMES, resnet_weights.CLASSIFIER_ONLY, resnet_weights.infer_config),
    ("patch_embed.proj.weight", swin_weights.OFFICIAL_NAMES, swin_weights.OFFICIAL_ONLY, swin_weights.infer_config),
)

OFFICIAL_DIGESTS = {
    "https://download.pytorch.org/models/resnet50-19c8e357.pth": (
        "19c8e3572231adff6824a2da93fd67b5986919a2e65f8b6007eab4edee220097"
    ),
    "https://download.pytorch.org/models/resnet101-63fe2227.pth": (
        "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a"
    ),
}
"""SHA-256 of the files that recipes name. torchvision says their beginning; of Microsoft's Swin Transformers none is
published."""


def pretrained_config(name_or_path: str) -> PreTrainedConfig:
    """Return the config of the backbone that a starting point has the weights of.

    Args:
        name_or_path: Hub id, local folder or file; or the https:// address of a file, see `fetch`.

    Raises:
        FileNotFoundError: When there is nothing of that name, or it cannot be fetched.
        ValueError: When there is no config of transformers, or the file holds no known backbone; when an address is not
            of https, or a file that was fetched has changed.
    """
    if _is_file(name_or_path):
        return _read_file(name_or_path)[0]
    require_source(name_or_path)
    require_whole(name_or_path)
    try:
        return backbone_config(PreTrainedConfig.get_config_dict(name_or_path)[0])
    except (OSError, ValueError) as error:
        where = "folder" if os.path.isdir(name_or_path) else "hub id, folder or file"
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"backbone: the {where} {name_or_path!r} has no usable config of transformers: {reason}"
        ) from error


def require_backbone(name_or_path: str) -> None:
    """Raise unless there is something of the name of a starting point; what has to be fetched is fetched.

    Args:
        name_or_path: As for `pretrained_config`.

    Raises:
        FileNotFoundError: When there is nothing of that name, or it cannot be fetched.
        ValueError: When an address is not of https, or a file that was fetched has changed.
    """
    require_source(_fetched(name_or_path))


def load_pretrained_weights(body: PreTrainedModel, name_or_path: str) -> None:
    """Load the weights of an image classifier (or backbone) into a backbone of transformers.

    Windows of another size are no obstacle to a Swin: its tables are resized.

    Args:
        body: The backbone; it stays as it is when anything is wrong.
        name_or_path: As for `pretrained_config`.

    Raises:
        FileNotFoundError: When there is nothing of that name, or it cannot be fetched.
        ValueError: When the starting point cannot be read, or does not fit the backbone.
    """
    config, weights = _read_file(name_or_path) if _is_file(name_or_path) else (pretrained_config(name_or_path), None)
    if config.model_type != body.config.model_type:
        raise ValueError(
            f"{name_or_path!r} holds a {config.model_type!r}, which does not fit the backbone {type(body).__name__} of "
            f"model_type {body.config.model_type!r}."
        )
    if weights is None:
        weights = _read_folder(type(body), name_or_path, config, body.config.out_features)
    if config.model_type == "swin":
        weights = swin_weights.resize_tables(weights, body.config.window_size)
    own = body.state_dict()
    require_fit(weights, own, f"{name_or_path!r} does not fit the backbone {type(body).__name__}")
    body.load_state_dict({name: value for name, value in weights.items() if name in own}, strict=False)


def _is_file(name_or_path: str) -> bool:
    is_file = os.path.isfile(name_or_path) or Path(name_or_path).suffix in WEIGHT_ENDINGS
    return is_file or is_address(name_or_path)


def _fetched(path: str) -> str:
    """Return the path of a file that lies here, for an address as for a path."""
    return str(fetch(path, OFFICIAL_DIGESTS.get(path))) if is_address(path) else path


def _read_file(path: str) -> tuple[PreTrainedConfig, dict[str, Tensor]]:
    """Return config and weights, under the names of transformers' backbones, that a file of official weights holds."""
    path = _fetched(path)
    weights = weights_in(read_weight_file(path), path)
    kind = next((kind for kind in _KINDS if kind[0] in weights), None)
    if kind is None:
        raise ValueError(
            f"{path!r} holds no known backbone: neither a ResNet of torchvision (conv1.weight, bn1.weight, …) nor an "
            f"official Swin Transformer (patch_embed.proj.weight, …). It starts with {', '.join(list(weights)[:3])}."
        )
    _, names, classifier_only, infer_config = kind
    try:
        own = names.to_ours({name: value for name, value in weights.items() if not classifier_only.fullmatch(name)})
        return infer_config(own), own
    except ValueError as error:
        raise ValueError(f"{path!r}: {error}") from error


def _read_folder(
    body_class: type[PreTrainedModel], name_or_path: str, config: PreTrainedConfig, out_features: list[str]
) -> dict[str, Tensor]:
    """Return the weights that a checkpoint of transformers has for a backbone."""
    config.out_features = [stage for stage in out_features if stage in config.stage_names]
    try:
        weight_bytes(name_or_path)  # an index or a pickle of somebody else's
        with _without_report():
            source, report = body_class.from_pretrained(
                name_or_path, config=config, dtype="float32", output_loading_info=True, ignore_mismatched_sizes=True
            )
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{name_or_path!r} has no readable weights: {error}") from error
    if report["mismatched_keys"]:
        raise ValueError(
            f"The weights of {name_or_path!r} do not fit its own config: {sorted(report['mismatched_keys'])[:3]}."
        )
    return {name: value for name, value in source.state_dict().items() if name not in report["missing_keys"]}


@contextmanager
def _without_report() -> Iterator[None]:
    """Keep transformers from listing what a classifier has too much, or too little, for a backbone: we check that."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
