# SPDX-License-Identifier: Apache-2.0
r"""Names of images as tools write them into annotation files in, the files that they mean out.

Tools write folders of their own computer, `\` between folders, `%20` for a space, and addresses of their own server.

Source: the documentation of COCO exports of Label Studio (https://labelstud.io/guide/export,
https://labelstud.io/guide/storage: `/data/upload/…`, `/data/local-files/?d=…`), CVAT
(https://docs.cvat.ai/docs/dataset_management/formats/format-coco/) and FiftyOne
(https://docs.voxel51.com/user_guide/export_datasets.html: absolute paths).
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from os.path import isfile
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote

from unisegment.data.reading.label_maps import IMAGE_ENDINGS, files_under
from unisegment.data.reading.packed_columns import PackedTexts

_LOCAL_FILES = re.compile(r"^.*/local-files/\?d=")
_ADDRESS = re.compile(r"^[a-z0-9]+://[^?#]*")


class ImageFinder:
    r"""Finds images in a folder.

    A name means the file that it names as it is; or else without URL escapes and with `/` for `\`; or else the one
    image of the folder, or of a folder in it, that has its last part, if no other name ends in that. It never means a
    file outside of the folder.

    Args:
        folder: The folder.
        names: All names that are asked for.
    """

    def __init__(self, folder: Path, names: PackedTexts) -> None:
        self.folder = folder
        self._names = names
        self._images: PackedTexts | None = None
        for name in names:  # so that worker processes share what is known of the folder, if it has to be looked into
            self.find(name)
            break

    def find(self, name: str) -> Path:
        """Return the file that a name means; where there is none, where it should be."""
        expected = None
        for reading in _readings(name):
            path = self.folder / reading
            if isfile(path):  # unlike Path's, it takes names that are too long
                return path
            expected = expected or path
        last = _last_part(name)
        if self._images is None:
            self._images = self._known()
        place = bisect_left(self._images, last, key=_last_part)
        if place < len(self._images) and _last_part(self._images[place]) == last:
            return self.folder / self._images[place]
        return expected or self.folder / last

    def unlisted(self) -> Iterator[Path]:
        """Give the images in the folder that no name means."""
        meant = set(map(self.find, self._names))
        return (path for name in sorted(self._images_there()) if (path := self.folder / name) not in meant)

    def _images_there(self) -> list[str]:
        return [name for name in files_under(self.folder) if name.lower().endswith(IMAGE_ENDINGS)]

    def _known(self) -> PackedTexts:
        """Return the images that are known by the last part of their name alone, sorted by that part."""
        images = self._images_there()
        there, wanted = (Counter(map(_last_part, names)) for names in (images, self._names))
        alone = [name for name in images if there[_last_part(name)] == 1 and wanted[_last_part(name)] <= 1]
        return PackedTexts(sorted(alone, key=_last_part))


def _readings(name: str) -> Iterator[str]:
    """Give the paths in a folder that a name may stand for."""
    plain = _plain(name)
    for reading in dict.fromkeys((name, plain)):
        as_path = PureWindowsPath(reading)  # which knows both `/` and `\`
        if ".." not in as_path.parts and not as_path.anchor:
            yield reading


def _last_part(name: str) -> str:
    return _plain(name).rsplit("/", 1)[-1]


def _plain(name: str) -> str:
    path = _LOCAL_FILES.sub("", name)
    address = _ADDRESS.match(path)
    path = address[0] if address else path
    return unquote(path).replace("\\", "/")
