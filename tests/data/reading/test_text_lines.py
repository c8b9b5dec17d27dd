# SPDX-License-Identifier: Apache-2.0
"""Lines of text files: numbered as an editor numbers them, whatever system wrote them."""

import pytest

from unisegment.data.problems import DataError
from unisegment.data.reading.text_lines import read_lines


@pytest.mark.parametrize("content", [b"a\n\n  b\n \n", b"\xef\xbb\xbfa\r\n\r\n  b", b"a\r\r  b\r"])
def test_lines_are_numbered(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    assert read_lines(tmp_path / "a.txt") == [(1, "a"), (3, "  b")]


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (
            b"a\nb\xff",
            "wrong-structure",
            r"a\.txt: line 2: the byte 0xff is not UTF-8\. Save the file in that encoding\.",
        ),
        (b"\xff\xfea\0", "wrong-structure", "line 1: the byte 0xff"),
        (b"a" * 11, "unreadable-file", "it cannot be read: it has more than 10 bytes"),
    ],
)
def test_what_is_no_text_is_said(tmp_path, content, kind, message):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_lines(tmp_path / "a.txt", largest=10)
    assert caught.value.problem.kind == kind


def test_what_cannot_be_opened_is_said(tmp_path):
    with pytest.raises(DataError, match="it cannot be read") as caught:
        read_lines(tmp_path)
    assert caught.value.problem.kind == "unreadable-file"
