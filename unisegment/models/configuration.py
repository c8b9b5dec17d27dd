# SPDX-License-Identifier: Apache-2.0
"""What the configs of all families share: keys that are checked whoever gives them, and classes with names and ids."""

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from transformers import GenerationConfig, PreTrainedConfig
from transformers.utils import CONFIG_NAME

from unisegment.backbones.config_files import require_inert
from unisegment.data.categories import category_name
from unisegment.data.label_spaces import follow_names
from unisegment.models.choices import FOLDERS
from unisegment.models.config_values import KINDS, checked_categories
from unisegment.models.unknown_keys import warn_of_kept
from unisegment.ops.checkpoint_files import HUB_KEYS, chosen, object_in, read_object
from unisegment.ops.downloads import public_address
from unisegment.ops.near_names import nearest_valid
from unisegment.ops.value_kinds import Kind, require, require_free, require_shallow

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


class SegmentationConfig(PreTrainedConfig):
    """The keys and the checks that the configs of all families share; a family's config extends it.

    `num_labels` or `id2label` sets the classes, without "no object".

    Args:
        backbone: Where the sizes of the backbone come from, and with `use_pretrained_backbone` its weights.
        use_pretrained_backbone: Also load the backbone's weights from there when a model is made from this config.
        base_weights: Name and licence of each checkpoint that the weights come from; kept by everything derived.
        categories: The classes as the data set lists them, [{"id": 7, "name": "sky", "isthing": 0}, …], in the order of
            the labels. Training fills it, exports write its ids. Without `id2label` it names the classes; when these
            change on loading it follows by name, and is None where a name is new.

    Raises:
        ValueError: For an unknown key, with a valid one that is like it; for a value of another kind than its key
            allows, or beyond the limits of `unisegment.ops.limits`; and for sizes that do not fit together. A key that
            is set later is checked as well.
    """

    kinds: ClassVar[Mapping[str, Kind]] = {}
    """What each key of the family's own may be."""
    legacy_keys: ClassVar[frozenset[str]] = frozenset()
    """Keys of older files that no code reads any more; they are dropped."""
    shortened: ClassVar[Mapping[str, str]] = {}
    """Keys of numbers of layers that may be smaller than a checkpoint's, each with the name of the list of layers."""

    backbone: str | None = None
    use_pretrained_backbone: bool = False
    base_weights: list[dict[str, str]] | None = None
    categories: list[dict[str, Any]] | None = None

    def __setattr__(self, key: str, value: Any) -> None:
        self.require_value(key, value)
        # JSON has no numbers of numpy.
        super().__setattr__(key, value.item() if isinstance(value, np.generic) else value)

    def __post_init__(self, **kwargs: Any) -> None:
        self.check_keys(kwargs)
        self.require_values(kwargs)
        for key in self.legacy_keys:
            kwargs.pop(key, None)
        self.resolve_backbone()
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
        model_type = config_dict.get("model_type")
        if isinstance(model_type, str) and model_type in FOLDERS and model_type != cls.model_type:
            raise ValueError(
                f"This is a config of model_type {model_type!r}, and {cls.__name__} is that of {cls.model_type!r}."
            )
        require_inert({key: value for key, value in config_dict.items() if key not in kwargs})
        cls.require_values(config_dict)
        if not kwargs.get("return_unused_kwargs"):
            cls.check_keys(kwargs.keys() - {"return_unused_kwargs", "_from_auto", "_from_pipeline"})
        own = {item.name for item in fields(cls)} - cls.sub_configs.keys()  # those are merged key by key
        overrides = {key: kwargs.pop(key) for key in own & kwargs.keys()}
        if "id2label" in overrides or "num_labels" in kwargs:
            config_dict = {key: value for key, value in config_dict.items() if key not in ("id2label", "label2id")}
        keys = {**config_dict, "use_pretrained_backbone": False, **overrides}
        for key in cls.sub_configs.keys() & kwargs.keys():
            if isinstance(kwargs[key], Mapping):
                keys[key] = cls.merge(keys.get(key), kwargs.pop(key))
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
        passing = _INHERITED_KEYS | cls.legacy_keys | set(GenerationConfig._get_default_generation_params())
        return cls._own_keys() | passing

    @classmethod
    def require_values(cls, keys: Mapping[str, Any]) -> None:
        """Raise a ValueError when the value of a key is of another kind than the key allows, or too large."""
        for key, value in keys.items():
            cls.require_value(key, value)

    @classmethod
    def require_value(cls, key: str, value: Any) -> None:
        """Check the value of one key; see `require_values`. Keys that no kind is known of have no effect."""
        name = cls.attribute_map.get(key, key)
        kind = cls.kinds.get(name) or KINDS.get(name)
        if kind is not None:
            require(name, value, kind)
        require_shallow(name, value)

    @classmethod
    def merge(cls, base: Any, changes: Mapping[str, Any]) -> Any:
        """Return a config inside of this one with some of its keys changed."""
        keys = base.to_dict() if isinstance(base, PreTrainedConfig) else dict(base or {})
        return {**keys, **changes}

    def resolve_backbone(self) -> None:
        """Take over the sizes of `backbone`; called before the other keys are completed."""

    def check_sizes(self) -> None:
        """Raise a ValueError when sizes do not fit together, as they may after keys were overridden."""


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
