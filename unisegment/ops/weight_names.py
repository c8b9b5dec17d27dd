# SPDX-License-Identifier: Apache-2.0
"""The same weights under two sets of names, one to one in both directions."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor, cat

_Rules = list[tuple[re.Pattern[str], str]]
_PLACEHOLDERS = {"i": r"\d+", "j": r"\d+", "part": "[qkv]", "leaf": "weight|bias"}


class WeightNames:
    """Rename the weights of a model from our names to foreign ones and back.

    Args:
        pairs: (our name, foreign name). `{i}` and `{j}` stand for numbers. A name may also be the beginning of a name:
            what follows after its last dot is carried over.
        fused: The same for attention whose queries, keys and values are three tensors here and one tensor there, put
            together along the first axis: `{part}` stands for q, k or v on our side, `{leaf}` for weight or bias on
            both.
        kind: What has the foreign names, for the errors.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]], fused: Iterable[tuple[str, str]] = (), *, kind: str) -> None:
        self.pairs, self.fused, self.kind = tuple(pairs), tuple(fused), kind
        self._to_ours = [(_pattern(theirs), ours) for ours, theirs in self.pairs]
        self._to_theirs = [(_pattern(ours), theirs) for ours, theirs in self.pairs]
        self._split = [(_pattern(theirs), ours) for ours, theirs in self.fused]
        self._fuse = [(_pattern(ours), theirs) for ours, theirs in self.fused]

    def to_ours(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights under our names.

        Raises:
            ValueError: For names that are not in the table, or a fused tensor that cannot be split in three.
        """
        renamed: dict[str, Tensor] = {}
        unknown: list[str] = []
        for name, tensor in state_dict.items():
            fused = _other_name(name, self._split)
            ours = fused or _other_name(name, self._to_ours)
            if ours is None:
                unknown.append(name)
                continue
            pieces = {ours: tensor} if fused is None else _split(name, tensor, fused)
            if pieces.keys() & renamed.keys():
                raise ValueError(f"{name!r} stands for a weight that is there already, by another name.")
            renamed.update(pieces)
        self._check_known(unknown)
        return renamed

    def to_theirs(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return our weights under the foreign names; the exact reverse of `to_ours`.

        Raises:
            ValueError: For names that are not in the table.
        """
        renamed: dict[str, Tensor] = {}
        parts: dict[str, dict[str, Tensor]] = {}
        unknown: list[str] = []
        for name, tensor in state_dict.items():
            fused = _match(name, self._fuse)
            theirs = _other_name(name, self._fuse if fused else self._to_theirs)
            if theirs is None:
                unknown.append(name)
            elif fused is None:
                renamed[theirs] = tensor
            else:
                parts.setdefault(theirs, {})[fused["part"]] = tensor
        self._check_known(unknown)
        return renamed | {name: cat([pieces[part] for part in "qkv"]) for name, pieces in parts.items()}

    def _check_known(self, unknown: list[str]) -> None:
        if unknown:
            rest = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
            raise ValueError(f"{self.kind} has no weights named {', '.join(map(repr, unknown[:3]))}{rest}.")


def _pattern(name: str) -> re.Pattern[str]:
    pattern = re.escape(name)
    for placeholder, expression in _PLACEHOLDERS.items():
        pattern = pattern.replace(rf"\{{{placeholder}\}}", f"(?P<{placeholder}>{expression})")
    return re.compile(pattern + r"(?P<rest>\..+)?")


def _match(name: str, rules: _Rules) -> re.Match[str] | None:
    return next((match for pattern, _ in rules if (match := pattern.fullmatch(name)) is not None), None)


def _other_name(name: str, rules: _Rules) -> str | None:
    """Return the other name of a weight, with `{part}` left open where only that side has one."""
    for pattern, template in rules:
        match = pattern.fullmatch(name)
        if match is not None:
            return template.format(**{"part": "{part}", **match.groupdict()}) + (match["rest"] or "")
    return None


def _split(name: str, tensor: Tensor, template: str) -> dict[str, Tensor]:
    if tensor.ndim == 0 or len(tensor) % 3:
        raise ValueError(
            f"{name!r} holds queries, keys and values, so its length must be a multiple of 3, got shape "
            f"{tuple(tensor.shape)}."
        )
    return {template.format(part=part): piece.clone() for part, piece in zip("qkv", tensor.chunk(3), strict=True)}
