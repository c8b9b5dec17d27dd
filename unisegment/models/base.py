# SPDX-License-Identifier: Apache-2.0
"""What a family of models is, and which there are: whatever is not of one family asks here.

A family is a folder beside this file, and a line in `FOLDERS` (choices.py). Nothing here needs the code of models,
whose import takes seconds.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple, Protocol

from torch import Tensor
from transformers import PreTrainedConfig

from unisegment.data.annotated_images import category_entry
from unisegment.models.choices import FOLDERS
from unisegment.models.configuration import SegmentationConfig
from unisegment.models.image_processor_settings import ImageProcessorSettings
from unisegment.models.stuff_labels import find_stuff
from unisegment.ops.importing import importing
from unisegment.ops.limits import MAX_MODEL
from unisegment.ops.near_names import did_you_mean, nearest_valid
from unisegment.structures import (
    Category,
    InstancePrediction,
    PanopticPrediction,
    SegmentationTarget,
    SemanticPrediction,
)
from unisegment.types import Size


class SegmentationModel(Protocol):
    """What a model is to those that train, evaluate and share it.

    Those of transformers' `PreTrainedModel` are not repeated: `config`, `device`, `save_pretrained` and so on.
    `forward` takes `pixel_values` (b 3 h w), `mask_labels`, `class_labels`, `pixel_mask` and `loss_denominators`, and
    returns `loss` and `loss_dict` where there are targets.
    """

    config: Any
    backbone: Any
    """Its weights learn at `optim.backbone_lr_factor` times the rate; `freeze` keeps its first stages from learning."""
    class_head: str
    """Name of the linear layer with a row for each class."""
    query_tables: Sequence[str]
    """Names of the weights with a row for each query; none where there are no queries."""

    def lora_targets(self) -> list[str]:
        """Return the names of the layers that may get adapters."""

    def layers_above(self, name: str) -> int:
        """Return how many layers of the backbone lie above a weight, of what its layers are; 0 outside of them."""

    def at_step(self, step: int, of: int) -> None:
        """Follow the training: called before the first step and after each one.

        Args:
            step: Steps taken.
            of: Steps of the whole run.
        """

    def loss_denominators(
        self,
        targets: Sequence[Sequence[SegmentationTarget]],
        add: Callable[[Tensor], Tensor],
        num_processes: int,
    ) -> Sequence[Tensor] | None:
        """Return what the loss of each micro-batch is divided by, None where a model divides by nothing of others.

        The sum over the micro-batches and the mean over processes then is the loss of the whole batch.

        Args:
            targets: Those of each micro-batch of this process.
            add: Adds a tensor up over all processes.
            num_processes: How many these are.
        """

    def loss_without_values(self) -> AbstractContextManager[None]:
        """Let the loss be computed from tensors without contents, for their memory alone."""


class SegmentationProcessor(Protocol):
    """What an image processor is to those that prepare images for a model and read its output.

    Its settings are attributes, as `size`, `range`, `stuff_label_ids` and `id2label`; see `ImageProcessorSettings`;
    `ImageProcessor` says more of each method.
    """

    read_outputs: Sequence[str]
    """What is read of the model's output; each has one entry for each row of `pixel_values`."""

    def __call__(self, *, images: Any, **settings: Any) -> Mapping[str, Any]:
        """Return `pixel_values` and `pixel_mask`: of each image a row, or several."""

    def settings(self) -> dict[str, Any]:
        """Return the keywords that make an equal processor."""

    def collate(self, samples: Sequence[Any]) -> dict[str, Any]:
        """Return a training batch: what the model's `forward` takes."""

    def prepared_size(self, size: Size) -> Size:
        """Return the height and width that an image is resized to."""

    def why_not(self, task: str) -> str | None:
        """Return why results of a task cannot be read from the model's output; None where they can."""

    def post_process_semantic_segmentation(self, outputs: Any, target_sizes: Any) -> list[SemanticPrediction]:
        """Return the label of each pixel."""

    def post_process_instance_segmentation(
        self, outputs: Any, *, threshold: float, target_sizes: Any, top_k: int, label_ids: Collection[int] | None
    ) -> list[InstancePrediction]:
        """Return the objects, the best first."""

    def post_process_panoptic_segmentation(
        self, outputs: Any, *, threshold: float, target_sizes: Any
    ) -> list[PanopticPrediction]:
        """Return which segment each pixel belongs to."""

    def semantic_scores(self, outputs: Any, index: int, target_size: Size, rows: slice) -> Tensor:
        """Return the scores of all classes for some rows of a result (k rows w)."""

    def semantic_row_elements(self, outputs: Any, target_size: Size) -> int:
        """Return how many numbers `semantic_scores` holds at a time for each row."""

    def named(self, predictions: list[Any], num_labels: int) -> list[Any]:
        """Write the name of its label into each segment."""


