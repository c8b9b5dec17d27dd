# SPDX-License-Identifier: Apache-2.0
from functools import partial
from itertools import islice
from types import SimpleNamespace

import pytest

from tests.inference.reads_colours import SAMPLES, SIZES, Torn, make_processor
from unisegment.inference.images import leave_out, load_batches, noting
from unisegment.runs import processes
from unisegment.runs.processes import share_of_process


def numbers(batches):
    return [[item.number for item in batch] for batch in batches]


def test_images_come_in_order_in_groups_of_one_size():
    batches = list(load_batches(SAMPLES, make_processor(), [5, 0, 2, 3, 4, 1], batch_size=2))
    assert numbers(batches) == [[5, 0], [2], [3, 4], [1]]
    first = batches[0][0]
    assert first.image is SAMPLES[5]
    assert first.pixel_values.shape == (1, 3, 64, 64)
    assert first.pixel_mask.sum() == SIZES[5][0] * SIZES[5][1]
    assert batches[1][0].pixel_values.shape == (1, 3, 96, 64)


def test_a_full_group_is_given_before_the_next_image_is_read():
    read = []

    class Watched(list):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    batches = load_batches(Watched(SAMPLES), make_processor(), [0, 1, 3, 4], batch_size=2)
    next(batches)
    assert read == [0, 1]


def test_images_that_cannot_be_read_are_left_out_or_raise():
    problems = []
    batches = load_batches(Torn(SAMPLES), make_processor(), range(6), batch_size=9, on_unreadable=problems.extend)
    assert numbers(batches) == [[0], [2], [3, 4]]
    assert problems == ["1.png is gone", "5.png is gone"]
    with pytest.raises(FileNotFoundError):
        list(load_batches(Torn(SAMPLES), make_processor(), range(6)))


@pytest.mark.parametrize("workers", [0, 2])
def test_images_without_end_are_numbered_as_they_come_and_few_are_held(workers):
    given = []

    def endless():
        while True:
            number = len(given)
            given.append(number)
            # Opened where they are loaded, or there already.
            yield partial(SAMPLES.__getitem__, number % 6) if number % 2 else SAMPLES[number % 6]

    batches = load_batches(endless(), make_processor(), batch_size=2, workers=workers)
    first = list(islice(batches, 4))
    assert numbers(first) == [[0, 1], [2], [3, 4], [5, 6]]
    assert [item.image.image_id for batch in first for item in batch] == [0, 1, 2, 3, 4, 5, 0]
    assert len(given) <= 7 + 2 * workers
    del batches


def test_of_an_iterable_unreadable_images_are_left_out_too():
    problems = []
    sources = [partial(Torn(SAMPLES).__getitem__, number) for number in range(3)]
    batches = list(load_batches(iter(sources), make_processor(), on_unreadable=noting(problems, leave_out)))
    assert numbers(batches) == [[0], [2]]
    assert problems == ["1.png is gone"]
    with pytest.raises(FileNotFoundError):
        list(load_batches(sources, make_processor(), on_unreadable=noting(problems, None)))


@pytest.mark.parametrize("num_processes", [1, 2, 3, 8])
def test_shares_are_disjoint_and_even(monkeypatch, num_processes):
    indices = [3, 4, 6, 7, 11, 13, 17]
    shares = []
    for index in range(num_processes):
        state = SimpleNamespace(num_processes=num_processes, process_index=index)
        monkeypatch.setattr(processes, "PartialState", lambda state=state: state)
        shares.append(share_of_process(indices))
    assert [index for share in shares for index in share] == indices
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
