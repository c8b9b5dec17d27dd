# SPDX-License-Identifier: Apache-2.0
"""A model that differs from its checkpoint: whether that was intended, what is moved, and a report.

Other classes and more or fewer queries are rows of a few weights: rows of equal meaning keep their values.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unisegment.data.label_spaces import follow_names
from unisegment.models.configuration import SegmentationConfig


@dataclass(frozen=True)
class Change:
    """What became of things that a checkpoint had and a model wants: names of classes or weights, numbers of queries.

    Args:
        kept: They have the checkpoint's weights.
        made: The checkpoint did not have them; they start as in a new model.
        dropped: The model does not want them.
    """

    kept: list[Any]
    made: list[Any]
    dropped: list[Any]

    def __str__(self) -> str:
        parts = [f"{len(self.kept)} kept"]
        for word, items in (("made", self.made), ("dropped", self.dropped)):
            if items:
                examples = ", ".join(map(str, items[:5])) + (", …" if len(items) > 5 else "")
                parts.append(f"{len(items)} {word} ({examples})")
        return ", ".join(parts)


def differs(source: SegmentationConfig, target: SegmentationConfig) -> bool:
    """Return whether rows have to be moved to make a model of `target` from weights of `source`."""
    return _names(source) != _names(target) or _num_queries(source) != _num_queries(target)


def adapt(
    weights: Mapping[str, Tensor],
    source: SegmentationConfig,
    target: SegmentationConfig,
    class_head: str,
    query_tables: Sequence[str],
) -> tuple[dict[str, Tensor], dict[str, Change]]:
    """Move the rows of classes and queries to where another config wants them.

    Classes are the same when their names are, see `follow_names`. Queries have no names; the first ones are kept.

    Args:
        weights: Weights of the source, under our names.
        source: Their config.
        target: The config that is wanted.
        class_head: Name of the linear layer with a row for each class and, last, for "no object".
        query_tables: Names of the weights with a row for each query.

    Returns:
        Weights with the rows that the target wants, and the changes under "classes" and "queries".
    """
    old, new = _names(source), _names(target)
    rows = follow_names(old, new)
    classes = Change(
        [name for name, row in zip(new, rows, strict=True) if row is not None],
        [name for name, row in zip(new, rows, strict=True) if row is None],
        [name for row, name in enumerate(old) if row not in rows],
    )
    count, wanted = _num_queries(source), _num_queries(target)
    queries = Change(list(range(min(count, wanted))), list(range(count, wanted)), list(range(wanted, count)))
    class_rows = [*rows, len(old)]  # the last row is "no object"
    query_rows = [query if query < count else None for query in range(wanted)]
    bound = weights[f"{class_head}.weight"].shape[1] ** -0.5  # torch's own for a linear layer
    adapted = dict(weights)
    for name in (f"{class_head}.weight", f"{class_head}.bias"):
        adapted[name] = _moved(weights[name], class_rows, lambda new: torch.nn.init.uniform_(new, -bound, bound))
    for name in query_tables:
        adapted[name] = _moved(weights[name], query_rows, torch.nn.init.normal_)
    return adapted, {"classes": classes, "queries": queries}


def require_layers(source: SegmentationConfig, target: SegmentationConfig) -> None:
    """Raise a ValueError when a model wants more layers than its checkpoint has, of those that may be left out."""
    for key in source.shortened:
        count = getattr(source, key)
        wanted = getattr(target, key, count)  # a config of another kind is refused where the model is made
        if wanted > count:
            raise ValueError(
                f"{key}={wanted} is more than the checkpoint has, expected at most {count}. If further layers shall "
                "start as in a new model, pass ignore_mismatched_sizes=True to from_pretrained."
            )


def expect_left_out(report: dict[str, Any], source: SegmentationConfig, model: Any) -> None:
    """Take the layers that a model leaves out of its checkpoint from the names that are left over.

    Args:
        report: What transformers found.
        source: Config of the checkpoint.
        model: What was made of it.
    """
    for key, layers in source.shortened.items():
        kept = len(model.get_submodule(layers))
        fewer = getattr(source, key) - getattr(model.config, key)
        beginnings = tuple(f"{layers}.{number}." for number in range(kept, kept + fewer))
        report["unexpected_keys"] = {name for name in report["unexpected_keys"] if not name.startswith(beginnings)}


def without_table() -> AbstractContextManager[None]:
    """Within `with`, keep transformers from logging its table of weights that do not fit: what is here says it."""
    return without_messages("transformers.modeling_utils", "LOAD REPORT")


@contextmanager
def without_messages(logger_name: str, words: str) -> Iterator[None]:
    """Within `with`, keep a logger from saying what has some words in it."""

    def is_other(record: logging.LogRecord) -> bool:
        return words not in record.getMessage()

    logger = logging.getLogger(logger_name)
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def require_complete(report: Mapping[str, Any], name_or_path: Any = None) -> None:
    """Raise a ValueError when weights were missing, left over or of another shape on loading.

    Args:
        report: What transformers found.
        name_or_path: Of the checkpoint, if it has one.
    """
    missing, unexpected = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    mismatched = [
        f"{name} is {tuple(found)}, expected {tuple(wanted)}"
        for name, found, wanted in sorted(report["mismatched_keys"])
    ]
    if missing or unexpected or mismatched:
        place = "" if name_or_path is None else f" of {str(name_or_path)!r}"
        raise ValueError(
            f"The weights{place} do not fit the config: {len(missing)} are missing (first: {missing[:3]}), "
            f"{len(unexpected)} are left over (first: {unexpected[:3]}), {len(mismatched)} have another shape "
            f"(first: {mismatched[:3]}). Both must be of the same checkpoint: fetch it again, or correct config.json. "
            "If that is intended, pass ignore_mismatched_sizes=True to from_pretrained."
        )


def say_changes(changes: dict[str, Change], report: Mapping[str, Any], names: list[str]) -> dict[str, Change]:
    """Add to the changes what became of whole weights, and log all of it where there is something to say.

    Args:
        changes: Changes of rows.
        report: What transformers found.
        names: All weights of the model.
    """
    made = sorted({*report["missing_keys"], *(name for name, _, _ in report["mismatched_keys"])})
    dropped = sorted(report["unexpected_keys"])
    kept = sorted(set(names) - set(made))
    changes = changes | {"weights": Change(kept, made, dropped)}
    if any(change.made or change.dropped for change in changes.values()):
        lines = [f"{what}: {change}" for what, change in changes.items()]
        if _are_only_renamed(changes):
            lines.append(
                "There are as many classes as in the checkpoint: if they are the same ones under new names, load it "
                "without ignore_mismatched_sizes=True, which renames them and keeps their weights."
            )
        logging.getLogger(__name__).warning("The model differs from its checkpoint.\n  %s", "\n  ".join(lines))
    return changes


def _are_only_renamed(changes: Mapping[str, Change]) -> bool:
    """Return whether the checkpoint would also load, under the new names, if no change had been announced."""
    others = [change for what, change in changes.items() if what != "classes"]
    classes = changes.get("classes", Change([], [], []))
    is_only_change = not any(change.made or change.dropped for change in others)
    return is_only_change and 0 < len(classes.made) == len(classes.dropped)


def new_weights(changes: Mapping[str, Change], query_tables: Sequence[str]) -> set[str]:
    """Return the names of weights that start, in part at least, as in a new model; those of the class head not.

    Args:
        changes: What became of a checkpoint.
        query_tables: As for `adapt`.
    """
    queries = query_tables if "queries" in changes and changes["queries"].made else ()
    return {*changes["weights"].made, *queries}


def _moved(old: Tensor, rows: list[int | None], initialise: Callable[[Tensor], Any]) -> Tensor:
    """Return the rows in their new order; None is a row that starts as in a new model."""
    new = old.new_empty(len(rows), *old.shape[1:])
    initialise(new)
    for row, source in enumerate(rows):
        if source is not None:
            new[row] = old[source]
    return new


def _num_queries(config: SegmentationConfig) -> int:
    return getattr(config, "num_queries", 0)


def _names(config: SegmentationConfig) -> list[str]:
    assert config.id2label is not None
    return [config.id2label[label] for label in range(config.num_labels)]
