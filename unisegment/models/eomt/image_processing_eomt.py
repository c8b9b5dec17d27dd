# SPDX-License-Identifier: Apache-2.0
"""Images in, whole or in windows; the model's output in, predictions of the whole images out."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from unisegment.data.collate import normalize_image, padded_size
from unisegment.models.eomt.image_processor_settings import EomtImageProcessorSettings
from unisegment.models.image_post_processing import TargetSizes
from unisegment.models.image_processing import ImageProcessor
from unisegment.models.image_sizes import sizes_of_results
from unisegment.ops.transfers import fetch
from unisegment.postprocessing.resize import Frame, size_list
from unisegment.postprocessing.semantic import ClassScores, label_pixels
from unisegment.postprocessing.windows import square_windows, window_scores
from unisegment.structures import SemanticPrediction
from unisegment.types import Size, Window


class UniSegmentEomtImageProcessor(EomtImageProcessorSettings, ImageProcessor):
    """Prepare images for EoMT and read its output.

    Panoptic and instance results need whole images, padded to a square (`do_pad`), semantic ones may come from windows
    (`do_split_image`): squares as long as the short side of the resized image, side by side along its long side. What
    lies beyond an image is black, in training, too. Keywords that are not listed are those of `ImageProcessor`.

    Args:
        size: As there. For windows, `shortest_edge` alone; where `longest_edge` is missing, the long side has no limit.
        size_divisor: As there; None takes 16. Best a multiple of the model's patches.
        do_reduce_labels: As there; None means where `ignore_index` is given, as in files of transformers.
        do_split_image: Cut images into windows, each a row of `pixel_values`. Adds `patch_offsets` to what a call
            returns: for each window the place of its image, and where it begins and ends on the long side.
        do_pad: Pad images to the `size`: as high as its `shortest_edge` and as wide as its `longest_edge`, or to a
            square where it has none; larger images stay as they are.
        mask_stride: Pixels of the canvas for one cell of the masks that the model makes. Is read from the model's
            config, where that lies beside the processor's file.

    Source:
        EoMT (arXiv:2503.19108), lightning_module.py.
    """

    stock_class: ClassVar[str] = "EomtImageProcessorPil"

    def windows(self, size: Size) -> list[Window]:
        """Return the parts, rows and columns, that the model sees of a resized image of a size."""
        return square_windows(size) if self.do_split_image else super().windows(size)

    @property
    def padding(self) -> Sequence[float]:
        """What `pixel_values` are beyond an image: black, for each channel."""
        black = np.zeros((1, 1, len(self.image_mean)), np.uint8)
        return normalize_image(black, **self._normalization()).flatten().tolist()

    def why_not(self, task: str) -> str | None:
        """Return why results of a task cannot be read from the model's output, and how they can."""
        if task == "semantic" or not self.do_split_image:
            return None
        return (
            f"Images are split into windows (do_split_image=True), which together give semantic results only: for "
            f"{task} ones open the image processor with do_split_image=False and do_pad=True."
        )

    def post_process_semantic_segmentation(
        self,
        outputs: Any,
        target_sizes: TargetSizes = None,
        return_segmentation_scores: bool = False,
        max_elements: int | None = None,
    ) -> list[SemanticPrediction]:
        """Give every pixel a label; see `ImageProcessor`.

        The scores of windows are made at the size that images were resized to, averaged where windows overlap, and then
        resized, as in the paper.

        Args:
            outputs: As there; of windows all rows, in their order.
            target_sizes: As there. Of windows it must be given: the sizes that the images had before they were
                prepared, which say how they were split.
            return_segmentation_scores: As there.
            max_elements: As there.

        Raises:
            ValueError: When images were split and the windows are not those of images of `target_sizes`.
        """
        if not self.do_split_image:
            return super().post_process_semantic_segmentation(
                outputs, target_sizes, return_segmentation_scores, max_elements
            )
        sizes = self._sizes_before(target_sizes)
        ends = np.cumsum([len(self.windows(self.prepared_size(size))) for size in sizes]).tolist()
        found = len(outputs.class_queries_logits)
        if ends[-1:] != [found]:
            raise ValueError(
                f"There are {found} windows, but images of target_sizes {sizes} have {ends[-1] if ends else 0}: give "
                "the sizes that the images had before they were prepared, and all windows of each."
            )
        images = [self._class_scores(outputs, *start) for start in zip([0, *ends], sizes, strict=False)]
        predictions = label_pixels(
            images, return_segmentation_scores=return_segmentation_scores, max_elements=max_elements
        )
        return self.named(predictions, images[0].num_classes)

    def _sizes_before(self, target_sizes: TargetSizes) -> list[Size]:
        if target_sizes is None:
            raise ValueError("Images are split into windows (do_split_image=True): give target_sizes, their sizes.")
        (sizes,) = fetch(sizes_of_results(target_sizes, len(self.image_mean)))
        return size_list("target_sizes", sizes, len(sizes))

    def _class_scores(self, outputs: Any, index: int, target_size: Size) -> ClassScores:
        if not self.do_split_image:
            return super()._class_scores(outputs, index, target_size)
        size = self.prepared_size(target_size)
        windows = self.windows(size)
        own = slice(index, index + len(windows))
        class_logits, mask_logits = outputs.class_queries_logits[own], outputs.masks_queries_logits[own]
        return window_scores(class_logits, mask_logits, windows, Frame(size, target_size, self.mask_stride))

    def _logits_and_sizes(self, outputs: Any, target_sizes: TargetSizes) -> tuple[Any, ...]:
        *logits, image_sizes, sizes = super()._logits_and_sizes(outputs, target_sizes)
        if image_sizes is None and sizes is not None:
            # The output of transformers' model: it follows from the sizes where the padding begins.
            image_sizes = [self.prepared_size(size) for size in self._sizes_before(sizes)]
        return *logits, image_sizes, sizes

    def _canvas(self, sizes: list[Size]) -> Size:
        smallest = super()._canvas(sizes)
        return padded_size([smallest, self.square], self.size_divisor) if self.do_pad else smallest

    def _places(self, windows: list[list[Window]]) -> dict[str, Any]:
        if not self.do_split_image:
            return {}
        longs = [(place, max(part, key=lambda line: line.start)) for place, own in enumerate(windows) for part in own]
        return {"patch_offsets": [torch.tensor([place, line.start, line.stop]) for place, line in longs]}

    def _stock_settings(self) -> dict[str, Any]:
        settings = self.settings()
        if self.do_split_image and "shortest_edge" in self.size:
            # transformers makes canvases as wide as the longest edge, if there is one, also for windows.
            settings["size"] = {"shortest_edge": self.size["shortest_edge"]}
        if self.do_reduce_labels:
            settings["ignore_index"] = 255 if self.ignore_index is None else self.ignore_index
        elif self.ignore_index is not None:
            raise ValueError(
                "transformers' EomtImageProcessor lowers all labels by one where ignore_index is set: of this one, "
                f"ignore_index={self.ignore_index} must be None, or do_reduce_labels True."
            )
        return settings
