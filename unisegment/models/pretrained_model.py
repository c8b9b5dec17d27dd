# SPDX-License-Identifier: Apache-2.0
"""What every model has from transformers and beyond: loading, saving, initialisation.

Three kinds of checkpoints are opened and written: ours, those of transformers' own models, and those of the code that a
family's authors have released.
"""

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from unisegment.backbones.layer_order import layers_above
from unisegment.layers.attention import set_attn_implementation
from unisegment.models.base import FAMILIES, Family
from unisegment.models.base_weights import record
from unisegment.models.checkpoint_changes import (
    Change,
    adapt,
    differs,
    expect_left_out,
    require_complete,
    require_layers,
    say_changes,
    without_table,
)
from unisegment.models.checkpoint_description import Description, describe, describe_file
from unisegment.models.choices import is_ours
from unisegment.models.configuration import SegmentationConfig
from unisegment.models.whole_checkpoints import require_not_quantised, save_whole
from unisegment.ops.checkpoint_files import HUB_KEYS, READING_KEYS, chosen, named
from unisegment.ops.weight_files import damage_named

# Keywords that transformers looks at both as config keys and by itself; the latter is enough.
_LOADING_KEYS = ("dtype", "torch_dtype", "attn_implementation")
_NUMBERS_PER_BYTE, _FEW_NUMBERS = 2, 2**26
"""Numbers of a model for each byte of its weights, as with 4 bits each; and constants that it makes by itself."""


