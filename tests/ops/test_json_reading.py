# SPDX-License-Identifier: Apache-2.0
"""Lists in a JSON file are gone through one entry at a time, with the same content as json.loads."""

import json
import tracemalloc

import pytest

from unisegment.ops import json_reading
from unisegment.ops.json_reading import iterate_json_lists, read_json, read_json_lists

CONTENT = {
    "info": {"year": [2017, {"a": "]"}]},
    "images": [{"id": 3, "name": "a, ]}\u00e9"}, {"id": 5}],
    "empty": [],
    "number": -1.5e300,
    "nested": [[1, 2], [], "x", None, -12345.25e-12, 10**20, True, -0.5, 1e17],
}


@pytest.mark.parametrize("indent", [None, 0, 3])
@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 31, 2**20])
def test_entries_are_those_of_the_file(tmp_path, monkeypatch, indent, chunk):
    """However little of the file is in memory at a time, no entry is cut in two."""
    monkeypatch.setattr(json_reading, "_CHUNK", chunk)
    file = tmp_path / "a.json"
    file.write_text("\n " + json.dumps(CONTENT, indent=indent, ensure_ascii=False) + " \n", encoding="utf-8")
    expected = [(key, entry) for key, value in CONTENT.items() if isinstance(value, list) for entry in value]
    assert list(iterate_json_lists(file)) == expected
    assert read_json(file) == CONTENT


@pytest.mark.parametrize("chunk", range(1, 9))
def test_numbers_are_not_cut_in_two(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_reading, "_CHUNK", chunk)
    for text in ("12", "-1.25", "1e5", "-1E+05", "123.5e-17", "true"):
        (tmp_path / "a.json").write_text(f'{{"a": {text}, "b": [{text},{text} , {text}\n]}}')
        assert list(iterate_json_lists(tmp_path / "a.json")) == [("b", json.loads(text))] * 3


def test_memory_does_not_grow_with_the_file(tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"a": ["x" * 10_000 for _ in range(2_000)]}))
    assert file.stat().st_size > 20e6
    tracemalloc.start()
    try:
        assert sum(1 for _ in iterate_json_lists(file)) == 2_000
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


def test_what_is_no_list_is_kept_where_it_is_wanted(tmp_path):
    content = {"info": {"year": 2026}, "images": [1, 2], "version": None, "empty": []}
    (tmp_path / "a.json").write_text(json.dumps(content))
    others = {}
    assert list(iterate_json_lists(tmp_path / "a.json", others)) == [("images", 1), ("images", 2)]
    assert others == {"info": {"year": 2026}, "version": None}


def test_an_empty_object_has_no_lists(tmp_path):
    (tmp_path / "a.json").write_text("{ }", encoding="utf-8-sig")
    assert list(iterate_json_lists(tmp_path / "a.json")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expecting '{' at character 0"),
        ("<html>", "expecting '{' at character 0"),
        ('{"a": [1, 2', "expecting ']' at character 11"),
        ('{"a": [1 2]}', "expecting ']' at character 9"),
        ('{"a": [1,]}', "Expecting value at character 9"),
        ('{"a": [{"b" 1}]}', "Expecting ':' delimiter at character 12"),
        ("{[1]: [2]}", "expecting a key, a text in double quotes, at character 1"),
        ("{1: [2]}", "expecting a key, a text in double quotes, at character 1"),
        ('{"a" [1]}', "expecting ':' at character 5"),
        ('{"a": 1', "expecting '}' at character 7"),
        ('{"a": [1]} x', "expecting nothing more at character 11"),
        ('{"a": ', "Expecting value at character 6"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 2**20])
def test_broken_files_are_refused(tmp_path, monkeypatch, text, message, chunk):
    monkeypatch.setattr(json_reading, "_CHUNK", chunk)
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"a\.json is not valid JSON \({message}\): correct it, or fetch it again\."):
        list(iterate_json_lists(file))


def test_a_list_alone_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"a\.json must hold one JSON object with lists in it, but holds a list"):
        list(iterate_json_lists(tmp_path / "a.json"))


def test_other_encodings_and_missing_files_are_refused(tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes(b'{"a": ["\xff"]}')
    for read in (read_json, lambda file: list(iterate_json_lists(file))):
        with pytest.raises(ValueError, match=r"a\.json is not valid JSON"):
            read(file)
        with pytest.raises(FileNotFoundError, match=r"none\.json: there is no such file"):
            read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b'{"a": 1,\n "b"}', "Expecting ':' delimiter at line 2, column 5"),
        (b'{"a": "\xff"}', "the byte 0xff is not UTF-8"),
        (b"[" * 99999, "too many lists and objects are inside each other"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(tmp_path, content, reason):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="not valid JSON") as error:
        read_json(file)
    assert str(error.value) == f"{file} is not valid JSON ({reason}): correct it, or fetch it again."
    with pytest.raises(ValueError, match="not valid JSON") as error:
        read_json(file, "it")
    assert str(error.value) == f"it is not valid JSON ({reason})"


def test_every_entry_goes_to_the_reader_of_its_list(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"b": [1, 2], "c": [[3]], "d": [4], "e": []}))
    found = {"b": [], "c": [], "e": []}
    readers = {key: entries.append for key, entries in found.items()}
    read_json_lists(tmp_path / "a.json", readers, data_format="my format", hint="", optional=["e"])
    assert found == {"b": [1, 2], "c": [[3]], "e": []}


def test_a_refused_entry_is_named(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"b": [1, 2], "c": [1, 7, 2, 5], "other": [3]}))

    def refuse(entry):
        if entry == 2:
            raise ValueError("x must be 3")

    readers = {"b": lambda _: None, "c": refuse}
    message = r"a\.json is not in my format: c\[2\]: x must be 3\. Look again\.$"
    with pytest.raises(ValueError, match=message):
        read_json_lists(tmp_path / "a.json", readers, data_format="my format", hint="Look again.")


def test_missing_lists_are_named(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"b": [], "c": [1], "d": 3}))
    readers = dict.fromkeys("bcdef", lambda _: None)
    with pytest.raises(ValueError, match=r"a\.json is not in my format: it lists no b, d, f\."):
        read_json_lists(tmp_path / "a.json", readers, data_format="my format", hint="", optional=["e"])