class StockLayout(NamedTuple):
    """A model of transformers that a family reads and writes checkpoints of.

    Args:
        model_type: What its config.json says.
        read_config: Returns its config and ours, of what a config.json holds.
        read_weights: Returns weights under our names: of a name or folder, its config, and keywords of
            `from_pretrained`.
        to_config: Returns its config for ours; raises a ValueError where it cannot be what ours says.
        twin: Returns transformers' model of our config and our weights; raises as `to_config` does.
    """

    model_type: str
    read_config: Callable[[dict[str, Any]], tuple[PreTrainedConfig, Any]]
    read_weights: Callable[[Any, Any, Mapping[str, Any]], dict[str, Tensor]]
    to_config: Callable[[Any], PreTrainedConfig]
    twin: Callable[[Any, Mapping[str, Tensor]], Any]


def require_fixed(config: SegmentationConfig, fixed: Mapping[str, Any], name: str) -> None:
    """Raise a ValueError when a config has another value than a model of transformers fixes in its code.

    Args:
        config: Ours.
        fixed: The values by key.
        name: What transformers' model is called.
    """
    for key, value in fixed.items():
        if getattr(config, key) != value:
            raise ValueError(f"transformers' {name} has {key}={value!r} only, this model has {getattr(config, key)!r}.")


class OriginalLayout(NamedTuple):
    """Files of the code that a family's authors have released.

    Args:
        owns: Tells by the names of weights whether a file is such a one.
        read: Returns our config and the weights under our names: of what the file holds, its path, the licence of the
            weights, and options by name.
        write: Writes a file: path, config, weights under our names.
        license: Licence of the weights that the authors have released.
    """

    owns: Callable[[Collection[str]], bool]
    read: Callable[..., tuple[Any, dict[str, Tensor]]]
    write: Callable[[Any, Any, Mapping[str, Tensor]], None]
    license: str


