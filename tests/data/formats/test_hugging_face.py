# SPDX-License-Identifier: Apache-2.0
"""The options of the format reach the reader, which is imported when it is needed."""

import subprocess
import sys

from tests.data.rows import save, semantic_rows
from unisegment.data.formats import FORMATS, open_data_set
from unisegment.data.reading.hugging_face_images import HuggingFaceImages


def test_options_reach_the_reader(tmp_path):
    save(tmp_path, semantic_rows())
    images = open_data_set(f"{tmp_path}/parquet", "hugging_face", "val", streaming=True, columns={"semantic": "label"})
    assert isinstance(images, HuggingFaceImages)
    assert (len(images), images.block_bounds is None) == (3, False)
    assert not FORMATS["hugging_face"].is_folder


def test_datasets_is_not_imported_for_its_layout():
    code = "import sys; from unisegment.data.formats import FORMATS as f; f['hugging_face']; print(*sys.modules)"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "datasets" not in asked.stdout.split()
