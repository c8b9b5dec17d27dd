# SPDX-License-Identifier: Apache-2.0
"""The section `data` of a recipe."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from unisegment.data.choices import OnError
from unisegment.data.formats import FORMATS, FormatName, check_options
from unisegment.data.reading.image_reading import Exif
from unisegment.data.splitting import part_of_split
from unisegment.data.transforms.training import TrainTransform
from unisegment.ops.downloads import is_address
from unisegment.ops.value_range import ValueRange, checked_range
from unisegment.runs.settings import AtLeastOne, Bounds, NotNegative, Share, expand_home

_Pixels = Annotated[int, Bounds(1, 2**14)]
_Processes = Annotated[int, Bounds(0, 2**10)]
_Id = Annotated[int, Bounds(-(2**31), 2**31 - 1)]


@dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """Which images are for training and evaluation, and how they are changed on the way.

    Args:
        root: Folder of the data set, relative to the folder the command runs in; as in all paths, `~` is the user's
            own. For `hugging_face`, also the name of a data set on the Hub (`user/name`, `user/name:config@revision`,
            `hf://datasets/user/name`), or Parquet files (`hf://…/{split}-*.parquet`, `s3://…`).
        format: What the folder is: `auto` is what its layout says, and the recipe of the run names it; or one of
            `unisegment.data.formats`, of which `synthetic` is made where it does not exist.
        annotations: File or folder of the annotations, where they lie elsewhere than the layouts of the format say;
            relative to `root`. One for each split, `{train: a.json, val: b.json}`, or one that is all for training.
        images: The same of the folder of the images.
        segments: The same of the folder of PNG files that go with a panoptic file.
        columns: Column of each role, such as `{image: image, semantic: label}` (`hugging_face` only, as `streaming`):
            see `HuggingFaceImages.open`.
        categories: Where the data set does not name them: names of the ids from 0 on, `[sky, road]`, or by id,
            `{7: sky, 9: road}`, or a JSON file (for formats that have no list of their own).
        void_ids: Ids in the files that are void, besides those that the format says; categories with such ids are no
            labels.
        splits: Which images to learn from (`train`) and which to hold out (`val`), such as
            `{train: "train[:90%]", val: "train[90%:]"}`. Without it they are the data set's own
            `train` and `val`; the latter may be called `valid`, `validation`, `dev` or `test`.
        val_share: Instead of that, the share of the images of `train` that is held out, such as 0.1. They are drawn
            at random.
        split_seed: Seed of that draw.
        streaming: Read Parquet files where they lie, as training goes on, instead of downloading them first.
        exif: `upright` turns images, and maps of labels, as their EXIF data say; `stored` leaves them as they are
            stored, for annotations that were made on such images.
        range: What is black and white in images of more than 8 bits, in training and, saved in the processor, in use:
            `dtype` the smallest and largest number that there can be (65535 for 16 bits); `percentile` the 0.5th and
            the 99.5th percentile of each image; or two numbers, `[low, high]`.
        num_train: Scenes to make for training (`synthetic` only).
        num_val: Scenes to make for evaluation (`synthetic` only).
        workers: Processes that load training images; 0 loads them in the main process. The result does not depend
            on it.
        shortest_edge: Shorter side in pixels that images are resized to for evaluation and use.
        longest_edge: Longer side in pixels that no image exceeds after that; it wins over `shortest_edge`.
        transform: Random changes of training images.
        only_annotated: Leave out training images without an object, crowds not counted.
        on_error: What becomes of images that cannot be read, or do not agree with their annotation: `raise` ends the
            run and names the first; `skip` names each once and leaves it out, and in training the next one stands in
            for it.
        max_skipped: Most images that may be left out before the run ends after all.
        repeat_threshold: Share of the training images below which a class is rare: an epoch shows images of a class
            that a share f of them has sqrt(repeat_threshold / f) times on average. 0 shows each image once.
    """

    root: str
    format: FormatName = "auto"
    annotations: str | dict[str, str] | None = None
    images: str | dict[str, str] | None = None
    segments: str | dict[str, str] | None = None
    columns: dict[str, str] = field(default_factory=dict)
    categories: str | tuple[str, ...] | dict[_Id | str, str] | None = None
    void_ids: tuple[_Id, ...] = ()
    splits: dict[str, str] = field(default_factory=dict)
    val_share: Share | None = None
    split_seed: NotNegative = 0
    streaming: bool = False
    exif: Exif = "upright"
    range: ValueRange = "dtype"
    num_train: AtLeastOne = 600
    num_val: AtLeastOne = 100
    workers: _Processes = 4
    shortest_edge: _Pixels = 800
    longest_edge: AtLeastOne = 1333
    transform: TrainTransform = field(default_factory=TrainTransform)
    only_annotated: bool = False
    on_error: OnError = "raise"
    max_skipped: AtLeastOne = 100
    repeat_threshold: Share = 0.0

    def __post_init__(self) -> None:
        expand_home(self, "root", "categories")
        checked_range(self.range)
        if self.splits and self.splits.keys() != {"train", "val"}:
            raise ValueError(f"splits must say what `train` and what `val` is, got {self.splits}.")
        part_of_split("val", self.splits, self.val_share, self.split_seed)
        if self.format == "auto":  # what goes with it is known once it has a name
            return
        known = FORMATS[self.format]
        if known.is_folder and is_address(self.root):
            raise ValueError(f"root={self.root} is an address, which format=hugging_face reads, not {self.format}.")
        check_options(known, self._format_options)

    @property
    def _format_options(self) -> dict[str, Any]:
        """What is set of the options that not every format takes."""
        values = {name: getattr(self, name) for name in ("columns", "categories", "streaming")}
        return {name: value for name, value in values.items() if value}

    @property
    def reader_options(self) -> dict[str, Any]:
        """The keywords of `open_data_set`, besides root, format and split."""
        names = ("splits", "val_share", "split_seed", "annotations", "images", "segments", "void_ids")
        options = {name: value for name in names if (value := getattr(self, name))}
        return {"exif": self.exif, "range": self.range} | options | self._format_options

    @property
    def most_skipped(self) -> int:
        """Most images that may be left out, whatever `on_error` says."""
        return self.max_skipped if self.on_error == "skip" else 0
