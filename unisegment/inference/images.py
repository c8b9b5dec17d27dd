# SPDX-License-Identifier: Apache-2.0
"""A data set in, this process's share of its images out, prepared for the model and grouped by size."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unisegment.runs.processes import leave_process_group
from unisegment.structures import Sample


class Samples(Protocol):
    """Annotated images by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class PreparedImage(NamedTuple):
    """One image, its number in the data set, and what the model takes."""

    number: int
    sample: Sample
    pixel_values: Float[Tensor, "1 3 h w"]
    pixel_mask: Int[Tensor, "1 h w"]


Batch = Sequence[PreparedImage]


class _Unreadable(NamedTuple):
    """What is wrong with an image."""

    problem: str


Report = Callable[[list[str]], None]
"""Is told what is wrong with images that cannot be read."""


@dataclass(frozen=True)
class _PreparedImages(Dataset[PreparedImage | _Unreadable]):
    samples: Samples
    processor: Any
    raises: bool

    def __getitem__(self, index: int) -> PreparedImage | _Unreadable:
        try:
            sample = self.samples[index]
        except (ValueError, OSError) as error:  # what readers raise, see `unisegment.data`
            if self.raises:
                raise
            return _Unreadable(str(error))
        inputs = self.processor(images=[sample.image], return_tensors="pt")
        return PreparedImage(index, sample, inputs["pixel_values"], inputs["pixel_mask"])


def load_batches(
    samples: Samples,
    processor: Any,
    indices: Sequence[int],
    *,
    batch_size: int = 1,
    workers: int = 0,
    timeout: float = 0,
    on_unreadable: Report | None = None,
) -> Iterator[list[PreparedImage]]:
    """Give images in their order, in groups of neighbours of equal padded size, so that no result depends on the group.

    Args:
        samples: The data set.
        processor: Makes `pixel_values` and `pixel_mask` of a list of one image.
        indices: Which images.
        batch_size: Most images of a group.
        workers: Processes that load images; 0 loads in this process.
        timeout: Seconds that they may take for an image; 0 waits without end.
        on_unreadable: Is told what is wrong with images that cannot be read, which are then left out. None raises.
    """
    loader = DataLoader(
        _PreparedImages(samples, processor, raises=on_unreadable is None),
        sampler=indices,
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=workers,
        timeout=timeout if workers else 0,
        worker_init_fn=leave_process_group,
    )
    return _equal_sizes(_readable(loader, on_unreadable), batch_size)


def _readable(items: Iterable[PreparedImage | _Unreadable], on_unreadable: Report | None) -> Iterator[PreparedImage]:
    """Give the images that could be read, and tell of the others."""
    for item in items:
        if isinstance(item, PreparedImage):
            yield item
        elif on_unreadable is not None:
            on_unreadable([item.problem])


def _equal_sizes(items: Iterable[PreparedImage], most: int) -> Iterator[list[PreparedImage]]:
    """Group neighbours of equal size, at most so many."""
    group: list[PreparedImage] = []
    for item in items:
        if group and item.pixel_values.shape != group[0].pixel_values.shape:
            yield group
            group = []
        group.append(item)
        # At once, rather than when the next image is there: whoever waits for it does something meanwhile.
        if len(group) == most:
            yield group
            group = []
    if group:
        yield group


def _unchanged(item: Any) -> Any:
    return item
