# SPDX-License-Identifier: Apache-2.0
"""Values of files are of the kind that is expected, or a ValueError of one line that says which is not."""

import pytest

from unisegment.ops.json_values import (
    INT32,
    is_number,
    read_each,
    read_flag,
    read_id,
    read_number,
    read_text,
    read_whole_number,
    shown,
    value_of,
)

DEEP = []
for _ in range(5000):
    DEEP = [DEEP]
STRANGE = [None, True, [], [1], {}, {"a": 1}, float("nan"), float("inf"), -float("inf"), 2**64, -(2**64), 10**400,
           "x" * 10**6, "\0", "a\0", "\ud800", DEEP]  # fmt: skip


def _refusal(read, *arguments):
    with pytest.raises(ValueError, match=r"^k ") as caught:
        read(*arguments)
    message = str(caught.value)
    assert len(message) < 200
    assert "\n" not in message
    return message


@pytest.mark.parametrize("value", STRANGE, ids=lambda value: shown(value)[:20])
def test_strange_values_are_refused_in_a_short_line(value):
    entry = {"k": value}
    _refusal(read_whole_number, entry, "k")
    _refusal(read_id, entry, "k")
    _refusal(read_text, entry, "k")
    if value not in (None, True):
        _refusal(read_flag, entry, "k")
    if value not in (2**64, -(2**64)):
        _refusal(read_number, entry, "k")
    with pytest.raises(ValueError, match=r"it must be an object with k, got "):
        value_of({"a": value}["a"] if not isinstance(value, dict) else [value], "k")


def test_values_that_are_expected_are_returned():
    assert read_whole_number({"k": 3.0}, "k") == 3
    assert isinstance(read_whole_number({"k": 3.0}, "k"), int)
    assert read_number({}, "k", default=7.5) == read_number({"k": None}, "k", default=7.5) == 7.5
    assert read_id({"id": "x"}) == "x"
    assert read_id({"id": 20.0}) == 20
    assert read_text({"k": "caf\u00e9 \udcff.jpg"}, "k") == "caf\u00e9 \udcff.jpg"
    assert read_number({"k": 3}, "k") == 3.0
    assert is_number(2**64)


def test_ranges_are_named():
    assert _refusal(read_whole_number, {"k": 5}, "k", 0, 4) == "k must be a whole number from 0 to 4, got 5"
    assert (
        _refusal(read_whole_number, {"k": 2**31}, "k", *INT32) == "k must be a whole number of 32 bits, got 2147483648"
    )
    assert _refusal(read_whole_number, {"k": 2.5}, "k") == "k must be a whole number of 64 bits, got 2.5"
    assert _refusal(read_whole_number, {}, "k") == "k is missing"


def test_entries_of_a_list_are_named():
    with pytest.raises(ValueError, match=r"^segments\[1\]: id is missing$"):
        read_each([{"id": 1}, {}], "segments", read_id)
    with pytest.raises(ValueError, match=r"^segments\[0\]: it must be an object with id, got 7$"):
        read_each([7], "segments", read_id)
    with pytest.raises(ValueError, match=r"^segments must be a list, got \{\}$"):
        read_each({}, "segments", read_id)
