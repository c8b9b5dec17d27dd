# SPDX-License-Identifier: Apache-2.0
"""Kinds of damage that data sets have, each made in a small sound data set: `DAMAGES`, and `write_damaged`.

A damage is a function that is given the folder of a data set; what it is called is what it does.
"""

from tests.checking import damage_coco, damage_exports, damage_images  # noqa: F401  # they fill the list
from tests.checking.damage_kinds import DAMAGES, Damage
from tests.checking.format_trees import TREES

__all__ = ["DAMAGES", "Damage", "write_damaged"]


def write_damaged(damage, root):
    """Write the data set of a damage, damaged."""
    TREES[damage.data_format](root)
    damage.make(root)
