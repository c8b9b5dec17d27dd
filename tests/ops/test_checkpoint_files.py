# SPDX-License-Identifier: Apache-2.0
"""Files beside each other that name each other: what is wrong in one is said of it."""

import errno
import json
import os

import pytest
import torch
from safetensors.torch import save_file

from unisegment.files import WriteError
from unisegment.ops import checkpoint_files
from unisegment.ops.checkpoint_files import (
    find_file,
    named,
    object_in,
    read_object,
    require_whole,
    weight_bytes,
    weight_files,
)

INDEX = "model.safetensors.index.json"


def write_index(folder, weight_map, **others):
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map} | others))


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[1]", b"null", b"5", b'"text"', b"{", b"\xff{}", b"{1: 2}", b"[" * 100_000,
        b'{"a": ' + b"1" * 5000 + b"}", b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}",
    ],
)  # fmt: skip
def test_a_file_that_is_no_json_object_is_named(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    for read in (
        lambda: read_object(tmp_path, "config.json"),
        lambda: read_object(tmp_path / "config.json", "any"),
        lambda: object_in(tmp_path / "config.json"),
    ):
        with pytest.raises(ValueError, match=r"config\.json"):
            read()
    assert read_object(tmp_path, "other.json") is None


def test_errors_get_a_place():
    with pytest.raises(ValueError, match=r"^there, key: 5, expected 6\.$"), named("there"):
        raise ValueError("key: 5, expected 6.")


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"w": "../outside.safetensors"}, r"index.json, '../outside.safetensors' is no name of a file in"),
        ({"w": "/etc/passwd"}, r"index.json, '/etc/passwd' is no name of a file in"),
        ({"w": "a\\b.safetensors"}, "is no name of a file in"),
        ({"w": "missing.safetensors"}, r"index.json, weight_map: 'missing.safetensors' is not there"),
        ({"w": 5}, r"index.json, weight_map: {'w': 5}, expected a mapping"),
        (["a.safetensors"], r"weight_map: \['a.safetensors'\], expected a mapping"),
        (None, "weight_map: None, expected a mapping"),
    ],
)
def test_an_index_names_files_of_its_folder(tmp_path, weight_map, message):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for place in (folder / "a.safetensors", tmp_path / "outside.safetensors"):
        save_file({"w": torch.zeros(2)}, place)
    write_index(folder, weight_map)
    with pytest.raises(ValueError, match=message):
        weight_bytes(folder)
    write_index(folder, {"w": "a.safetensors", "v": "a.safetensors"})
    assert weight_bytes(folder) == (folder / "a.safetensors").stat().st_size
    assert weight_files(folder) == [str(folder / "a.safetensors")]
    write_index(folder, {"w": "a.safetensors"}, metadata=[])
    with pytest.raises(ValueError, match=r"metadata: \[\], expected a mapping"):
        weight_bytes(folder)


def test_the_files_are_those_that_transformers_reads(tmp_path):
    assert (weight_bytes(tmp_path), weight_files(tmp_path)) == (None, [])
    torch.save({"w": torch.zeros(1000)}, tmp_path / "pytorch_model.bin")
    torch.save({"w": torch.zeros(2000)}, tmp_path / "pytorch_model.half.bin")
    assert 4000 < weight_bytes(tmp_path) < 8000 < weight_bytes(tmp_path, variant="half")
    assert weight_bytes(tmp_path, use_safetensors=True) is None
    save_file({"w": torch.zeros(3000)}, tmp_path / "model.safetensors")
    assert weight_bytes(tmp_path) > 12_000 > weight_bytes(tmp_path, use_safetensors=False)
    assert weight_bytes(tmp_path, file_name="model.safetensors") > 12_000
    for name in ("../x", 5):
        with pytest.raises(ValueError, match=r"is no name of a file in|transformers_weights: 5, expected"):
            weight_bytes(tmp_path, file_name=name)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02}r\x00\x00\x00\x10.")
    with pytest.raises(ValueError, match=r"torch.save did not write it"):
        weight_bytes(tmp_path, use_safetensors=False)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_cache_of_the_hub_that_cannot_be_written_is_named(monkeypatch, tmp_path, number):
    def fail(*words, **keywords):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checkpoint_files, "cached_file", fail)
    with pytest.raises(WriteError, match=f"^{tmp_path} could not be written: {os.strerror(number)}"):
        find_file("someone/model", "config.json", cache_dir=tmp_path)
    monkeypatch.setattr(checkpoint_files, "is_peft_available", lambda: True)
    with pytest.raises(WriteError, match=f"^{tmp_path} could not be written"):
        require_whole("someone/model", cache_dir=tmp_path)


def test_a_connection_that_fails_is_no_matter_of_the_disk(monkeypatch):
    def fail(*words, **keywords):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

    monkeypatch.setattr(checkpoint_files, "cached_file", fail)
    with pytest.raises(ConnectionRefusedError):
        find_file("someone/model", "config.json")
