# SPDX-License-Identifier: Apache-2.0
"""Every number of a model, under the names of transformers' Mask2FormerConfig."""

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from transformers import AutoConfig, GenerationConfig, PreTrainedConfig
from transformers.utils import CONFIG_NAME

from unisegment.backbones.config_files import PLAIN_VIT_TYPES, backbone_config, require_inert
from unisegment.data.categories import category_name
from unisegment.data.label_spaces import follow_names
from unisegment.layers.conv import NUM_GROUPS
from unisegment.models.config_values import checked_categories, require_value, require_values
from unisegment.models.unisegment.outputs import NOT_PREDICTIONS
from unisegment.models.unknown_keys import warn_of_kept
from unisegment.ops.checkpoint_files import HUB_KEYS, chosen, object_in, read_object
from unisegment.ops.downloads import public_address
from unisegment.ops.near_names import nearest_valid
from unisegment.ops.value_kinds import require_free
from unisegment.postprocessing.resize import MASK_STRIDE

# Keys that configs of PreTrainedConfig carry, or carried in older releases, without being fields of it.
_INHERITED_KEYS = frozenset(
    """
    _attn_implementation _attn_implementation_internal _commit_hash _name_or_path add_cross_attention
    attn_implementation auto_map bos_token_id cross_attention_hidden_size decoder_start_token_id eos_token_id
    experts_implementation finetuning_task fusion_config is_decoder label2id model_type name_or_path num_labels
    output_attentions pad_token_id per_layer_config prefix pruned_heads quantization_config sep_token_id
    task_specific_params tf_legacy_loss tie_encoder_decoder tie_word_embeddings tokenizer_class torch_dtype torchscript
    transformers_version use_bfloat16 use_cache
    """.split()
)
# Keys of older Mask2Former configs that no code reads any more.
_LEGACY_KEYS = frozenset(("backbone_kwargs", "use_timm_backbone", "num_classes"))


_DEFAULT_BACKBONE = {"model_type": "swin", "depths": [2, 2, 18, 2], "drop_path_rate": 0.3}


