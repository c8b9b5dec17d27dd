# SPDX-License-Identifier: Apache-2.0
"""Small files of weights that would fill memory or never end."""

import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch

from unisegment.ops.weight_files import read_weight_file, require_sound, weights_in

LAUGHS = b"\x80\x02]q\x00(" + b"K\x01" * 10 + b"e"
"""A list of ten numbers; then lists that hold the one before ten times."""
for level in range(1, 10):
    LAUGHS += b"]q" + bytes([level]) + b"(" + (b"h" + bytes([level - 1])) * 10 + b"e"
NESTED_KEY = b"\x80\x02}K\x01\x85q\x00"
for level in range(1, 40):
    NESTED_KEY += (b"h" + bytes([level - 1])) * 2 + b"\x86q" + bytes([level])
NESTED_KEY += b"K\x01s."  # its hash takes 2 to the 40 steps


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (LAUGHS + b".", "it refers to the same values so often that they unfold to"),
        (NESTED_KEY, "it refers to the same values so often"),
        (b"\x80\x02}r\x00\x00\x00\x10.", "it asks for a table of 268435456 values, but has 2 so far"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"a.", "it has a value of 1099511627776 bytes, in a file of 13"),
        (b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"}.", "it has a value of 1099511627776 bytes"),
        (b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".", "unfold"),
        (b"\x80\x04\x95" + struct.pack("<Q", 2) + b"}\x8c\x00.", "it has a frame that does not end between"),
        (b"\x80\x04\x95" + struct.pack("<Q", 12) + b"}0\x95" + struct.pack("<Q", 2) + b"}.", "it has a frame that"),
        (b"\x80\x02}", "its pickle has no end"),
        (b"\x80\x02cbuiltins\nbytearray\n\x8a\x06" + bytes(5) + b"\x01\x85R.", "it asks for a bytearray"),
    ],
)
def test_a_pickle_that_would_grow_is_refused_before_it_is_read(tmp_path, content, reason):
    (tmp_path / "model.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        read_weight_file(tmp_path / "model.pkl")
    with zipfile.ZipFile(tmp_path / "model.pth", "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3")
    for read in (read_weight_file, require_sound):
        with pytest.raises(ValueError, match=reason):
            read(tmp_path / "model.pth")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_values_that_are_shared_stay_shared(tmp_path, protocol):
    shared, ring = [1, (2.5, "text", b"bytes", None, True)], []
    ring.append(ring)
    content = {"model": {"w": np.ones(3)}, "options": [shared] * 100, "ring": ring, "many": list(range(3000))}
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(content, protocol))
    found = read_weight_file(tmp_path / "model.pkl")
    assert found["options"][0] is found["options"][99] == [1, [2.5, "text", b"bytes", None, True]]
    assert found["ring"][0] is found["ring"]
    assert found["many"] == content["many"]


def test_a_zip_file_that_expands_is_refused(tmp_path):
    torch.save({"model": {"w": torch.zeros(1000)}}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in plain.infolist():
            bomb.writestr(entry.filename, plain.read(entry))
    with pytest.raises(ValueError, match=r"bomb.pth' cannot .* bytes unpack to \d+, but torch.save compresses nothing"):
        read_weight_file(tmp_path / "bomb.pth")


@pytest.mark.parametrize("is_zip", [True, False])
def test_weights_are_no_larger_than_their_file(tmp_path, is_zip):
    one = torch.zeros(1)
    torch.save({"w": one.expand(2**16, 2**20)}, tmp_path / "w.pth", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ValueError, match=r"w.pth' has \d+ bytes, but its weights are 274877906944"):
        weights_in(read_weight_file(tmp_path / "w.pth"), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w.pth' .*274877906944"):
        require_sound(tmp_path / "w.pth")
    torch.save({"a": one, "b": one, "c": torch.zeros(3)}, tmp_path / "tied.pth", _use_new_zipfile_serialization=is_zip)
    require_sound(tmp_path / "tied.pth")
    assert set(weights_in(read_weight_file(tmp_path / "tied.pth"), tmp_path / "tied.pth")) == {"a", "b", "c"}


def test_sparse_weights_are_refused(tmp_path):
    torch.save({"w": torch.eye(3).to_sparse()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="holds sparse or quantised tensors"):
        weights_in(read_weight_file(tmp_path / "w.pth"), tmp_path / "w.pth")


def test_a_file_of_two_kinds_is_refused(tmp_path):
    torch.save({"w": torch.zeros(3)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"w": torch.zeros(3)}, tmp_path / "new.pth")
    (tmp_path / "both.bin").write_bytes((tmp_path / "old.pth").read_bytes() + (tmp_path / "new.pth").read_bytes())
    for read in (read_weight_file, require_sound):
        with pytest.raises(ValueError, match="it is a zip file to some readers alone"):
            read(tmp_path / "both.bin")
