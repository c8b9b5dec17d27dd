# SPDX-License-Identifier: Apache-2.0
"""Images and annotations in, the model's input out; the model's output in, predictions out.

What the image processors of all families share. Keywords and results are those of transformers' Mask2Former image
processor. Axes: see `unisegment.types`; h w are the canvas, on which all images of a batch lie at the top left.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from torch import Tensor
from transformers.image_processing_utils import BatchFeature
from transformers.utils import TensorType

from unisegment.data.collate import Collate, normalize_image, pad_images, pad_target, padded_size
from unisegment.data.reading.annotation_reading import check_target, target_from_map, without_vanished
from unisegment.data.reading.image_reading import ImageReading, as_list, read_image
from unisegment.data.transforms.resizing import map_grid, resize_image, resize_target
from unisegment.models.image_post_processing import ImagePostProcessing
from unisegment.models.image_processor_files import ImageProcessorFiles
from unisegment.ops.value_range import checked_range
from unisegment.structures import Sample, SegmentationTarget
from unisegment.types import Size, Window


class ImageProcessor(ImageProcessorFiles, ImagePostProcessing):
    """Prepare images and annotations for the model, and read predictions from its output.

    Images are resized with anti-aliasing, normalised and padded with 0 at the bottom and at the right to a common
    canvas; nothing is stretched to fit it. Every keyword can also be given to a single call.

    Args:
        do_resize: Resize the images.
        size: `shortest_edge` and, as an upper limit, `longest_edge` in pixels keep the proportions of an image;
            `height` and `width` do not. `max_height` and `max_width` are the frame that an image just fits into. A
            number means `shortest_edge`, a pair (height, width).
        size_divisor: Height and width of the canvas are multiples of it; itself a multiple of 4, the stride of masks.
        resample: Pillow's filter.
        do_rescale: Multiply the values 0 to 255 by `rescale_factor`. Otherwise they stay 0 to 255, and images given as
            floats stay what they are: normalised elsewhere, with `do_normalize` off as well.
        rescale_factor: See `do_rescale`.
        do_normalize: Subtract `image_mean` and divide by `image_std`.
        image_mean: Mean of red, green and blue after rescaling; None means ImageNet's. One number stands for all three,
            more than three mean that images have more channels.
        image_std: Standard deviation, as `image_mean`.
        ignore_index: Number in segmentation maps of pixels that belong to no segment.
        do_reduce_labels: Let 0 in segmentation maps mean no segment, and every other label be one less.
        num_labels: Number of labels, to check those of annotations; None means that they are not checked.
        pad_size: Height and width of the canvas; None means the smallest one for the images of a call.
        range: Which numbers become 0 and 255 in images of more than 8 bits: "dtype", "percentile" or [low, high]; see
            `unisegment.ops.value_range.to_uint8`.
        stuff_label_ids: Labels that are stuff: panoptic results have at most one segment of each. None means unknown,
            [] that all are things.
        id2label: Name of each label, which predictions then have as `label`. None means unknown.
        stock: Further keys of preprocessor_config.json files of transformers.

    Raises:
        TypeError: When a keyword is unknown; names the nearest one.
        ValueError: When a value is of another kind than its keyword allows, makes no sense with the others, or is
            beyond the limits of `unisegment.ops.limits`.
    """

    model_input_names: ClassVar[list[str]] = ["pixel_values", "pixel_mask"]

    def preprocess(
        self,
        images: Any,
        segmentation_maps: Any = None,
        instance_id_to_semantic_id: Mapping[int, int] | Sequence[Mapping[int, int] | None] | None = None,
        segmentation_targets: SegmentationTarget | Sequence[SegmentationTarget] | None = None,
        return_tensors: str | TensorType | None = "pt",
        input_data_format: str | None = None,
        **overrides: Any,
    ) -> BatchFeature:
        """Prepare images and, for training, their annotations.

        Args:
            images: One image or a list: Pillow images, numpy arrays, torch tensors, files, addresses; see
                `unisegment.data.reading.image_reading.read_image`. One array may hold a batch of equal size. Pillow
                images and files are turned upright as their EXIF data say.
            segmentation_maps: For each image a map (height, width) of ids, upright: of segments where
                `instance_id_to_semantic_id` says their labels, else of labels. Ids that vanish when the map is resized
                are left out; the others give segments in ascending order.
            instance_id_to_semantic_id: Label of each segment id, for all images or for each one.
            segmentation_targets: For each image a target; crowd segments are left out, all others kept in their order.
            return_tensors: "pt", "np", or None for lists of arrays.
            input_data_format: "channels_first" or "channels_last" where the shape of an array leaves it open.
            overrides: Keywords of the constructor, for this call.

        Returns:
            `pixel_values` (b 3 h w, float32) and `pixel_mask` (b h w, int64, 1 on the image and 0 on padding); with
            annotations also `mask_labels`, a list of (n h w) bool masks, False on padding, and `class_labels`, a list
            of (n) int64 labels.

        Raises:
            TypeError: When a keyword is unknown.
            ValueError: When an image or its annotation cannot be used; says which one and why.
        """
        if overrides:
            return type(self)(**(self.settings() | overrides)).preprocess(
                images, segmentation_maps, instance_id_to_semantic_id, segmentation_targets, return_tensors,
                input_data_format,
            )  # fmt: skip
        images = as_list(images, ndim=3)
        if not images:
            raise ValueError("images is empty; give at least one image.")
        reading = self.reading
        arrays = _each(images, lambda image: read_image(image, input_data_format, reading))
        targets = segmentation_targets
        if segmentation_maps is not None:
            targets = self._targets_from_maps(segmentation_maps, instance_id_to_semantic_id, arrays, targets)
        sizes = [self.prepared_size(array.shape[:2]) for array in arrays]
        pixels = [
            normalize_image(resize_image(array, size, Image.Resampling(self.resample)), **self._normalization())
            for array, size in zip(arrays, sizes, strict=True)
        ]
        windows = [self.windows(size) for size in sizes]
        parts = [image[:, rows, columns] for image, own in zip(pixels, windows, strict=True) for rows, columns in own]
        canvas = self._canvas([(part.shape[1], part.shape[2]) for part in parts])
        padded = pad_images(parts, canvas, self.padding)
        data: dict[str, Any] = dict(zip(self.model_input_names, padded, strict=True)) | self._places(windows)
        if targets is not None:
            targets = self._prepare_targets(targets, arrays, sizes)
            cut = [_cut(target, *part) for target, own in zip(targets, windows, strict=True) for part in own]
            targets = [pad_target(target, canvas) for target in cut]
            if segmentation_maps is not None:
                targets = [without_vanished(target) for target in targets]
            data["mask_labels"] = [target.binary_masks() for target in targets]
            data["class_labels"] = [target.labels for target in targets]
        return BatchFeature(_converted(data, return_tensors))

    def prepared_size(self, size: Size) -> Size:
        """Return the height and width that an image of a height and width is resized to."""
        return self.size.of(size) if self.do_resize else size

    def windows(self, size: Size) -> list[Window]:
        """Return the parts, rows and columns, that the model sees of a resized image of a size; here all of it at once.

        Each part is a row of `pixel_values`.
        """
        return [(slice(size[0]), slice(size[1]))]

    @property
    def padding(self) -> Sequence[float] | float:
        """What `pixel_values` are beyond an image: a number, or one for each channel."""
        return 0.0

    @property
    def reading(self) -> ImageReading:
        """How images are read."""
        return ImageReading(
            range=checked_range(self.range), channels=len(self.image_mean), keeps_floats=not self.do_rescale
        )

    def collate(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """Make a training batch of samples, prepared as a call prepares images, but not resized.

        Args:
            samples: Annotated images.

        Returns:
            What `unisegment.data.collate.Collate` does.

        Raises:
            ValueError: As there.
        """
        collate = Collate(
            **self._normalization(), size_divisor=self.size_divisor, pad_size=self._pad_size, padding=self.padding
        )
        return collate(samples)

    @property
    def _pad_size(self) -> Size | None:
        return None if self.pad_size is None else (self.pad_size["height"], self.pad_size["width"])

    def _canvas(self, sizes: list[Size]) -> Size:
        """Return the size of `pixel_values` that hold images of some sizes."""
        return padded_size(sizes if self._pad_size is None else [self._pad_size], self.size_divisor)

    def _places(self, windows: list[list[Window]]) -> dict[str, Any]:
        """Return what a call says of the windows of each image, beside their pixels."""
        return {}

    def _normalization(self) -> dict[str, Any]:
        """Return the keywords of `normalize_image`."""
        factor = self.rescale_factor if self.do_rescale else 1.0
        if not self.do_normalize:
            channels = len(self.image_mean)
            return {"mean": [0.0] * channels, "std": [1.0] * channels, "rescale_factor": factor}
        return {"mean": self.image_mean, "std": self.image_std, "rescale_factor": factor}

    def _targets_from_maps(
        self, segment_maps: Any, label_of_id: Any, arrays: list[np.ndarray], targets: Any
    ) -> list[SegmentationTarget]:
        if targets is not None:
            raise ValueError("Give segmentation_maps or segmentation_targets, not both.")
        maps = [ImageReading().turned(item) for item in as_list(segment_maps, ndim=2 if len(arrays) > 1 else 3)]
        labels = label_of_id if isinstance(label_of_id, list | tuple) else [label_of_id] * len(maps)
        _check_count("segmentation_maps", maps, arrays)
        _check_count("instance_id_to_semantic_id", labels, arrays)
        return _each(
            list(zip(maps, labels, strict=True)),
            lambda pair: target_from_map(*pair, ignore_index=self.ignore_index, do_reduce_labels=self.do_reduce_labels),
        )

    def _prepare_targets(self, targets: Any, arrays: list[np.ndarray], sizes: list[Size]) -> list[SegmentationTarget]:
        targets = as_list(targets, ndim=0)
        _check_count("segmentation_targets", targets, arrays)
        targets = [target.select(~target.is_crowd) for target in targets]
        _each(
            list(zip(targets, arrays, strict=True)),
            lambda pair: check_target(pair[0], pair[1].shape[:2], self.num_labels),
        )
        return [resize_target(target, size) for target, size in zip(targets, sizes, strict=True)]


def _cut(target: SegmentationTarget, rows: slice, columns: slice) -> SegmentationTarget:
    return map_grid(target, lambda grid: grid[..., rows, columns])


def _each(items: list[Any], function: Callable[[Any], Any]) -> list[Any]:
    """Apply a function to what belongs to each image; its errors say which image it was."""
    results = []
    for index, item in enumerate(items):
        try:
            results.append(function(item))
        except ValueError as error:
            raise ValueError(f"Image {index}: {error}") from error
    return results


def _check_count(name: str, items: Sequence[Any], images: Sequence[Any]) -> None:
    if len(items) != len(images):
        raise ValueError(f"{name} must have one entry for each of the {len(images)} images, got {len(items)}.")


def _converted(data: dict[str, Any], return_tensors: str | TensorType | None) -> dict[str, Any]:
    if return_tensors is not None and TensorType(return_tensors) is TensorType.PYTORCH:
        return data
    if return_tensors is not None and TensorType(return_tensors) is not TensorType.NUMPY:
        raise ValueError(f"return_tensors must be 'pt', 'np' or None, got {return_tensors!r}.")
    return {
        key: value.numpy() if isinstance(value, Tensor) and return_tensors else [item.numpy() for item in value]
        for key, value in data.items()
    }
