# SPDX-License-Identifier: Apache-2.0
"""Hashes and names of the images of all parts in, images that are there twice out."""

import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, Shaped

from unisegment.checking.figures import Figures
from unisegment.checking.opening import OpenedPart
from unisegment.data.problems import CollectedProblems


def note_repeats(parts: Sequence[tuple[OpenedPart, Figures, CollectedProblems]]) -> None:
    """Note images that occur twice in a part, and images of a part that an earlier one has, too."""
    for place, (opened, figures, findings) in enumerate(parts):
        if not _has_files(opened):
            continue
        digests = np.array(figures.digests, dtype=np.int64)
        order = digests.argsort(kind="stable")
        same = digests[order[1:]] == digests[order[:-1]]
        for first, again in zip(order[:-1][same].tolist(), order[1:][same].tolist(), strict=True):
            original, name = _file(opened, figures, first), _file(opened, figures, again)
            if original != name:
                findings.add("duplicate-image", name, f"it has the same content as {original}", name)
        for earlier, earlier_figures, _ in parts[:place]:
            if _has_files(earlier):
                _note_leaks((opened, figures), (earlier, earlier_figures), findings)


def _note_leaks(
    here: tuple[OpenedPart, Figures], there: tuple[OpenedPart, Figures], findings: CollectedProblems
) -> None:
    """Note what a part has in common with an earlier one."""
    is_known, place_there = _look_up(np.array(here[1].digests), np.array(there[1].digests))
    leaked = set()
    for place in np.flatnonzero(is_known).tolist():
        name = _file(*here, place)
        leaked.add(name)
        detail = f"it is also in {there[0].part.name}, as {_file(*there, int(place_there[place]))}"
        findings.add("leak", name, detail, name)
    is_known, place_there = _look_up(_names(here[0]), _names(there[0]))
    same = [place for place in np.flatnonzero(is_known).tolist() if _image(here[0], place) not in leaked]
    if same:  # said once, because images are often simply numbered
        other = _image(there[0], int(place_there[same[0]]))
        detail = f"{len(same)} images have names of {there[0].part.name}, as this and {other}"
        name = _image(here[0], same[0])
        findings.add("same-name", name, detail, name)


def _look_up(
    items: Shaped[np.ndarray, " n"], table: Shaped[np.ndarray, " m"]
) -> tuple[Shaped[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Return which items are in a table, and where."""
    if not len(table) or not len(items):
        return np.zeros(len(items), dtype=np.bool_), np.zeros(len(items), dtype=np.int64)
    order = table.argsort(kind="stable")
    places = order[np.searchsorted(table[order], items).clip(max=len(table) - 1)]
    return table[places] == items, places


def _names(opened: OpenedPart) -> Shaped[np.ndarray, " n"]:
    return np.array([os.path.basename(_image(opened, place)) for place in range(len(opened))], dtype=np.str_)


def _file(opened: OpenedPart, figures: Figures, place: int) -> str:
    return _image(opened, figures.indices[place])


def _has_files(opened: OpenedPart) -> bool:
    return len(opened) > 0 and opened.files(0) is not None


def _image(opened: OpenedPart, place: int) -> str:
    files = opened.files(place)
    assert files is not None
    return str(files.image)
