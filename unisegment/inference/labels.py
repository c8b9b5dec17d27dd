# SPDX-License-Identifier: Apache-2.0
"""The labels of a checkpoint and of a data set in, the data set with the checkpoint's labels out."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch

from unisegment.data.annotated_images import AnnotatedImages
from unisegment.structures import Sample

Matching = Literal["name", "order"]


@dataclass(frozen=True)
class MatchedSamples:
    """Annotated images with other labels.

    Args:
        samples: The images.
        new_labels: The new label of each old one.
        limit: Most images, the first ones.
    """

    samples: AnnotatedImages
    new_labels: Mapping[int, int]
    limit: float = math.inf

    def __len__(self) -> int:
        return int(min(len(self.samples), self.limit))

    def __getitem__(self, index: int) -> Sample:
        """Return one annotated image."""
        sample = self.samples[index]
        labels = [self.new_labels[label] for label in sample.target.labels.tolist()]
        target = replace(sample.target, labels=torch.tensor(labels, dtype=torch.int64))
        return replace(sample, target=target)


def match_labels(
    model_names: Mapping[int, str], data_names: Mapping[int, str], matching: Matching = "name"
) -> dict[int, int]:
    """Return the model's label for each label of a data set.

    Args:
        model_names: Name of each label of the model, which may have more of them than the data set.
        data_names: Name of each label of the data set.
        matching: By equal names, whatever their order, or by number alone. Case and signs in names are of no account,
            nor is what is behind a comma or semicolon.

    Raises:
        ValueError: When the data set has names that the model lacks, or, by number, another number of labels.
    """
    if matching == "order":
        if len(model_names) != len(data_names):
            raise ValueError(
                f"The checkpoint has {len(model_names)} labels and the data set {len(data_names)}: they cannot be the "
                "same by their order."
            )
        return {label: label for label in data_names}
    label_of = {_plain(name): label for label, name in reversed(list(model_names.items()))}
    missing = [name for name in data_names.values() if _plain(name) not in label_of]
    if missing:
        known = ", ".join(list(model_names.values())[:5])
        raise ValueError(
            f"The checkpoint lacks {len(missing)} of the data set's {len(data_names)} labels, such as "
            f"{', '.join(map(repr, missing[:5]))}; it has {len(model_names)}: {known}, …. Take the data set that it "
            "was trained for, or, if its labels are the same in the same order, match them by order."
        )
    return {label: label_of[_plain(name)] for label, name in data_names.items()}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9()]+", " ", re.split("[,;]", name.lower())[0]).strip()
