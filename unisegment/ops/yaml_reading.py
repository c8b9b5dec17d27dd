# SPDX-License-Identifier: Apache-2.0
"""YAML text in, plain values out: texts, numbers, true and false, null, lists and mappings, and no others.

A small text may stand for a large value, by aliases of aliases. What it stands for is counted before any of it is made.
"""

import re
from pathlib import Path
from typing import Any, NoReturn

import yaml

_LARGEST_FILE = 2**20
"""Bytes."""
_DEEPEST = 50
"""Lists and mappings inside each other."""
_MOST_VALUES = 20_000
"""Keys, and values of lists and mappings, each as often as an alias repeats it."""
_MOST_IN_A_CARD = 1_000_000
"""The same for a card, which may list the names of all classes."""
# As huggingface_hub finds it.
_FRONT_MATTER = re.compile(r"\s*---(?:\r\n|\r|\n)(.*?)(?:\r\n|\r|\n)---[ \t]*(?:\r\n|\n|$)", re.DOTALL)
_REFUSED_CHARACTERS = re.compile(r"[\0\ud800-\udfff]")
"""Escapes can name them, but neither names nor files hold them."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2's booleans and numbers: in the older YAML of the base class `no` is False and `1e-4` is a text."""

    def __init__(self, text: str, most: int) -> None:
        super().__init__(text)
        self._most = most
        self._depth = self._count = 0
        self._sizes: dict[yaml.Node, int] = {}
        """How many values each finished node stands for."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return the next node, if what it stands for is within the limits."""
        mark, is_alias, before = self.peek_event().start_mark, self.check_event(yaml.AliasEvent), self._count
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _Refused(f"more than {_DEEPEST} lists and mappings are inside each other", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        assert node is not None
        if is_alias and node not in self._sizes:
            raise _Refused("a value contains itself, by an alias", mark)
        self._count += self._sizes[node] if is_alias else 1
        self._sizes.setdefault(node, self._count - before)
        if self._count > self._most:
            raise _Refused(f"there are more than {self._most:,} values, counting what aliases repeat", mark)
        if isinstance(node, yaml.MappingNode) and not is_alias:
            _refuse_repeated_keys(node)
        if isinstance(node, yaml.ScalarNode) and _REFUSED_CHARACTERS.search(node.value):
            raise _Refused(f"the text {node.value!r} has a character that no file can hold", mark)
        return node

    def refuse_tag(self, node: yaml.Node) -> NoReturn:
        """Raise the error for a tag of another kind of value."""
        raise _Refused(
            f"{node.tag.replace('tag:yaml.org,2002:', '!!')!r} is no kind of value here: write texts, numbers, true, "
            "false, null, lists and mappings, without a tag", node.start_mark,
        )  # fmt: skip


class _Refused(yaml.MarkedYAMLError):
    def __init__(self, problem: str, mark: yaml.Mark) -> None:
        super().__init__(problem=problem, problem_mark=mark)


_KINDS = ("null", "str", "seq", "map", "merge")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] in _KINDS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), [*"tTfF"])
# Python reads no longer ones.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9_]{0,999}|0x[0-9a-fA-F]{1,99})$"), [*"-+0123456789"]
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?((([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?)|[0-9]+[eE][-+]?[0-9]+|\.inf|\.nan)$"),
    [*"-+.0123456789"],
)
_Loader.yaml_constructors = {
    tag: make
    for tag, make in yaml.SafeLoader.yaml_constructors.items()
    if tag is not None and tag.rpartition(":")[2] in (*_KINDS, "bool", "int", "float")
}
_Loader.add_constructor(None, _Loader.refuse_tag)


def read_yaml(file: Path) -> Any:
    """Return the value that a YAML file stands for.

    Raises:
        OSError: When it cannot be read.
        ValueError: When it is larger than 1 MiB, not in UTF-8, or not YAML as `parse_yaml` takes it.
    """
    with file.open("rb") as stream:
        content = stream.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise ValueError(f"{file} has more than {_LARGEST_FILE:,} bytes: this is no file of settings.")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{file}, line {line}: the byte 0x{content[error.start]:02x} is not UTF-8. Save the file in that encoding."
        ) from error
    return parse_yaml(text, str(file))


def read_front_matter(file: Path) -> Any:
    """Return what a card, a README.md on the Hugging Face Hub, says between `---` and `---` at its beginning.

    Returns:
        The value; None where there is nothing.

    Raises:
        OSError: When it cannot be read.
        ValueError: When it is larger than 1 MiB, or not YAML as `parse_yaml` takes it, with up to a million values.
    """
    with file.open("rb") as stream:
        content = stream.read(_LARGEST_FILE + 1)
    text = content.decode("utf-8-sig", errors="replace")
    found = _FRONT_MATTER.match(text)
    if found is None and len(content) > _LARGEST_FILE and text.lstrip().startswith("---"):
        raise ValueError(f"{file}: its metadata have more than {_LARGEST_FILE:,} bytes.")
    if found is None:
        return None
    before = "\n" * text.count("\n", 0, found.start(1))  # so that errors count the file's lines
    return parse_yaml(before + found[1], str(file), _MOST_IN_A_CARD)


def parse_yaml(text: str, origin: str, most: int = _MOST_VALUES) -> Any:
    """Return the value that a YAML text stands for.

    Dates are texts. Lists and mappings may be 50 deep; a whole text may stand for 20,000 values.

    Raises:
        ValueError: When it is not YAML, stands for more, has a key twice or a tag for another kind of value; `origin`
            says where it was read.
    """
    try:
        return _Loader(text, most).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f", line {mark.line + 1}"
        said = (
            error.problem if isinstance(error, _Refused) else f"this is not YAML: {error.context or ''} {error.problem}"
        )
        raise ValueError(f"{origin}{line}: {' '.join(str(said).split())}.") from error
    # Of other characters, and of tags on texts that they do not fit, such as `!!int x`.
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{origin}: this is not YAML: {' '.join(str(error).split())}.") from error


def _refuse_repeated_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                raise _Refused(f"the key {key.value!r} is there twice", key.start_mark)
            seen.add((key.tag, key.value))
