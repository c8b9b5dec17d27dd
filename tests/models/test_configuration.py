# SPDX-License-Identifier: Apache-2.0
"""What configs of all families share, seen in one that has two keys of its own."""

from typing import ClassVar

import pytest

from unisegment.models.configuration import SegmentationConfig
from unisegment.ops.value_kinds import whole


class ToyConfig(SegmentationConfig):
    model_type = "toy_family"
    kinds: ClassVar = {"width": whole(1, 64)}
    legacy_keys: ClassVar = frozenset(("height",))
    attribute_map: ClassVar = {"hidden_size": "width"}

    width: int = 8

    def check_sizes(self) -> None:
        if self.width % 2:
            raise ValueError(f"width must be even, got {self.width}.")


def test_keys_of_the_family_are_checked_wherever_they_come_from():
    with pytest.raises(ValueError, match=r"'widht' is not a key of ToyConfig. The nearest valid one is 'width'"):
        ToyConfig(widht=2)
    with pytest.raises(ValueError, match="width: 65, expected a whole number from 1 to 64"):
        ToyConfig(width=65)
    with pytest.raises(ValueError, match="width: 'six', expected a whole number"):
        ToyConfig.from_dict({"hidden_size": "six"})
    with pytest.raises(ValueError, match="width must be even, got 7"):
        ToyConfig(width=7)
    config = ToyConfig()
    with pytest.raises(ValueError, match="width: 0, expected"):
        config.width = 0


def test_old_keys_are_dropped_and_unknown_ones_of_a_file_are_kept():
    config = ToyConfig.from_dict({"width": 6, "height": 3, "of_a_later_release": 5})
    assert config.width == config.hidden_size == 6
    assert config.to_dict()["of_a_later_release"] == 5
    assert "height" not in config.to_dict()


def test_categories_name_the_classes_and_follow_them():
    entries = [{"id": 7, "name": "sky", "isthing": 0}, {"id": 3, "name": "car", "isthing": 1}]
    config = ToyConfig(categories=entries)
    assert config.id2label == {0: "sky", 1: "car"}
    turned = ToyConfig.from_dict(config.to_dict(), id2label={0: "car", 1: "sky"})
    assert [entry["id"] for entry in turned.categories] == [3, 7]


def test_a_config_of_another_family_is_refused():
    with pytest.raises(ValueError, match="of model_type 'unisegment', and ToyConfig is that of 'toy_family'"):
        ToyConfig.from_dict({"model_type": "unisegment"})
