# SPDX-License-Identifier: Apache-2.0
"""Images in, by number or as they come; the same images, prepared for the model and grouped by size, out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unisegment.runs.processes import leave_process_group
from unisegment.structures import NamedImage, Sample, SegmentationTarget


class Images(Protocol):
    """Images by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> NamedImage: ...


class Samples(Protocol):
    """Annotated images by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


Source = NamedImage | Callable[[], NamedImage]
"""An image, or a function that opens it, which a process that loads images may be sent."""


class PreparedImage(NamedTuple):
    """One image, its number among all, and what the model takes: a row, or one for each part that it sees by itself."""

    number: int
    image: NamedImage
    pixel_values: Float[Tensor, "rows 3 h w"]
    pixel_mask: Int[Tensor, "rows h w"]


Batch = Sequence[PreparedImage]


class _Unreadable(NamedTuple):
    """What is wrong with an image."""

    problem: str


Report = Callable[[list[str]], None]
"""Is told what is wrong with images that cannot be read."""


def leave_out(problems: list[str]) -> None:
    """Take no further notice of images that cannot be read: the `Report` of those who only want them left out."""


def reporting(on_error: str) -> Report | None:
    """Return what to tell of images that cannot be read, for the words "raise" and "skip".

    Raises:
        ValueError: When it is none of them.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}.")
    return leave_out if on_error == "skip" else None


def noting(problems: list[str], on_unreadable: Report | None) -> Report | None:
    """Return what tells the same and also adds to a list; None stays None, so that errors are raised."""
    if on_unreadable is None:
        return None

    def note(found: list[str]) -> None:
        problems.extend(found)
        on_unreadable(found)

    return note


@dataclass(frozen=True)
class _PreparedImages(Dataset[PreparedImage | _Unreadable]):
    images: Images | None
    processor: Any
    raises: bool

    def __getitem__(self, entry: tuple[int, Source | None]) -> PreparedImage | _Unreadable:
        number, source = entry
        try:
            image = self._open(number, source)
        except (ValueError, OSError) as error:  # what readers raise, see `unisegment.data`
            if self.raises:
                raise
            return _Unreadable(str(error))
        inputs = self.processor(images=[image.image], return_tensors="pt")
        return PreparedImage(number, image, inputs["pixel_values"], inputs["pixel_mask"])

    def _open(self, number: int, source: Source | None) -> NamedImage:
        if source is None:
            assert self.images is not None
            return self.images[number]
        return source if isinstance(source, NamedImage) else source()


def load_batches(
    images: Images | Iterable[Source],
    processor: Any,
    indices: Iterable[int] | None = None,
    *,
    batch_size: int = 1,
    workers: int = 0,
    timeout: float = 0,
    on_unreadable: Report | None = None,
) -> Iterator[list[PreparedImage]]:
    """Give images in their order, in groups of neighbours of equal padded size, so that no result depends on the group.

    However many images there are, a batch of them is held, and two more for each worker.

    Args:
        images: The data set; or, without `indices`, an iterable of images, of any length, which are numbered as they
            come.
        processor: Makes `pixel_values` and `pixel_mask` of a list of one image.
        indices: Which images of the data set.
        batch_size: Most images of a group.
        workers: Processes that load images; 0 loads in this process.
        timeout: Seconds that they may take for an image; 0 waits without end.
        on_unreadable: Is told what is wrong with images that cannot be read, which are then left out. None raises.

    Raises:
        ValueError: When `batch_size` is less than 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, got {batch_size}.")
    entries: Iterable[tuple[int, Source | None]]
    data_set: Any = None
    if indices is None:
        entries = enumerate(images)  # type: ignore[arg-type]  # an iterable, as there are no indices
    else:
        entries, data_set = ((index, None) for index in indices), images
    loader = DataLoader(
        _PreparedImages(data_set, processor, raises=on_unreadable is None),
        sampler=entries,  # whose length is not asked for
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=workers,
        timeout=timeout if workers else 0,
        worker_init_fn=leave_process_group,
    )
    return _equal_sizes(_readable(loader, on_unreadable), batch_size)


def targets_of(batch: Batch) -> list[SegmentationTarget]:
    """Return the target of each image that is annotated."""
    return [item.image.target for item in batch if isinstance(item.image, Sample)]


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
