# SPDX-License-Identifier: Apache-2.0
"""The keywords of an image processor, whoever gives them, and the file that holds them: checked, as they will be used.

Nothing here needs transformers' image processors, whose import takes longer than everything that a refusal needs.
"""

import inspect
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from PIL import Image
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from transformers.utils import CONFIG_NAME, IMAGE_PROCESSOR_NAME, PROCESSOR_NAME

from unisegment.models.config_values import NAMES_OF_LABELS, checked_categories
from unisegment.models.image_sizes import size_keys
from unisegment.models.processor_values import KINDS
from unisegment.models.stuff_labels import find_stuff
from unisegment.models.unknown_keys import warn_of_kept
from unisegment.ops.checkpoint_files import HUB_KEYS, chosen, named, read_object
from unisegment.ops.json_values import shown
from unisegment.ops.near_names import nearest_valid
from unisegment.ops.value_kinds import NOTHING, Kind, require, require_all, require_free, require_shallow
from unisegment.ops.value_range import ValueRange, checked_range

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


class ImageProcessorSettings:
    """An image processor that only knows its settings, each of which is an attribute.

    A family whose processor has more keywords derives a class from this one, whose `__init__` has these and hands on
    the others, and its processor from both.
    """

    mask_stride: int = 4
    """Pixels of the canvas for one cell of the masks that the model makes, in both directions."""
    longest_edge: ClassVar[int | None] = 1333
    """Limit of the long side where `size` has none; None is no limit."""

    def __init__(
        self,
        *,
        do_resize: bool = True,
        size: dict[str, int] | int | Sequence[int] | None = None,
        size_divisor: int = 32,
        resample: int = Image.Resampling.BILINEAR,
        do_rescale: bool = True,
        rescale_factor: float = 1 / 255,
        do_normalize: bool = True,
        image_mean: Sequence[float] | float | None = None,
        image_std: Sequence[float] | float | None = None,
        ignore_index: int | None = None,
        do_reduce_labels: bool = False,
        num_labels: int | None = None,
        pad_size: dict[str, int] | Sequence[int] | None = None,
        range: ValueRange | Sequence[float] = "dtype",
        stuff_label_ids: Collection[int] | None = None,
        id2label: Mapping[int, str] | None = None,
        **stock: Any,
    ) -> None:
        super().__init__()
        self.check_stock_keys(stock)
        image_mean, image_std, stuff_label_ids = map(_listed, (image_mean, image_std, stuff_label_ids))
        require_all(locals() | stock, KINDS)
        self.do_resize = do_resize
        self.size = size_keys(800 if size is None else size, stock.get("max_size") or self.longest_edge)
        # Old files say 0 where nothing is to be rounded, but the network needs a multiple of its coarsest stride.
        self.size_divisor = stock.get("size_divisibility", size_divisor) or 32
        self.resample = int(Image.Resampling(resample))
        self.do_rescale = do_rescale
        self.rescale_factor = rescale_factor
        self.do_normalize = do_normalize
        self.image_mean = _of_channels(IMAGENET_DEFAULT_MEAN if image_mean is None else image_mean)
        self.image_std = _of_channels(IMAGENET_DEFAULT_STD if image_std is None else image_std)
        self.ignore_index = ignore_index
        self.do_reduce_labels = bool(stock.get("reduce_labels", do_reduce_labels))
        self.num_labels = num_labels
        self.pad_size = None if pad_size is None else size_keys(pad_size, longest_edge=1, name="pad_size")
        checked = checked_range(range)
        self.range = checked if isinstance(checked, str) else [*checked]
        self.stuff_label_ids = None if stuff_label_ids is None else sorted(stuff_label_ids)
        # In files the numbers are texts.
        self.id2label = None if id2label is None else {int(label): name for label, name in id2label.items()}
        self._check()

    def _check(self) -> None:
        if self.size_divisor % self.mask_stride:
            raise ValueError(f"size_divisor must be a multiple of {self.mask_stride}, got {self.size_divisor}.")
        if len(self.image_mean) != len(self.image_std):
            raise ValueError(
                "image_mean and image_std must have one number for each channel, at least red, green and blue, got "
                f"{shown(self.image_mean)} and {shown(self.image_std)}."
            )
        if self.pad_size is not None and "height" not in self.pad_size:
            raise ValueError(f"pad_size must be `height` and `width`, got {self.pad_size}.")

    @classmethod
    def keywords(cls) -> list[str]:
        """Return the names of the keywords."""
        makers = [vars(kind)["__init__"] for kind in reversed(cls.__mro__) if "__init__" in vars(kind)]
        parameters = [entry for make in makers for entry in inspect.signature(make).parameters.values()]
        names = (entry.name for entry in parameters if entry.kind is inspect.Parameter.KEYWORD_ONLY)
        return list(dict.fromkeys(names))

    @classmethod
    def of_model(cls, config: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
        """Return keywords of a processor with those that follow from the model.

        Args:
            config: Content of its config.json; nothing where there is none.
            content: The keywords, as a preprocessor_config.json has them.
        """
        return dict(content)

    @classmethod
    def check_stock_keys(cls, stock: Mapping[str, Any]) -> None:
        """Raise a TypeError for a key that neither we nor stock files know."""
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


def read_settings(
    source: str | os.PathLike[str],
    given: Mapping[str, Any],
    kind: type[ImageProcessorSettings] = ImageProcessorSettings,
) -> dict[str, Any] | None:
    """Read preprocessor_config.json, and the names of the labels from config.json, which the stuff labels follow.

    Args:
        source: A folder, a file or a name on the Hub.
        given: How to reach the Hub, and keywords of the processor that go before the file, as `from_pretrained` takes
            them; only `id2label` and `stuff_label_ids` change what is returned.
        kind: Of which a processor will be made.

    Returns:
        What the file holds; None when there is none.

    Raises:
        ValueError: When it holds no JSON object, or a value that makes no sense; names the file.
    """
    hub, name = chosen(given, HUB_KEYS), PROCESSOR_NAME
    is_file = os.path.isfile(source)
    content = None if is_file else (read_object(source, name, **hub) or {}).get("image_processor")
    if content is None:
        name = given.get("image_processor_filename", IMAGE_PROCESSOR_NAME)
        content = read_object(source, name, **hub)
    if content is None:
        return None
    beside = _config_beside(source, hub)
    with named(source if is_file else os.path.join(source, name)):
        require("image_processor", content, _OBJECT)
        content = kind.of_model(beside, content)
        kind.from_dict(content)  # which finds what is wrong
        return _with_labels(content, beside, given)


def _config_beside(path: str | os.PathLike[str], hub: dict[str, Any]) -> dict[str, Any]:
    """Return the config.json beside a preprocessor_config.json, what it says of the labels checked."""
    folder = os.path.dirname(path) if os.path.isfile(path) else path
    beside = read_object(folder or os.curdir, CONFIG_NAME, **hub) or {}
    with named(os.path.join(folder, CONFIG_NAME)):
        names, categories = beside.get("id2label"), beside.get("categories")
        require("id2label", names, NAMES_OF_LABELS | NOTHING)
        return beside | {"id2label": names, "categories": categories and checked_categories(categories)}


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


def _listed(values: Any) -> Any:
    return values.tolist() if hasattr(values, "tolist") else values


def _of_channels(values: Sequence[float] | float) -> list[float]:
    return [values] * 3 if isinstance(values, int | float) else list(values)
