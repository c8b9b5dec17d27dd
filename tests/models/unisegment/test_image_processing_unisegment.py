# SPDX-License-Identifier: Apache-2.0
"""What is Mask2Former's own of its image processor; the rest is in `tests/models/test_image_processing.py`."""

import json

from transformers import Mask2FormerImageProcessorPil

from tests.models.test_image_processor_files import SETTINGS
from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor


def test_plain_transformers_reads_our_stock_file(tmp_path):
    assert UniSegmentImageProcessor.stock_class == Mask2FormerImageProcessorPil.__name__
    ours = UniSegmentImageProcessor(**SETTINGS)
    ours.save_pretrained(tmp_path, format="transformers")
    # The name by which every AutoImageProcessor finds the class.
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["image_processor_type"] == (
        "Mask2FormerImageProcessor"
    )
    stock = Mask2FormerImageProcessorPil.from_pretrained(tmp_path)
    for name in ("do_resize", "size_divisor", "do_rescale", "ignore_index", "do_reduce_labels", "num_labels"):
        assert getattr(stock, name) == SETTINGS[name]
    assert dict(stock.size) == SETTINGS["size"]
    assert UniSegmentImageProcessor.from_pretrained(tmp_path).settings() == SETTINGS
