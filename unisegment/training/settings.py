# SPDX-License-Identifier: Apache-2.0
"""YAML text and nested mappings in, checked nested dataclasses out.

A dataclass is a section and its fields are the keys: names, types and defaults are read from it. `dict` fields are
free: what they hold is somebody else's to check. Every error names the key and where it was read.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from unisegment.ops.near_names import near_name


class RecipeError(ValueError):
    """A recipe that cannot be run: the message names the key, the file and what was expected."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2's booleans and numbers: in the older YAML of the base class `no` is False and `1e-4` is a text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), [*"tTfF"])
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(((\d+\.\d*|\.\d+)([eE][-+]?\d+)?)|\d+[eE][-+]?\d+|\.inf|\.nan)$"),
    [*"-+.0123456789"],
)


def parse_yaml(text: str, origin: str) -> Any:
    """Return the value that a YAML text stands for.

    Raises:
        RecipeError: When it is not YAML; `origin` says where it was read.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{origin}: this is not YAML: {error}") from error


def parse_overrides(arguments: Iterable[str]) -> dict[str, Any]:
    """Turn `key.path=value` arguments into values by dotted key; values are read as YAML.

    Raises:
        RecipeError: For an argument without `=` or a value that is not YAML.
    """
    overrides = {}
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if not separator:
            raise RecipeError(f"{argument!r} is not an override. Write key.path=value, for example optim.lr=1e-4.")
        overrides[key] = parse_yaml(value, argument)
    return overrides


def dotted_keys(section: Any, prefix: str = "") -> list[str]:
    """Return every key of a section and of those inside it, such as `optim.lr`."""
    keys = []
    for name, annotation in get_type_hints(section).items():
        keys += dotted_keys(annotation, f"{prefix}{name}.") if is_dataclass(annotation) else [f"{prefix}{name}"]
    return keys


def merge(section: Any, base: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Set the keys of `new` over `base`: key by key in sections and in free dicts, whole values below."""
    merged = dict(base)
    for name, value in new.items():
        annotation = get_type_hints(section)[name]
        if is_dataclass(annotation):
            merged[name] = merge(annotation, base.get(name, {}), value)
        elif get_origin(annotation) is dict:
            merged[name] = {**base.get(name, {}), **value}
        else:
            merged[name] = value
    return merged


def check(section: Any, values: Any, origin: str, prefix: str = "", root: Any = None) -> dict[str, Any]:
    """Return the values of a section, each as the type that its key asks for; keys may be missing.

    Args:
        section: The dataclass.
        values: A mapping, as read from YAML.
        origin: Where it was read, for errors.
        prefix: Dotted key of the section, ending in a dot; for errors.
        root: The dataclass whose keys are suggested in errors; None means this one.

    Raises:
        RecipeError: For an unknown key or a value of another type.
    """
    if not isinstance(values, Mapping):
        raise RecipeError(f"{origin}: {prefix.rstrip('.') or 'a recipe'} is a section with keys, got {values!r}.")
    root = root or section
    hints = get_type_hints(section)
    checked = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        if name not in hints:
            raise RecipeError(f"{origin}: there is no key {key!r}. {_instead(key, section, root)}")
        if is_dataclass(hints[name]):
            checked[name] = check(hints[name], value, origin, f"{key}.", root)
        else:
            checked[name] = _converted(hints[name], value, key, origin)
    return checked


def construct(section: Any, values: Mapping[str, Any], origin: str, prefix: str = "") -> Any:
    """Return the dataclass of checked values, with the dataclasses inside it.

    Raises:
        RecipeError: When a key without a default is missing, or when the dataclass refuses a value.
    """
    hints = get_type_hints(section)
    arguments = {}
    for item in fields(section):
        key = f"{prefix}{item.name}"
        if is_dataclass(hints[item.name]):
            arguments[item.name] = construct(hints[item.name], values.get(item.name, {}), origin, f"{key}.")
        elif item.name in values:
            arguments[item.name] = values[item.name]
        elif item.default is MISSING and item.default_factory is MISSING:
            raise RecipeError(f"{origin}: {key} is not set. Add it to the file or to the command: {key}=VALUE.")
    try:
        return section(**arguments)
    except ValueError as error:
        raise RecipeError(f"{origin}: {prefix.rstrip('.')}: {error}") from error


def expand_home(section: Any, *names: str) -> None:
    """Let paths that begin with `~` begin with the user's own folder, which no shell does behind a `=`."""
    for name in names:
        value = getattr(section, name)
        if isinstance(value, str):
            object.__setattr__(section, name, os.path.expanduser(value))


def plain(value: Any) -> Any:
    """Return nested dicts and lists, without tuples, which YAML does not know."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _instead(key: str, section: Any, root: Any) -> str:
    """Ask for the key that was meant: one of like name in its section or in another; or say what the section has."""
    *parents, name = key.split(".")
    own = [".".join([*parents, item.name]) for item in fields(section)]
    for keys in (own, dotted_keys(root)):
        key_of = {candidate.split(".")[-1]: candidate for candidate in reversed(keys)}
        near = near_name(name, key_of)
        if near is not None:
            return f"Did you mean {key_of[near]!r}?"
    return f"There are {', '.join(own)}."


def _converted(annotation: Any, value: Any, key: str, origin: str) -> Any:
    """Return the value as the annotated type, where nothing is lost by it."""
    for kind in _kinds(annotation):
        if get_origin(kind) is Literal:
            if value in get_args(kind):
                return value
        elif get_origin(kind) is tuple and isinstance(value, list | tuple):
            items = _item_kinds(kind, len(value))
            if len(items) == len(value):
                return tuple(_converted(item, part, key, origin) for item, part in zip(items, value, strict=True))
        elif kind in (int, float) and isinstance(value, int | float) and not isinstance(value, bool):
            # 1e5 is a fine number of steps, 1.5 is not.
            if kind is float or float(value).is_integer():
                return kind(value)
        elif isinstance(value, get_origin(kind) or kind) and kind not in (int, float):
            return value
    raise RecipeError(f"{origin}: {key} must be {_described(annotation)}, got {value!r}.")


def _is_union(annotation: Any) -> bool:
    # `int | None` is a type of its own, `Literal["all"] | None` is a typing.Union.
    return get_origin(annotation) in (Union, UnionType)


def _kinds(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if _is_union(annotation) else (annotation,)


def _item_kinds(kind: Any, length: int) -> tuple[Any, ...]:
    kinds = get_args(kind)
    return (kinds[0],) * length if kinds[-1] is Ellipsis else kinds


def _described(annotation: Any) -> str:
    """Return a type in words, for errors."""
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", NoneType: "null"}
    if _is_union(annotation):
        return " or ".join(_described(kind) for kind in get_args(annotation))
    if get_origin(annotation) is Literal:
        words_allowed = ", ".join(map(str, get_args(annotation)))
        return f"one of {words_allowed}" if len(get_args(annotation)) > 1 else words_allowed
    if get_origin(annotation) is tuple:
        kinds = get_args(annotation)
        length = "" if kinds[-1] is Ellipsis else f"{len(kinds)} "
        return f"a list of {length}values, each {_described(kinds[0])}"
    return words.get(annotation, "a section with keys")