@dataclass(frozen=True)
class Family:
    """All that is not the same in every family of models.

    Args:
        name: What the authors call it.
        source: Address of the paper.
        config: Class of its configs, which have the `model_type`.
        model_class: Where its model is, as "module:Class".
        processor_class: Where its image processor is.
        describe: Returns what a config makes, in words: "a swin backbone", "100 queries".
        stock: Models of transformers, whose checkpoints it reads and writes.
        original: Files of the authors' code.
        settings: Class of its processor's settings, which also knows what of them follows from a config.
    """

    name: str
    source: str
    config: type[SegmentationConfig]
    model_class: str
    processor_class: str
    describe: Callable[[Any], Sequence[str]]
    stock: Sequence[StockLayout] = ()
    original: OriginalLayout | None = None
    settings: type[ImageProcessorSettings] = ImageProcessorSettings

    @property
    def model_type(self) -> str:
        """What a config.json of ours says."""
        return self.config.model_type

    def model(self) -> Any:
        """Return the class of the model."""
        return _imported(self.model_class)

    def processor(self) -> Any:
        """Return the class of the image processor."""
        return _imported(self.processor_class)

    def stock_layout(self, config: SegmentationConfig) -> StockLayout:
        """Return the layout of transformers that can hold a model.

        Raises:
            ValueError: When none can; says why.
        """
        reasons = []
        for layout in self.stock:
            try:
                layout.to_config(config)
            except ValueError as error:
                reasons.append(str(error))
            else:
                return layout
        raise ValueError(" ".join(reasons) or f"transformers has no {self.name}.")

    def new_processor(self, config: SegmentationConfig, **settings: Any) -> Any:
        """Return an image processor for models of a config, which has the names of the labels and which are stuff."""
        found = {"id2label": config.id2label, "stuff_label_ids": find_stuff(config.id2label, config.categories)}
        return self.processor()(**self.settings.of_model(config.to_dict(), found | settings))

    def check_settings(self, given: Mapping[str, Any], of_file: Mapping[str, Any] | None = None) -> None:
        """Look at settings for an image processor, before the code of one is imported.

        Args:
            given: The settings.
            of_file: What a preprocessor_config.json says besides.

        Raises:
            ValueError: When one is unknown, or its value makes no sense.
        """
        known = self.settings.keywords()
        for key in given:
            if key not in known:
                advice = nearest_valid(key, known)
                raise ValueError(f"{key!r} is not a setting of the image processor of {self.name}.{advice}")
        self.settings.from_dict(dict(of_file or {}), **given)

    def build(
        self, keys: Mapping[str, Any], categories: Sequence[Category], **settings: Any
    ) -> tuple[SegmentationModel, Any]:
        """Return a model with fresh weights, and its image processor.

        Args:
            keys: Of the config.
            categories: The classes, in the order of their labels.
            settings: Of the processor.

        Raises:
            ValueError: When the keys describe no model, or one of too many weights.
        """
        config = self.config(**keys, categories=[*map(category_entry, categories)])
        model_class = self.model()
        numbers = model_class.count_numbers(config)
        if numbers > MAX_MODEL:
            raise ValueError(f"the model would have {numbers} numbers, expected at most {MAX_MODEL}")
        return model_class(config), self.new_processor(config, num_labels=config.num_labels, **settings)


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    with importing():
        return getattr(import_module(module), name)


class _Families(Mapping[str, Family]):
    """Each family by the `model_type` of its configs, imported when it is asked for."""

    def __init__(self) -> None:
        self._others: dict[str, Family] = {}

    def __getitem__(self, model_type: str) -> Family:
        if model_type in FOLDERS:
            return import_module(f"unisegment.models.{FOLDERS[model_type]}.family").FAMILY
        return self._others[model_type]

    def __iter__(self) -> Iterator[str]:
        return iter([*FOLDERS, *self._others])

    def __len__(self) -> int:
        return len(FOLDERS) + len(self._others)

    def named(self, model_type: str) -> Family:
        """Return the family of a `model_type` that a user has typed.

        Raises:
            ValueError: When there is none.
        """
        if model_type not in self:
            known = ", ".join(f"{one} ({family.name})" for one, family in self.items())
            raise ValueError(
                f"there is no family {model_type!r} of models, there are {known}." + did_you_mean(model_type, [*self])
            )
        return self[model_type]

    def reading(self, model_type: Any) -> Family | None:
        """Return the family that reads checkpoints of a `model_type`, ours or transformers'."""
        if isinstance(model_type, str) and model_type in self:
            return self[model_type]
        return next(
            (one for one in self.values() if any(model_type == layout.model_type for layout in one.stock)), None
        )

    def owning(self, names: Collection[str]) -> Family | None:
        """Return the family whose authors' code gives its weights such names."""
        return next((one for one in self.values() if one.original is not None and one.original.owns(names)), None)

    def register(self, family: Family) -> None:
        """Add a family from outside of this package, or put another one in its place."""
        self._others[family.model_type] = family


FAMILIES = _Families()
