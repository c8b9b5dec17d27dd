# SPDX-License-Identifier: Apache-2.0
import pytest
from huggingface_hub import ModelCard

from unisegment.ops.yaml_reading import parse_yaml, read_front_matter, read_yaml

LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}]\n" for old, new in zip("abcdefghijklmnopq", "bcdefghijklmnopqr", strict=True)
)
MERGED = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [*{old}, *{old}]}}\n"
    for old, new in zip("abcdefghijklmnopq", "bcdefghijklmnopqr", strict=True)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("no", "no"), ("on", "on"), ("true", True), ("~", None), ("", None), ("2001-13-45", "2001-13-45")),
        *(("1e-4", 1e-4), ("-2.5E+3", -2500.0), (".5", 0.5), ("7", 7), ("1_000", 1000), ("0x1F", 31)),
        *(("0x_", "0x_"), ("08", "08"), ("1:30", "1:30"), ("9" * 5000, "9" * 5000)),
        ("{a: &x {b: 1}, c: {<<: *x, d: [*x]}}", {"a": {"b": 1}, "c": {"b": 1, "d": [{"b": 1}]}}),
    ],
)
def test_words_and_numbers_are_those_of_yaml_1_2_and_dates_are_texts(text, value):
    parsed = parse_yaml(text, "here")
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n{", "f.yaml, line 2: this is not YAML: while parsing a flow node"),
        ("a: 1\n\t- b", "f.yaml, line 2: this is not YAML: .* cannot start any token"),
        ("a: \x07", "f.yaml: this is not YAML: unacceptable character #x0007"),
        ("*a", "f.yaml, line 1: this is not YAML: found undefined alias 'a'"),
        ("a: 1\nb: 2\na: 3", "f.yaml, line 3: the key 'a' is there twice"),
        ("{[1]: 2}", "f.yaml, line 1: this is not YAML: .* unhashable key"),
        ("a: &a [*a]", "f.yaml, line 1: a value contains itself"),
        ("[" * 500, "f.yaml, line 1: more than 50 lists and mappings are inside each other"),
        ("- " * 500 + "a", "f.yaml, line 1: more than 50 lists and mappings"),
        (LAUGHS, "f.yaml, line 13: there are more than 20,000 values, counting what aliases repeat"),
        (MERGED, "f.yaml, line 1.: there are more than 20,000 values"),
        ("[" + "1," * 20_001 + "]", "more than 20,000 values"),
        ("a: !!python/object/apply:os.getcwd []", "line 1: '!!python/object/apply:os.getcwd' is no kind of value here"),
        *(
            (f"!!{tag} {{}}", f"'!!{tag}' is no kind of value")
            for tag in ("set", "omap", "pairs", "binary", "timestamp")
        ),
        ("!!int x", "f.yaml: this is not YAML: invalid literal"),
        ("!!int ''", "f.yaml: this is not YAML"),
        ("!!bool maybe", "f.yaml: this is not YAML: 'maybe'"),
        (r'"\0"', r"f.yaml, line 1: the text '\\x00' has a character that no file can hold"),
        (r'"\ud800"', r"f.yaml, line 1: the text '\\ud800' has a character"),
    ],
)
def test_what_is_no_settings_is_refused_in_one_line(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_yaml(text, "f.yaml")
    assert "\n" not in str(caught.value)


def test_small_texts_that_stand_for_much_are_small():
    assert len(LAUGHS) < 300  # of 2**18 values


def test_files_in_other_encodings_and_large_ones_are_refused_by_name(tmp_path):
    file = tmp_path / "f.yaml"
    file.write_bytes(b"a: 1\nb: \xff")
    with pytest.raises(
        ValueError, match=r"f\.yaml, line 2: the byte 0xff is not UTF-8. Save the file in that encoding"
    ):
        read_yaml(file)
    file.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(ValueError, match=r"f\.yaml has more than 1,048,576 bytes"):
        read_yaml(file)
    file.write_bytes("\ufeffa: é".encode())
    assert read_yaml(file) == {"a": "é"}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_metadata_of_a_card_are_those_that_the_hub_reads(tmp_path, end):
    file = tmp_path / "README.md"
    text = end.join(("---", "license: mit", "x: &a [1]", "y: *a", "---  ", "# A card", "---")).replace("\r#", "\n#")
    file.write_bytes(text.encode() if end != "\r" else text.replace("---  \r", "---  \n").encode())
    assert read_front_matter(file) == {"license": "mit", "x": [1], "y": [1]}
    assert ModelCard.load(file).data.license == "mit"
    file.write_text("# A card")
    assert read_front_matter(file) is None


def test_metadata_that_are_none_are_refused_by_name(tmp_path):
    file = tmp_path / "README.md"
    file.write_text("---\n[\n---\n")
    with pytest.raises(ValueError, match=r"README\.md, line 2: this is not YAML"):
        read_front_matter(file)
    file.write_text("---\na: b\n" + "#" * 2**20 + "\n---\n")
    with pytest.raises(ValueError, match=r"README\.md: its metadata have more than 1,048,576 bytes"):
        read_front_matter(file)


def test_a_card_may_name_many_classes(tmp_path):
    (tmp_path / "README.md").write_text("---\nnames: [" + "a," * 30_000 + "]\n---\n")
    assert len(read_front_matter(tmp_path / "README.md")["names"]) == 30_000
