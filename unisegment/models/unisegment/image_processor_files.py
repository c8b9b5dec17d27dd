# SPDX-License-Identifier: Apache-2.0
"""The files of an image processor: preprocessor_config.json in our own layout or that of stock transformers."""

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import CONFIG_NAME, IMAGE_PROCESSOR_NAME, PROCESSOR_NAME

from unisegment.models.unisegment.config_values import NAMES_OF_LABELS, checked_categories
from unisegment.models.unisegment.stock_checkpoints import is_ours
from unisegment.models.unisegment.stuff_labels import find_stuff
from unisegment.models.unisegment.unknown_keys import warn_of_kept
from unisegment.models.unisegment.whole_checkpoints import save_whole
from unisegment.ops.checkpoint_files import HUB_KEYS, chosen, named, object_in, read_object
from unisegment.ops.near_names import nearest_valid
from unisegment.ops.value_kinds import NOTHING, Kind, require, require_free, require_shallow

_KEYS_WITHOUT_EFFECT = frozenset(
    """
    _max_size _processor_class _valid_kwargs_names _valid_processor_keys auto_map backend crop_size data_format
    default_to_square device disable_grouping do_center_crop do_convert_rgb do_pad feature_extractor_type
    image_processor_type input_data_format max_size processor_class return_tensors use_fast
    """.split()
)
"""What stock files hold beside the keywords; `max_size` counts where `size` leaves the long side open."""

_OBJECT = Kind("an object", lambda value: isinstance(value, dict))
_RENAMED_KEYS = {"reduce_labels": "do_reduce_labels", "size_divisibility": "size_divisor"}


