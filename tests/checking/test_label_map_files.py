# SPDX-License-Identifier: Apache-2.0
"""PNG files of labels: channels, ids and signs of smooth resizing; the damages show each kind."""

import pytest
from PIL import Image

from unisegment.checking.image_files import look_at
from unisegment.checking.label_map_files import check_label_map


def facts_of(file):
    return look_at(file, "missing-label-map")[0]


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("1", []), ("L", []), ("P", []), ("I;16", []), ("RGB", []), ("RGBA", ["label-map-channels"])],
)
def test_channels(tmp_path, mode, kind):
    Image.new(mode, (7, 5)).save(tmp_path / "a.png")
    assert [finding.kind for finding in check_label_map(tmp_path / "a.png", facts_of(tmp_path / "a.png"))] == kind