class UniSegmentConfig(PreTrainedConfig):
    """Configuration of `UniSegmentForUniversalSegmentation`.

    Keys that transformers' Mask2FormerConfig has mean what they mean there. `num_labels` or `id2label` sets the
    classes, without "no object".

    Args:
        backbone_config: Configuration (or dict with `model_type`) of a transformers backbone; Swin-S sizes if None.
        backbone: Where to take the backbone's configuration from, instead of `backbone_config`: a hub id or folder of
            transformers; a torchvision ResNet or an official Swin, as a `.pth` file or its https:// address.
        use_pretrained_backbone: Also load the backbone's weights from there when a model is made from this config.
        feature_size: Channels inside the pixel decoder, a multiple of 32.
        mask_feature_size: Channels of mask features and mask embeddings.
        hidden_dim: Channels of the queries.
        encoder_feedforward_dim: Width of the pixel decoder's feed-forward networks.
        activation_function: Activation of the transformer decoder.
        encoder_layers: Layers of the pixel decoder.
        decoder_layers: Predictions of the transformer decoder: its layers and the learned queries' own prediction, so
            10 means 9 layers.
        num_attention_heads: Heads of every attention.
        dropout: Share of values dropped in training, in both decoders.
        dim_feedforward: Width of the transformer decoder's feed-forward networks.
        pre_norm: Norms before attention and feed-forward instead of after (transformer decoder).
        enforce_input_projection: A 1x1 convolution before each level of the transformer decoder even where channels
            agree.
        common_stride: Stride of masks and mask features; always 4.
        ignore_value: Read by nobody, as in transformers; kept so that configs round-trip.
        num_queries: Queries, the largest number of segments that can be found.
        no_object_weight: Class weight of queries without a segment.
        class_weight: Weight of the class term in loss and matching.
        mask_weight: Weight of the mask cross-entropy.
        dice_weight: Weight of the dice loss.
        train_num_points: Points at which masks are compared in matching and loss.
        oversample_ratio: Candidates drawn for each point of the loss, at least 1.
        importance_sample_ratio: Share of loss points where the prediction is uncertain, 0 to 1.
        init_std: Read by nobody: all layers start as in the original code. Kept so that configs round-trip.
        init_xavier_std: The same.
        use_auxiliary_loss: Score every prediction of the decoder, not only the last.
        feature_strides: Strides of the backbone's maps, ascending, the first one 4.
        output_auxiliary_logits: Return the logits of inner predictions by default.
        num_feature_levels: How many of the backbone's coarsest maps the queries and the deformable attention look at.
        encoder_n_points: Points that each head of the deformable attention looks at on each level.
        pixel_decoder: "ms_deform_attn", the paper's; "fpn", a feature pyramid of convolutions; "transformer_fpn", the
            same with an encoder of plain attention on the coarsest map.
        pixel_decoder_dtype: "float32" keeps autocast out of the pixel decoder, as the original does; "autocast" lets it
            in. Sampling coordinates stay in float32 either way.
        freeze_backbone_norm: Batch normalisation of the backbone as constants, as in the original's COCO models. False
            for stock transformers checkpoints, which train it.
        loss_normalization: "global" divides the loss by counts of all processes, equal to one process with the whole
            batch; "rank" divides the class term by each process's own, as the original does.
        base_weights: Name and licence of each checkpoint that the weights come from; kept by everything derived.
        categories: The classes as the data set lists them, [{"id": 7, "name": "sky", "isthing": 0}, …], in the order of
            the labels. Training fills it, exports write its ids. Without `id2label` it names the classes; when these
            change on loading it follows by name, and is None where a name is new.

    Raises:
        ValueError: For an unknown key, with a valid one that is like it; for a value of another kind than its key
            allows, or beyond the limits of `unisegment.ops.limits`; and for sizes that do not fit together. A key that
            is set later is checked as well.
    """

    model_type = "unisegment"
    sub_configs: ClassVar = {"backbone_config": AutoConfig}
    keys_to_ignore_at_inference: ClassVar = NOT_PREDICTIONS
    attribute_map: ClassVar = {"hidden_size": "hidden_dim", "num_hidden_layers": "decoder_layers"}

    backbone_config: dict | PreTrainedConfig | None = None
    backbone: str | None = None
    use_pretrained_backbone: bool = False
    feature_size: int = 256
    mask_feature_size: int = 256
    hidden_dim: int = 256
    encoder_feedforward_dim: int = 1024
    activation_function: str = "relu"
    encoder_layers: int = 6
    decoder_layers: int = 10
    num_attention_heads: int = 8
    dropout: float | int = 0.0
    dim_feedforward: int = 2048
    pre_norm: bool = False
    enforce_input_projection: bool = False
    common_stride: int = MASK_STRIDE
    ignore_value: int = 255
    num_queries: int = 100
    no_object_weight: float | int = 0.1
    class_weight: float | int = 2.0
    mask_weight: float | int = 5.0
    dice_weight: float | int = 5.0
    train_num_points: int = 12544
    oversample_ratio: float | int = 3.0
    importance_sample_ratio: float | int = 0.75
    init_std: float | int = 0.02
    init_xavier_std: float | int = 1.0
    use_auxiliary_loss: bool = True
    feature_strides: list[int] | tuple[int, ...] = (4, 8, 16, 32)
    output_auxiliary_logits: bool | None = None
    num_feature_levels: int = 3
    encoder_n_points: int = 4
    pixel_decoder: Literal["ms_deform_attn", "fpn", "transformer_fpn"] = "ms_deform_attn"
    pixel_decoder_dtype: Literal["float32", "autocast"] = "float32"
    freeze_backbone_norm: bool = True
    loss_normalization: Literal["global", "rank"] = "global"
    base_weights: list[dict[str, str]] | None = None
    categories: list[dict[str, Any]] | None = None

    def __setattr__(self, key: str, value: Any) -> None:
        require_value(self.attribute_map.get(key, key), value)
        # JSON has no numbers of numpy.
        super().__setattr__(key, value.item() if isinstance(value, np.generic) else value)

    def __post_init__(self, **kwargs: Any) -> None:
        self.check_keys(kwargs)
        require_values(kwargs, self.attribute_map)
        for key in _LEGACY_KEYS:
            kwargs.pop(key, None)
        self.backbone_config = self._resolve_backbone()
        if self.categories is not None:
            self.categories = checked_categories(self.categories)
            if self.id2label is None and "num_labels" not in kwargs:
                self.id2label: Any = {label: entry["name"] for label, entry in enumerate(self.categories)}
        super().__post_init__(**kwargs)
        self.validate_output_attentions()
        assert self.id2label is not None
        self.id2label = _label_names(self.id2label)
        self.label2id = {name: label for label, name in self.id2label.items()}
        self.check_sizes()
        named = None if self.categories is None else dict(enumerate(entry["name"] for entry in self.categories))
        if named not in (None, self.id2label):
            raise ValueError(
                f"categories must have the names of id2label, in its order, got {[*named.values()][:5]} and "
                f"{[*self.id2label.values()][:5]}. One of the two will do."
            )

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Make a config of what a config.json holds and of keywords, which go first; see transformers for the rest.

        Keys that are unknown in a file are kept, with a warning, and written again. Nothing is fetched or run because a
        file names it: `use_pretrained_backbone` counts as a keyword alone, as a checkpoint has all weights.

        Raises:
            ValueError: As the constructor does, which sees the two together; for a keyword that is unknown and not
                wanted back by `return_unused_kwargs`; for what `require_inert` refuses in a file.
        """
        require_inert({key: value for key, value in config_dict.items() if key not in kwargs})
        require_values(config_dict, cls.attribute_map)
        if not kwargs.get("return_unused_kwargs"):
            cls.check_keys(kwargs.keys() - {"return_unused_kwargs", "_from_auto", "_from_pipeline"})
        own = {item.name for item in fields(cls)} - {"backbone_config"}  # that one is merged key by key
        overrides = {key: kwargs.pop(key) for key in own & kwargs.keys()}
        if "id2label" in overrides or "num_labels" in kwargs:
            config_dict = {key: value for key, value in config_dict.items() if key not in ("id2label", "label2id")}
        keys = {**config_dict, "use_pretrained_backbone": False, **overrides}
        if isinstance(kwargs.get("backbone_config"), Mapping):
            keys["backbone_config"] = _merged(keys.get("backbone_config"), kwargs.pop("backbone_config"))
        if "categories" not in overrides and keys.get("categories") is not None:
            names = keys.get("id2label")
            if names is not None or "num_labels" in {**config_dict, **kwargs}:
                keys["categories"] = _follow(checked_categories(keys["categories"]), names or {})
        known = cls._known_keys()
        unknown = {key: value for key, value in config_dict.items() if key not in known}
        require_free(unknown, cls)
        warn_of_kept("config.json", tuple(sorted(unknown)))
        made = super().from_dict({key: value for key, value in keys.items() if key in known}, **kwargs)
        for key, value in unknown.items():
            setattr(made[0] if isinstance(made, tuple) else made, key, value)
        return made

    def to_dict(self) -> dict[str, Any]:
        """Return all keys as a file holds them: without what may be a password in the address of a backbone."""
        keys = super().to_dict()
        return keys if self.backbone is None else {**keys, "backbone": public_address(self.backbone)}

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a config.json; see transformers.

        Raises:
            OSError: When there is none.
            ValueError: When it holds no JSON object.
        """
        # transformers' own errors name no file.
        read_object(pretrained_model_name_or_path, CONFIG_NAME, **chosen(kwargs, HUB_KEYS))
        return super().get_config_dict(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[str]) -> Any:
        """Make a config of a config.json, see `from_dict`."""
        return cls.from_dict(object_in(Path(json_file)))

    @classmethod
    def check_keys(cls, keys: Any) -> None:
        """Raise a ValueError for a key that no config of this kind has, naming the nearest one that exists."""
        for key in keys:
            if key not in cls._known_keys():
                raise ValueError(f"{key!r} is not a key of {cls.__name__}.{nearest_valid(key, cls._own_keys())}")

    @classmethod
    def _own_keys(cls) -> set[str]:
        return {item.name for item in fields(cls)} | set(cls.attribute_map)

    @classmethod
    def _known_keys(cls) -> set[str]:
        passing = _INHERITED_KEYS | _LEGACY_KEYS | set(GenerationConfig._get_default_generation_params())
        return cls._own_keys() | passing

    def _resolve_backbone(self) -> PreTrainedConfig:
        config = self.backbone_config
        if config is None and self.backbone is not None:
            from unisegment.backbones.pretrained import pretrained_config  # it has the code of models: seconds

            config = pretrained_config(self.backbone)
        elif config is None:
            config = backbone_config(_DEFAULT_BACKBONE)
        elif not isinstance(config, PreTrainedConfig):
            config = backbone_config(config)
        stages = list(getattr(config, "stage_names", None) or [])
        if config.model_type not in PLAIN_VIT_TYPES and len(stages) > 1 and list(config.out_features) == stages[-1:]:
            # Backbones give only their last stage unless told otherwise; the first name is the stem.
            config.out_features = stages[1:]
        return config

    def check_sizes(self) -> None:
        """Raise a ValueError when sizes do not fit together, as they may after keys were overridden."""
        if self.feature_size % NUM_GROUPS:
            raise ValueError(f"feature_size must be a multiple of {NUM_GROUPS} (group norm), got {self.feature_size}.")
        for key in ("feature_size", "hidden_dim"):
            if getattr(self, key) % self.num_attention_heads or getattr(self, key) % 4:
                raise ValueError(
                    f"{key} must be a multiple of num_attention_heads ({self.num_attention_heads}) and of 4, "
                    f"got {getattr(self, key)}."
                )
        if self.common_stride != MASK_STRIDE or self.feature_strides[0] != MASK_STRIDE:
            raise ValueError(
                f"Masks have stride {MASK_STRIDE}: common_stride and the first of feature_strides must be "
                f"{MASK_STRIDE}, got {self.common_stride} and {tuple(self.feature_strides)}."
            )
        if not 1 <= self.num_feature_levels <= len(self.feature_strides):
            raise ValueError(
                f"num_feature_levels must be 1 to {len(self.feature_strides)}, the number of feature_strides, "
                f"got {self.num_feature_levels}."
            )