class ImageProcessorFiles(BaseImageProcessor):
    """An image processor that is stored as the keywords of its constructor, each of which is also an attribute."""

    def __setattr__(self, key: str, value: Any) -> None:
        # JSON has no numbers of numpy.
        super().__setattr__(key, value.item() if isinstance(value, np.generic) else value)

    @classmethod
    def keywords(cls) -> list[str]:
        """Return the names of the keywords."""
        parameters = inspect.signature(cls.__init__).parameters.values()
        return [parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY]

    @classmethod
    def check_stock_keys(cls, stock: Mapping[str, Any]) -> None:
        """Raise a TypeError for a key that neither we nor stock files of MaskFormer and Mask2Former know."""
        for key in stock:
            if not cls._is_known(key):
                raise TypeError(f"{key!r} is not a keyword of {cls.__name__}.{nearest_valid(key, cls.keywords())}")

    @classmethod
    def _is_known(cls, key: str) -> bool:
        return key in _KEYS_WITHOUT_EFFECT or key in _RENAMED_KEYS or key in cls.keywords()

    def settings(self) -> dict[str, Any]:
        """Return the keywords that make an equal processor."""
        return {name: getattr(self, name) for name in self.keywords()}

    @classmethod
    def from_dict(cls, image_processor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Make a processor of what a file holds and of keywords, which go first.

        Keys that are unknown in a file are kept, with a warning, as attributes, and written again.

        Args:
            image_processor_dict: Content of a preprocessor_config.json.
            kwargs: Keywords of the constructor, and `return_unused_kwargs` to get the other ones back.

        Raises:
            TypeError: When a keyword is unknown and not wanted back.
            ValueError: As the constructor does; for a key of the file that is the name of a method.
        """
        wants_unused = kwargs.pop("return_unused_kwargs", False)
        unused = {key: value for key, value in kwargs.items() if wants_unused and key not in cls.keywords()}
        used = {key: value for key, value in kwargs.items() if key not in unused}
        renamed = {_RENAMED_KEYS.get(key, key): value for key, value in image_processor_dict.items()}
        kept = {key: value for key, value in renamed.items() if not cls._is_known(key)}
        require_free(kept, cls)
        for key, value in kept.items():
            require_shallow(key, value)
        warn_of_kept("preprocessor_config.json", tuple(sorted(kept)))
        processor = cls(**({key: value for key, value in renamed.items() if key not in kept} | used))
        for key, value in kept.items():
            setattr(processor, key, value)
        return (processor, unused) if wants_unused else processor

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[str]) -> Any:
        """Make a processor of a preprocessor_config.json, see `from_dict`."""
        content = object_in(Path(json_file))
        with named(json_file):
            return cls.from_dict(content)

    @classmethod
    def get_image_processor_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read preprocessor_config.json, and the names of the labels from config.json, which the stuff labels follow.

        Args:
            pretrained_model_name_or_path: A folder, a file or an id on the Hub.
            kwargs: How to reach the Hub, and keywords of the constructor.

        Returns:
            What the file holds, and the keywords of the constructor.

        Raises:
            OSError: When there is no such file.
            ValueError: When it holds no JSON object, or a value that makes no sense; names the file.
        """
        path, hub = pretrained_model_name_or_path, chosen(kwargs, HUB_KEYS)
        place = path if os.path.isfile(path) else os.path.join(path, IMAGE_PROCESSOR_NAME)
        for name in (IMAGE_PROCESSOR_NAME, PROCESSOR_NAME):
            read_object(path, name, **hub)  # transformers' own errors name no file, or are of other kinds
        content, keywords = super().get_image_processor_dict(path, **kwargs)
        beside = _config_beside(path, hub)
        with named(place):
            require("image_processor", content, _OBJECT)
            cls.from_dict(content)  # so that errors of the file name it
            content = _with_labels(content, beside, kwargs)
        if kwargs.get("_from_pipeline") is not None:
            # A pipeline hands the keywords of the model to its processor, too.
            keywords = {key: value for key, value in keywords.items() if key in cls.keywords()}
        return content, keywords

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        push_to_hub: bool = False,
        *,
        format: Literal["unisegment", "transformers"] = "unisegment",
        **kwargs: Any,
    ) -> list[str]:
        """Write preprocessor_config.json.

        Args:
            save_directory: Folder, made when it is missing.
            push_to_hub: Upload it as well.
            format: "unisegment", or "transformers" for a file that plain transformers loads, as Mask2Former's.
            kwargs: As in transformers.

        Returns:
            The file that was written.

        Raises:
            WriteError: When it cannot be written; what was there is still there.
        """
        save = super().save_pretrained if is_ours(format) else self._as_stock().save_pretrained
        return save_whole(save, save_directory, push_to_hub=push_to_hub, **kwargs) or []

    def push_to_hub(
        self, repo_id: str, *, format: Literal["unisegment", "transformers"] = "unisegment", **kwargs: Any
    ) -> Any:
        """Upload preprocessor_config.json; see `save_pretrained` for `format`, and transformers for the rest."""
        return (super() if is_ours(format) else self._as_stock()).push_to_hub(repo_id, **kwargs)  # type: ignore[union-attr]

    def _as_stock(self) -> Any:
        from transformers import Mask2FormerImageProcessorPil  # half a second, for those alone that write such a file

        # It keeps and writes the keywords that it does not know, here `stuff_label_ids` and `id2label`.
        kept = {key: value for key, value in self.to_dict().items() if not self._is_known(key)}
        return Mask2FormerImageProcessorPil(**self.settings(), **kept)


def _config_beside(path: str | os.PathLike[str], hub: dict[str, Any]) -> dict[str, Any]:
    """Return what the config.json beside a preprocessor_config.json says of the labels; nothing when there is none."""
    folder = os.path.dirname(path) if os.path.isfile(path) else path
    beside = read_object(folder or os.curdir, CONFIG_NAME, **hub) or {}
    with named(os.path.join(folder, CONFIG_NAME)):
        names, categories = beside.get("id2label"), beside.get("categories")
        require("id2label", names, NAMES_OF_LABELS | NOTHING)
        return {"id2label": names, "categories": categories and checked_categories(categories)}


def _with_labels(content: dict[str, Any], beside: Mapping[str, Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file holds with the names of the labels and which are stuff, see `find_stuff`."""
    written_for = content.get("id2label") or beside["id2label"]
    names = kwargs.get("id2label") or beside["id2label"] or written_for
    if not names:
        return content
    content = content | {"id2label": _labels(names)}
    if "stuff_label_ids" not in kwargs:
        written = content.get("stuff_label_ids")
        stuff = find_stuff(_labels(names), beside["categories"], written, _labels(written_for or names))
        content = content | {"stuff_label_ids": stuff}
    return content


def _labels(names: Mapping[Any, str]) -> dict[int, str]:
    require("id2label", names, NAMES_OF_LABELS)
    return {int(label): str(name) for label, name in names.items()}
