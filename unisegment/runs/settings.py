# SPDX-License-Identifier: Apache-2.0
"""Overrides and nested mappings in, checked nested dataclasses out.

A dataclass is a section and its fields are the keys: names, types and defaults are read from it. `dict` fields are
free: what they hold is somebody else's to check. Every error names the key and where it was read.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from math import inf, isfinite
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from unisegment.errors import ForeseenError
from unisegment.ops.json_values import shown
from unisegment.ops.near_names import near_name
from unisegment.ops.yaml_reading import parse_yaml


class RecipeError(ForeseenError, ValueError):
    """A recipe that cannot be run: the message names the key, the file and what was expected."""

    found_by_all = True


class Bounds(NamedTuple):
    """The numbers that a key takes, in `Annotated[int, Bounds(1, 7)]`: both ends, and what is between them."""

    low: float
    high: float


AtLeastOne = Annotated[int, Bounds(1, 2**31 - 1)]
NotNegative = Annotated[int, Bounds(0, 2**31 - 1)]
NotBelowZero = Annotated[float, Bounds(0, inf)]
Share = Annotated[float, Bounds(0, 1)]

_OTHER = object()
"""Instead of a value that is of another type."""
_DEEPEST_KEY = 50
_SHOWN = 200


def cut(text: str) -> str:
    """Return the beginning of a text, as much as a line of a message should hold."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def parse_overrides(arguments: Iterable[str]) -> dict[str, Any]:
    """Turn `key.path=value` arguments into values by dotted key; values are read as YAML.

    Raises:
        RecipeError: For an argument without `=`, a key of more than 50 parts, or a value that is not YAML.
    """
    overrides = {}
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if not separator or key.count(".") >= _DEEPEST_KEY:
            raise RecipeError(f"{shown(argument)} is not an override. Write key.path=value, for example optim.lr=1e-4.")
        try:
            overrides[key] = parse_yaml(value, cut(argument))
        except ValueError as error:
            raise RecipeError(str(error)) from error
    return overrides


def dotted_keys(section: Any, prefix: str = "") -> list[str]:
    """Return every key of a section and of those inside it, such as `optim.lr`."""
    keys = []
    for name, annotation in _hints(section).items():
        keys += dotted_keys(annotation, f"{prefix}{name}.") if is_dataclass(annotation) else [f"{prefix}{name}"]
    return keys


def merge(section: Any, base: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Set the keys of `new` over `base`: key by key in sections and in free dicts, whole values below."""
    merged = dict(base)
    for name, value in new.items():
        annotation = _hints(section)[name]
        if is_dataclass(annotation):
            merged[name] = merge(annotation, base.get(name, {}), value)
        elif get_origin(annotation) is dict:
            merged[name] = {**base.get(name, {}), **value}
        else:
            merged[name] = value
    return merged


def with_defaults(section: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a section and, beside them, the default of each key that they lack and that has one."""
    filled = dict(values)
    for item in fields(section):
        kind, value = _hints(section)[item.name], values.get(item.name, {})
        if is_dataclass(kind):
            filled[item.name] = with_defaults(kind, value) if isinstance(value, Mapping) else value
        elif item.default is not MISSING:
            filled.setdefault(item.name, plain(item.default))
        elif item.default_factory is not MISSING:
            filled.setdefault(item.name, plain(item.default_factory()))
    return filled


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
        raise RecipeError(f"{origin}: {prefix.rstrip('.') or 'a recipe'} is a section with keys, got {shown(values)}.")
    root = root or section
    hints = _hints(section)
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
    hints = _hints(section)
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


def _hints(section: Any) -> dict[str, Any]:
    return get_type_hints(section, include_extras=True)


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
        converted = _as_kind(kind, value, key, origin)
        if converted is not _OTHER:
            return converted
    raise RecipeError(f"{origin}: {key} must be {_described(annotation)}, got {shown(value)}.")


def _as_kind(kind: Any, value: Any, key: str, origin: str) -> Any:
    """Return the value as one type of several, or `_OTHER`."""
    form = get_origin(kind)
    if form is Annotated:
        number = _as_number(kind.__origin__, value)
        return number if number is not _OTHER and _bounds(kind).low <= number <= _bounds(kind).high else _OTHER
    if kind in (int, float):
        return _as_number(kind, value)
    if form is Literal:
        return value if value in get_args(kind) else _OTHER
    if form is tuple:
        return _as_tuple(kind, value, key, origin)
    if form is dict and isinstance(value, Mapping):
        of_key, of_value = get_args(kind)
        return {
            _converted(of_key, name, f"a key of {key}", origin): _converted(of_value, item, f"{key}.{name}", origin)
            for name, item in value.items()
        }
    return value if kind is Any or (form is None and isinstance(value, kind)) else _OTHER


def _as_number(kind: type[int] | type[float], value: Any) -> Any:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return _OTHER
    try:
        # 1e5 is a fine number of steps, 1.5 is not.
        return kind(value) if isfinite(value) and (kind is float or int(value) == value) else _OTHER
    except OverflowError:  # whole numbers have no end, others have
        return _OTHER


def _as_tuple(kind: Any, value: Any, key: str, origin: str) -> Any:
    if not isinstance(value, list | tuple):
        return _OTHER
    kinds = get_args(kind)
    kinds = (kinds[0],) * len(value) if kinds[-1] is Ellipsis else kinds
    if len(kinds) != len(value):
        return _OTHER
    return tuple(
        _converted(item, part, f"{key}[{place}]", origin)
        for place, (item, part) in enumerate(zip(kinds, value, strict=True))
    )


def _bounds(kind: Any) -> Bounds:
    return kind.__metadata__[0]


def _is_union(annotation: Any) -> bool:
    # `int | None` is a type of its own, `Literal["all"] | None` is a typing.Union.
    return get_origin(annotation) in (Union, UnionType)


def _kinds(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if _is_union(annotation) else (annotation,)


def _described(annotation: Any) -> str:
    """Return a type in words, for errors."""
    if get_origin(annotation) is Annotated:
        low, high = _bounds(annotation)
        return f"{_described(annotation.__origin__)} " + (
            f"of at least {low:,}" if high == inf else f"from {low:,} to {high:,}"
        )
    words = {int: "a whole number", float: "a finite number", str: "a text", bool: "true or false", NoneType: "null"}
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
