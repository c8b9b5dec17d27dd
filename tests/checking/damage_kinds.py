# SPDX-License-Identifier: Apache-2.0
"""What a kind of damage is, and what making damage takes."""

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.checking.data_sets import edit_json
from unisegment.data.problems import KINDS

INSTANCES, PANOPTIC = "annotations/instances_train.json", "annotations/panoptic_train.json"
PANOPTIC_PNG = "annotations/panoptic_train/b.png"


class Damage(NamedTuple):
    """A kind of damage.

    `kind` is what `unisegment.checking` calls it, and `file` the end of the name of the file that is to be named.
    `image` is the number of the one training image that cannot be opened; None where the data set as a whole cannot be
    opened (errors), or all of it can (warnings). `also` are the errors that come with it.
    """

    name: str
    data_format: str
    kind: str
    file: str
    image: int | None
    make: Callable[[Any], None]
    also: tuple[str, ...] = ()

    @property
    def is_error(self) -> bool:
        """Whether training stops at it, or skips it."""
        return KINDS[self.kind].severity == "error"


DAMAGES: list[Damage] = []


def damage(data_format, kind, file, image=None, also=()):
    """Add a function to the list."""

    def add(make):
        DAMAGES.append(Damage(make.__name__, data_format, kind, file, image, make, also))
        return make

    return add


def cut(file, share=0.5):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])


def change_annotation(root, place, **changes):
    edit_json(root / INSTANCES, lambda content: content["annotations"][place].update(changes))


def add_copy(items, place, **changes):
    return items.append({**items[place], **changes})
