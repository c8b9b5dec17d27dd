# SPDX-License-Identifier: Apache-2.0
"""Lists in a JSON file are gone through one entry at a time, with the same content as json.loads."""

import json

import pytest

from unisegment.data.json_reading import iterate_json_lists, read_json

CONTENT = {
    "info": {"year": [2017, {"a": "]"}]},
    "images": [{"id": 3, "name": "a, ]}\u00e9"}, {"id": 5}],
    "empty": [],
    "number": -1.5e3,
    "nested": [[1, 2], [], "x", None],
}


@pytest.mark.parametrize("indent", [None, 0, 3])
def test_entries_are_those_of_the_file(tmp_path, indent):
    file = tmp_path / "a.json"
    file.write_text("\n " + json.dumps(CONTENT, indent=indent, ensure_ascii=False) + " \n", encoding="utf-8")
    expected = [(key, entry) for key, value in CONTENT.items() if isinstance(value, list) for entry in value]
    assert list(iterate_json_lists(file)) == expected
    assert read_json(file) == CONTENT


def test_an_empty_object_has_no_lists(tmp_path):
    (tmp_path / "a.json").write_text("{ }", encoding="utf-8-sig")
    assert list(iterate_json_lists(tmp_path / "a.json")) == []


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"a": [1, 2', '{"a": [1 2]}', '{"a": [1,]}', '{"a" [1]}', '{"a": 1', '{"a": [1]} x', '{"a": ']
)
def test_broken_files_are_refused(tmp_path, text):
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON .*fetch it again"):
        list(iterate_json_lists(file))


def test_other_encodings_and_missing_files_are_refused(tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes(b'{"a": ["\xff"]}')
    for read in (read_json, lambda file: list(iterate_json_lists(file))):
        with pytest.raises(ValueError, match=r"a\.json is not valid JSON"):
            read(file)
        with pytest.raises(FileNotFoundError, match=r"none\.json: there is no such annotation file"):
            read(tmp_path / "none.json")
