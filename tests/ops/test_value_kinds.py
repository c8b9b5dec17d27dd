# SPDX-License-Identifier: Apache-2.0
import pytest

from unisegment.ops.json_values import shown
from unisegment.ops.value_kinds import (
    FLAG,
    NOTHING,
    TEXT,
    entries_of,
    list_of,
    mapping_of,
    number,
    one_of,
    require,
    require_all,
    require_free,
    whole,
)

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("kind", "fitting", "others"),
    [
        (whole(1, 9), [1, 9], [0, 10, True, 5.0, "5", None, [5], NAN, 10**400]),
        (number(0, 1), [0, 0.5, 1], [-0.1, 1.1, True, "0.5", NAN, INFINITY, None, 10**400]),
        (number(0, 1, above=True), [1e-9, 1], [0, -1, 2, NAN]),
        (FLAG, [True, False], [0, 1, None, "true"]),
        (TEXT, ["", "a"], ["a" * 10_001, b"a", 1, None]),
        (one_of("a", "b"), ["a", "b"], ["c", ["a"], {"a": 1}, None]),
        (list_of(whole(1, 9), 1, 3), [[1], (1, 2, 3)], [[], [1, 2, 3, 4], [0], [True], "123", {1: 1}, None]),
        (mapping_of(whole(1, 9), 2), [{}, {"a": 1, "b": 2}], [{"a": 0}, {1: 1}, dict.fromkeys("abc", 1), [1]]),
        (FLAG | NOTHING, [True, None], [0, "null"]),
    ],
)
def test_kinds(kind, fitting, others):
    for value in fitting:
        require("key", value, kind)
    for value in others:
        with pytest.raises(ValueError, match=r"^key: .*, expected .*\.$") as caught:
            require("key", value, kind)
        assert kind.expected in str(caught.value)
        assert len(str(caught.value)) < 300
    with pytest.raises(ValueError, match=r"^b: "):
        require_all({"a": fitting[0], "b": others[0], "c": others[0]}, {"a": kind, "b": kind})


def test_values_are_shown_in_less_than_a_line():
    shared = [1]
    for _ in range(30):
        shared = [shared] * 10
    for value in (shared, "x" * 10**6, list(range(10**5)), {"a" * 999: list(range(999))}, 10**5000):
        assert len(shown(value)) < 400
    assert shown({"a": [1, "b"]}) == "{'a': [1, 'b']}"


def test_entries_of_nested_values():
    found = dict(entries_of({"a": [1, {"b": 2}]}, "top", deepest=3))
    assert {place: value for place, value in found.items() if isinstance(value, int)} == {
        "top.a[0]": 1,
        "top.a[1].b": 2,
    }
    with pytest.raises(ValueError, match="too deep in each other"):
        list(entries_of([[[[1]]]], "top", deepest=3))


def test_names_of_parts_are_not_free():
    require_free(["anything"], dict)
    with pytest.raises(ValueError, match="'items' is the name of a part of dict"):
        require_free(["items"], dict)
