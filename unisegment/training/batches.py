# SPDX-License-Identifier: Apache-2.0
"""A data set and a step number in, the batches of each process from there on out.

What a step sees is a function of (seed, step) alone: images are taken in turn from one shuffled epoch after the other,
and the random changes of an image, with the other images that are mixed into it, depend on (seed, epoch, index) and, of
an image that an epoch repeats, on which time it is. So neither the number of workers nor a break between two steps
changes anything, and several processes share the batch that one process would see.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch.utils.data import DataLoader, Dataset, Sampler

from unisegment.data.annotated_images import BLOCKS_AT_ONCE
from unisegment.data.transforms.training import OtherSamples
from unisegment.inference.images import Samples
from unisegment.runs.processes import leave_process_group
from unisegment.runs.settings import RecipeError
from unisegment.structures import Sample


class Purpose(IntEnum):
    """What random numbers are for: it comes first in every seed, so that no two uses share a sequence."""

    ORDER = 0
    TRANSFORM = 1
    STEP = 2


class MicroBatch(NamedTuple):
    """What goes through the model at once: its inputs, and the files they come from."""

    inputs: dict[str, Any]
    file_names: list[str]
    unreadable: Sequence[str] = ()
    """What is wrong with each image that others stand in for."""


class LoadedSample(NamedTuple):
    """An image ready for training, and what is wrong with those that could not be read for it."""

    sample: Sample
    unreadable: list[str]


Key: TypeAlias = tuple[int, ...]
"""(epoch, index) of an image; where the epoch repeats it, with the number of the repetition, from 1, as third."""


@dataclass(frozen=True)
class BatchPlan(Sampler[list[Key]]):
    """List the keys of the images of every micro-batch of one process, in order.

    Args:
        num_samples: Size of the data set.
        batch_size: Images of one step, over all processes and micro-batches.
        accumulation: Micro-batches of a step.
        steps: Steps that are still to be taken, counted from 0.
        seed: Decides the order.
        process_index: This process.
        num_processes: All of them.
        block_bounds: As in `AnnotatedImages`. Not None keeps images of one block near each other.
        repeat_factors: How often each image comes in an epoch on average, at least once: as often as the whole part,
            and once more with a probability of the rest. None is once.

    Raises:
        RecipeError: When the batch cannot be divided evenly, or there is nothing to divide.
    """

    num_samples: int
    batch_size: int
    accumulation: int
    steps: range
    seed: int
    process_index: int = 0
    num_processes: int = 1
    block_bounds: Int64[np.ndarray, " n"] | None = None
    repeat_factors: Float64[np.ndarray, " n"] | None = None

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise RecipeError("There are no images to train on.")
        if self.batch_size % (self.accumulation * self.num_processes):
            raise RecipeError(
                f"optim.batch_size={self.batch_size} cannot be divided into optim.accumulation={self.accumulation} "
                f"micro-batches on each of {self.num_processes} processes: make it a multiple of "
                f"{self.accumulation * self.num_processes}."
            )

    def __iter__(self) -> Iterator[list[Key]]:
        order = _Order(self.num_samples, self.seed, self.block_bounds, self.repeat_factors)
        size = self.batch_size // (self.accumulation * self.num_processes)
        for step in self.steps:
            for part in range(self.process_index, self.accumulation * self.num_processes, self.num_processes):
                first = step * self.batch_size + part * size
                yield [order[position] for position in range(first, first + size)]

    def __len__(self) -> int:
        return len(self.steps) * self.accumulation


class _Order:
    """Give the key of the image at each place of the endless line of shuffled epochs, from any place onwards."""

    def __init__(
        self,
        num_samples: int,
        seed: int,
        block_bounds: Int64[np.ndarray, " n"] | None,
        repeat_factors: Float64[np.ndarray, " n"] | None,
    ) -> None:
        self.num_samples = num_samples
        self.seed = seed
        self.block_bounds = block_bounds
        self.repeat_factors = repeat_factors
        self.epoch = -1
        self.start = self.end = 0

    def __getitem__(self, position: int) -> Key:
        if position >= self.end:
            self._advance(position)
        place = self.shuffled[position - self.start]
        repetition = int(self.repetitions[place])
        return (self.epoch, int(self.indices[place]), *([repetition] if repetition else []))

    def _advance(self, position: int) -> None:
        """Go on to the epoch that a place is in."""
        if self.repeat_factors is None:  # all epochs have one length
            self.epoch = position // self.num_samples - 1
            self.end = (self.epoch + 1) * self.num_samples
        while position >= self.end:
            self.epoch += 1
            generator = np.random.default_rng((Purpose.ORDER, self.seed, self.epoch))
            times = self._times(generator)
            self.start, self.end = self.end, self.end + int(times.sum())
        self.indices = np.arange(self.num_samples).repeat(times)
        first = (times.cumsum() - times)[self.indices]
        self.repetitions = np.arange(len(self.indices)) - first
        self.shuffled = self._shuffle(generator)

    def _times(self, generator: np.random.Generator) -> Int64[np.ndarray, " n"]:
        """Return how often each image comes in an epoch."""
        if self.repeat_factors is None:
            return np.ones(self.num_samples, dtype=np.int64)
        # The lengths of epochs differ, so all before are gone through: 1,000 epochs of 100,000 images take a second.
        whole = np.floor(self.repeat_factors)
        return whole.astype(np.int64) + (generator.random(self.num_samples) < self.repeat_factors - whole)

    def _shuffle(self, generator: np.random.Generator) -> Int64[np.ndarray, " n"]:
        if self.block_bounds is None:
            return generator.permutation(len(self.indices))
        # Blocks begin one after the other, in random order; the images of each are spread over the time until
        # `BLOCKS_AT_ONCE` more have begun.
        sizes = np.diff(self.block_bounds)
        begins = generator.permutation(len(sizes)).repeat(sizes)[self.indices]
        return np.argsort(begins + BLOCKS_AT_ONCE * generator.random(len(begins)), kind="stable")


@dataclass(frozen=True)
class TransformedSamples(Dataset[LoadedSample]):
    """Samples by their keys, changed at random but always in the same way.

    Args:
        samples: Data set of annotated images.
        transform: Called with a sample, a generator of random numbers, and the other samples.
        seed: Decides the random changes.
        max_skipped: Most images, one behind the other, that may be unreadable: the next one stands in for them.
        region_labels: See `OtherSamples`.
    """

    samples: Samples
    transform: Callable[[Sample, np.random.Generator, OtherSamples], Sample]
    seed: int
    max_skipped: int = 0
    region_labels: Collection[int] = ()

    def __getitem__(self, key: Key) -> LoadedSample:
        index = key[1]
        generator = np.random.default_rng((Purpose.TRANSFORM, self.seed, *key))
        unreadable: list[str] = []
        near = self._near(index)
        others = OtherSamples(lambda: self._read(int(generator.integers(*near)), unreadable), self.region_labels)
        sample = self._read(index, unreadable)
        return LoadedSample(self.transform(sample, generator, others), unreadable)

    def _near(self, index: int) -> tuple[int, int]:
        """Return the images that are quickly read along with another, from the first to behind the last."""
        bounds = getattr(self.samples, "block_bounds", None)
        if bounds is None:
            return 0, len(self.samples)
        block = int(np.searchsorted(bounds, index, side="right"))
        return int(bounds[block - 1]), int(bounds[block])

    def _read(self, index: int, unreadable: list[str]) -> Sample:
        """Return an image, or the next that can be read, and note what is wrong with those before."""
        skipped = 0
        while True:
            try:
                return self.samples[(index + skipped) % len(self.samples)]
            except (ValueError, OSError) as error:  # what readers raise, see `unisegment.data`
                if skipped == min(self.max_skipped, len(self.samples) - 1):
                    raise
                unreadable.append(str(error))
                skipped += 1


@dataclass(frozen=True)
class NamingCollate:
    """Collate samples and keep beside what is to be said about their files.

    Args:
        collate: Makes the model's inputs of a list of samples.
    """

    collate: Callable[[list[Sample]], dict[str, Any]]

    def __call__(self, loaded: list[LoadedSample]) -> MicroBatch:
        """Return one micro-batch."""
        samples = [item.sample for item in loaded]
        unreadable = [problem for item in loaded for problem in item.unreadable]
        return MicroBatch(self.collate(samples), [sample.file_name for sample in samples], unreadable)


def load_batches(
    samples: TransformedSamples,
    plan: BatchPlan,
    collate: Callable[[list[Sample]], dict[str, Any]],
    workers: int,
    timeout: float = 0,
) -> Iterator[list[MicroBatch]]:
    """Give the micro-batches of this process, step by step, loaded ahead by worker processes.

    Args:
        samples: Where images come from.
        plan: Which of them make up each micro-batch.
        collate: Makes the model's inputs of a list of samples.
        workers: Worker processes, each with one thread; 0 loads in this process.
        timeout: Seconds that they may take for a micro-batch; 0 waits without end.
    """
    loader = DataLoader(
        samples,
        batch_sampler=plan,
        collate_fn=NamingCollate(collate),
        num_workers=workers,
        timeout=timeout if workers else 0,
        worker_init_fn=leave_process_group,
        pin_memory=torch.cuda.is_available(),
    )
    micro_batches = iter(loader)
    for _ in plan.steps:
        try:
            yield [next(micro_batches) for _ in range(plan.accumulation)]
        except (ConnectionError, EOFError) as error:
            raise RuntimeError("A process that loads images has died while it handed over a batch.") from error


def seed_step(seed: int, step: int, process_index: int) -> None:
    """Set torch's random numbers for one step of one process."""
    sequence = np.random.SeedSequence((Purpose.STEP, seed, step, process_index))
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))