class SegmentationPreTrainedModel(PreTrainedModel):
    """Loading, saving and initialisation of a model of any family.

    A family's model names its `config_class`, its `class_head` and, if it has any, its `query_tables`; its `backbone`
    is a module with the methods `freeze` and `load_pretrained`.
    """

    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _supports_sdpa = True
    # What is recomputed: every `GradientCheckpointingLayer`, ours and those of transformers' backbones.
    supports_gradient_checkpointing = True
    # It divides the loss by numbers of its own, or by `loss_denominators`; Trainer divides by its micro-batches.
    accepts_loss_kwargs = False

    class_head: ClassVar[str]
    query_tables: ClassVar[Sequence[str]] = ()

    def __init__(self, config: Any, **unknown: Any) -> None:
        wanted: Any = self.config_class
        wanted.check_keys(unknown)
        if not isinstance(config, wanted):
            raise ValueError(
                f"{type(self).__name__} is made of a {wanted.__name__}, got a config that is a {type(config).__name__}."
            )
        config.check_sizes()  # keys may have been overridden since construction
        super().__init__(config)

    @classmethod
    def family(cls) -> Family:
        """Return the family that the model is of."""
        return FAMILIES[cls.config_class.model_type]

    def lora_targets(self) -> list[str]:
        """Return the names of the layers that may get adapters: all linear ones but that of the classes."""
        names = (name for name, module in self.named_modules() if isinstance(module, nn.Linear))
        return [name for name in names if name != self.class_head]

    def layers_above(self, name: str) -> int:
        """Return how many layers of the backbone lie above a weight; see `layer_order`."""
        prefix = "backbone.body."
        return layers_above(self.backbone.body, name.removeprefix(prefix)) if name.startswith(prefix) else 0

    def at_step(self, step: int, of: int) -> None:
        """Follow the training; see `SegmentationModel`."""

    def loss_denominators(
        self, targets: Sequence[Sequence[Any]], add: Callable[[Tensor], Tensor], num_processes: int
    ) -> Sequence[Tensor] | None:
        """Return what the loss of each micro-batch is divided by; see `SegmentationModel`."""
        return None

    def _load_backbone(self, what: str) -> None:
        """Start the backbone from the weights of `config.backbone`, if the config asks for it, and keep a record.

        Args:
            what: What `config.backbone` may be, for the error when it is not said.
        """
        config = self.config
        # `from_pretrained` builds on the meta device and brings all weights itself.
        if not config.use_pretrained_backbone or self.device.type == "meta":
            return
        if config.backbone is None:
            raise ValueError(f"use_pretrained_backbone needs `backbone`: {what}.")
        self.backbone.load_pretrained(config.backbone)
        known, source = config.base_weights or [], record(config.backbone, {})
        config.base_weights = known if source in known else [*known, source]

    def _wants(self, given: bool | None, key: str) -> bool:
        return bool(getattr(self.config, key) if given is None else given)

    def get_input_embeddings(self) -> None:
        """Return None: there is no table of words."""

    def _init_weights(self, module: nn.Module) -> None:
        """Let every layer initialise itself as the original code does; transformers skips what was loaded."""
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()

    def _initialize_weights(self, module: nn.Module, is_custom_code: bool = False) -> None:
        # For classes from outside, transformers passes over modules without parameters of their own, in case they
        # write without looking. Ours initialise their children, and only by functions that leave loaded weights be.
        super()._initialize_weights(module, is_custom_code=False)

    def set_attn_implementation(self, attn_implementation: str | dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Compute attention by "sdpa" or "eager" from now on."""
        super().set_attn_implementation(attn_implementation, *args, **kwargs)
        set_attn_implementation(self, self.config._attn_implementation)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Any,
        *model_args: Any,
        config: Any = None,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Load a checkpoint of this library, or one of transformers' model of this kind, unchanged.

        Takes what `PreTrainedModel.from_pretrained` takes; further keywords override config keys.

        Args:
            pretrained_model_name_or_path: Hub id or local folder.
            *model_args: As in transformers.
            config: As in transformers.
            ignore_mismatched_sizes: Let the model differ from the checkpoint, by other classes (`id2label`; those of
                equal name keep their weights), more or fewer queries (`num_queries`) or layers, or other sizes. What
                the checkpoint does not have starts as in a new model. What was kept, made and dropped is logged.
            output_loading_info: Also return transformers' report of missing and unexpected keys; with
                `ignore_mismatched_sizes` it also has `changes`, a dict of `checkpoint_changes.Change` for "classes",
                "queries" and "weights".
            **kwargs: As in transformers (`dtype`, `device_map`, `revision`, …), or config keys. Where the family has
                `decoder_layers`, fewer than the checkpoint has leave out its last layers: each layer's prediction is
                trained, so that the first ones make a model that is faster and a little less exact.

        Raises:
            ValueError: When the checkpoint is of another kind of model, misses weights or has left-over ones, has fewer
                layers than are asked for, or when a key is unknown.
        """
        path = pretrained_model_name_or_path
        described = None if path is None else describe(path, kwargs, cls.family())
        return cls.of_description(
            path,
            described,
            *model_args,
            config=config,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
            output_loading_info=output_loading_info,
            **kwargs,
        )

    @classmethod
    def of_original(cls, path: str | os.PathLike[str], options: Mapping[str, Any], **kwargs: Any) -> Any:
        """Load a file of the family's original code.

        Args:
            path: The file; nothing in it is executed.
            options: What no weight tells, and `license`; see the family's `from_original`.
            kwargs: As in `from_pretrained`.

        Raises:
            FileNotFoundError: When there is no such file.
            ValueError: When the file is no such checkpoint, is damaged, or holds more than weights.
        """
        return cls.of_description(path, describe_file(path, cls.family(), **options), **kwargs)

    @classmethod
    def _read_weights(cls, path: Any, described: Description, kwargs: Mapping[str, Any]) -> Mapping[str, Tensor] | None:
        """Return the weights of a checkpoint under our names; None while they are still in a checkpoint of ours.

        Raises:
            ValueError: When the checkpoint does not hold what its config promises.
        """
        with named(described.place):
            cls._require_held(described.config, described.num_bytes)
        if described.stock is None:
            return described.weights
        layout, theirs = described.stock
        weights = layout.read_weights(path, theirs, kwargs)
        if described.config.base_weights is None:
            described.config.base_weights = [record(path, chosen(kwargs, HUB_KEYS))]
        return weights

    @classmethod
    def count_numbers(cls, config: SegmentationConfig) -> int:
        """Return how many numbers the weights and buffers of a model have, without taking memory for them.

        Raises:
            ValueError: When the config describes no model.
        """
        with torch.device("meta"), no_init_weights():
            model = cls(copy.deepcopy(config))
        return sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))

    @classmethod
    def _require_held(cls, config: SegmentationConfig, num_bytes: int | None) -> None:
        """Raise a ValueError when a config describes a model that is much larger than its weights.

        Args:
            config: The config.
            num_bytes: How many bytes the weights have; None means that there are none, which is said elsewhere.
        """
        if num_bytes is None:
            return
        numbers = cls.count_numbers(config)
        if numbers > _NUMBERS_PER_BYTE * num_bytes + _FEW_NUMBERS:
            raise ValueError(
                f"the model has {numbers} numbers, its weights {num_bytes} bytes: expected the sizes that the weights "
                "were saved with."
            )

    @classmethod
    def of_description(
        cls,
        path: Any,
        described: Description | None,
        *model_args: Any,
        config: SegmentationConfig | None = None,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Make a model of a checkpoint that was looked at; see `from_pretrained` and `from_original` for the rest."""
        name, changes = path, dict[str, Change]()
        if described is not None:
            weights = cls._read_weights(path, described, kwargs)
            config, rest = _target_config(described.config, config, kwargs)
            if not ignore_mismatched_sizes:
                require_layers(described.config, config)
            reading = chosen(kwargs, READING_KEYS)
            if ignore_mismatched_sizes and differs(described.config, config):
                if weights is None:
                    with damage_named(path), without_table():
                        weights = super().from_pretrained(path, config=described.config, **reading).state_dict()
                weights, changes = adapt(weights, described.config, config, cls.class_head, cls.query_tables)
            if weights is None:
                rest |= reading
            else:
                path, rest["state_dict"] = None, weights
            kwargs = rest
        # Mismatches are in the report, where they get a better message.
        with damage_named(path), without_table():
            model, report = super().from_pretrained(
                path, *model_args, config=config, ignore_mismatched_sizes=True, output_loading_info=True, **kwargs
            )
        if name is not None:
            model.name_or_path = model.config._name_or_path = str(name)
        if not ignore_mismatched_sizes:
            if described is not None:
                expect_left_out(report, described.config, model)
            require_complete(report, name)
        else:
            report["changes"] = say_changes(changes, report, list(model.state_dict()))
        return (model, report) if output_loading_info else model

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *args: Any,
        format: Literal["unisegment", "transformers"] = "unisegment",
        **kwargs: Any,
    ) -> None:
        """Write config and weights, which replace those of an earlier model there when they are complete.

        Args:
            save_directory: Folder, made when it is missing.
            *args: As in transformers.
            format: "unisegment", or "transformers" for a checkpoint that plain transformers opens as its own model.
            **kwargs: As in transformers.

        Raises:
            ValueError: When no model of transformers can be what this model is, and when weights are quantised.
            WriteError: When they cannot be written; what was there is still there.
        """
        weights = kwargs.get("state_dict") or self.state_dict()
        require_not_quantised(weights)
        if is_ours(format):
            save_whole(super().save_pretrained, save_directory, *args, **kwargs)
        else:
            kwargs.pop("state_dict", None)
            save_whole(self._twin(weights).save_pretrained, save_directory, *args, **kwargs)

    def push_to_hub(
        self, repo_id: str, *, format: Literal["unisegment", "transformers"] = "unisegment", **kwargs: Any
    ) -> Any:
        """Upload config and weights; see `save_pretrained` for `format`, and transformers for the rest."""
        if not is_ours(format):
            return self._twin(self.state_dict()).push_to_hub(repo_id, **kwargs)
        backbone = self.config.backbone
        self.config.backbone = None  # all weights go up, and where those of the backbone came from may be a folder here
        try:
            return PreTrainedModel.push_to_hub(self, repo_id, **kwargs)
        finally:
            self.config.backbone = backbone

    def export_original(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint for the original code.

        Args:
            path: A file that ends as those of the family's original code do, such as `.pth`; errors name the others.

        Raises:
            ValueError: When the original code has no such model, or the suffix is another one.
            WriteError: When it cannot be written; what was there is still there.
        """
        original = self.family().original
        if original is None:
            raise ValueError(f"{self.family().name} has no original code.")
        original.write(path, self.config, self.state_dict())

    def _twin(self, weights: Mapping[str, Tensor]) -> PreTrainedModel:
        try:
            layout = self.family().stock_layout(self.config)
        except ValueError as error:
            raise ValueError(f"{error} Save it with format='unisegment'.") from error
        return layout.twin(self.config, weights)


def _target_config(
    source: SegmentationConfig, config: SegmentationConfig | None, kwargs: Mapping[str, Any]
) -> tuple[SegmentationConfig, dict[str, Any]]:
    """Return the config that is wanted, and the keywords that are no config keys and not about reading files.

    Args:
        source: The checkpoint's config.
        config: The config that is wanted, where it was given as a whole.
        kwargs: Keywords of `from_pretrained`.
    """
    rest = {key: value for key, value in kwargs.items() if key not in READING_KEYS}
    if config is not None:
        return config if isinstance(config, SegmentationConfig) else type(source).from_pretrained(config), rest
    loading = {key: rest.pop(key) for key in _LOADING_KEYS if key in rest}
    target, rest = type(source).from_dict(source.to_dict(), return_unused_kwargs=True, **rest)
    if "decoder_layers" in rest:  # a config has no such key where there are no such layers
        name = FAMILIES[source.model_type].name
        raise ValueError(f"decoder_layers: {name} has no transformer decoder, of which layers could be left out.")
    return target, rest | loading