def _merged(base: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a backbone with changes; those of another kind of backbone replace it."""
    keys = base.to_dict() if isinstance(base, PreTrainedConfig) else dict(base or _DEFAULT_BACKBONE)
    is_other = changes.get("model_type", keys.get("model_type")) != keys.get("model_type")
    return dict(changes) if is_other else {**keys, **changes}


def _label_names(id2label: Mapping[int, Any]) -> dict[int, str]:
    """Return the names of the labels as texts, in the order of the labels, which go from 0 without a gap."""
    if sorted(id2label) != list(range(len(id2label))):
        raise ValueError(
            f"id2label must number the labels from 0 without a gap, as the class logits are, got {sorted(id2label)[:5]}"
            f"{', …' if len(id2label) > 5 else ''}. Ids of a data set go into categories."
        )
    return {label: category_name(id2label[label]) for label in sorted(id2label)}


def _follow(categories: list[dict[str, Any]], id2label: Mapping[Any, str]) -> list[dict[str, Any]] | None:
    """Return the categories of labels that may have other names now; None if one of them is new."""
    names = [category_name(id2label[label]) for label in sorted(id2label, key=int)]
    places = follow_names([entry["name"] for entry in categories], names)
    followed = [
        {**categories[place], "name": name} for name, place in zip(names, places, strict=True) if place is not None
    ]
    return followed if followed and len(followed) == len(names) else None
