# SPDX-License-Identifier: Apache-2.0
"""Images and annotations in, the model's input out; the model's output in, predictions out."""

from typing import ClassVar

from unisegment.models.image_processing import ImageProcessor


class UniSegmentImageProcessor(ImageProcessor):
    """Prepare images for Mask2Former and read its output; keywords and methods are those of `ImageProcessor`."""

    stock_class: ClassVar[str] = "Mask2FormerImageProcessorPil"
