# SPDX-License-Identifier: Apache-2.0
import pytest

from tests.data.export.checkers import check_cityscapes
from tests.data.export.predictions import export_all
from unisegment.data.categories import CITYSCAPES
from unisegment.data.export import open_export
from unisegment.data.export.format import ExportedImage
from unisegment.structures import Category

# Numbered as training ids, which the server does not take.
CATEGORIES = [Category(number, name, is_thing, (0, 0, 0)) for number, (name, is_thing) in enumerate(CITYSCAPES.items())]
THINGS = range(11, 19)


def test_files_are_as_the_server_wants_them(tmp_path):
    images = [
        ExportedImage("a", "berlin/berlin_000000_000019_leftImg8bit.png", (29, 43)),
        ExportedImage("b", "bonn_000001_000019_leftImg8bit.png", (41, 83)),
    ]
    predictions = export_all(open_export("cityscapes", tmp_path, CATEGORIES), images, THINGS)
    check_cityscapes(tmp_path, {"berlin_000000_000019": (29, 43), "bonn_000001_000019": (41, 83)})
    lines = (tmp_path / "instance" / "berlin_000000_000019_pred.txt").read_text().splitlines()
    assert len(lines) == len(predictions["a"]["instance"].segments_info) == 7


def test_other_labels_are_refused(tmp_path):
    with pytest.raises(ValueError, match="need labels of Cityscapes, got 1 such as"):
        open_export("cityscapes", tmp_path, [Category(1, "cow", True, (0, 0, 0))])
