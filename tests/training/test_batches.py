# SPDX-License-Identifier: Apache-2.0
import time
from collections import Counter
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from unisegment.data.annotated_images import BLOCKS_AT_ONCE
from unisegment.data.collate import Collate
from unisegment.data.transforms.training import TrainTransform
from unisegment.runs.settings import RecipeError
from unisegment.structures import Sample, SegmentationTarget
from unisegment.training.batches import BatchPlan, Purpose, TransformedSamples, load_batches, seed_step


class Samples:
    """Images that say their index."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        target = SegmentationTarget(labels=torch.tensor([index]), masks=torch.ones(1, 7, 11, dtype=torch.bool))
        return Sample(np.full((7, 11, 3), index, np.uint8), index, f"{index}.png", target=target)


def add_noise(sample, generator, others):
    return replace(sample, image=sample.image + generator.integers(0, 200, dtype=np.uint8))


def plan(steps, accumulation=1, process_index=0, num_processes=1, batch_size=12, seed=3):
    return list(BatchPlan(5, batch_size, accumulation, steps, seed, process_index, num_processes))


def test_every_epoch_sees_every_image_once_in_its_own_order():
    keys = [key for batch in plan(range(5), batch_size=4) for key in batch]
    assert Counter(keys) == Counter((epoch, index) for epoch in range(4) for index in range(5))
    orders = {tuple(index for epoch, index in keys if epoch == wanted) for wanted in range(4)}
    assert len(orders) == 4


def test_a_later_start_gives_the_rest_of_the_same_batches():
    assert plan(range(2, 7)) == plan(range(7))[2:]


def test_the_seed_decides_the_order():
    assert plan(range(3)) == plan(range(3))
    assert plan(range(3)) != plan(range(3), seed=4)


@pytest.mark.parametrize(("accumulation", "num_processes"), [(3, 1), (1, 2), (2, 3)])
def test_processes_and_micro_batches_share_each_batch(accumulation, num_processes):
    whole = plan(range(4))
    shares = [plan(range(4), accumulation, index, num_processes) for index in range(num_processes)]
    assert all(len(share) == 4 * accumulation for share in shares)
    for step, batch in enumerate(whole):
        parts = [part for share in shares for part in share[step * accumulation : (step + 1) * accumulation]]
        assert sorted(key for part in parts for key in part) == sorted(batch)


def test_a_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(RecipeError, match=r"optim.batch_size=12 cannot .* make it a multiple of 8"):
        plan(range(1), accumulation=4, num_processes=2)


def test_no_images_are_refused():
    with pytest.raises(RecipeError, match="no images"):
        BatchPlan(0, 1, 1, range(1), 0)


def test_without_blocks_an_epoch_is_one_permutation():
    keys = [key for batch in plan(range(2), batch_size=5) for key in batch]
    orders = [np.random.default_rng((Purpose.ORDER, 3, epoch)).permutation(5).tolist() for epoch in range(2)]
    assert keys == [(epoch, index) for epoch in range(2) for index in orders[epoch]]


SIZES = (7, 1, 13, 11, 17, 5, 19, 3, 11, 13)


def block_plan(steps, sizes=SIZES, seed=3, **share):
    bounds = np.cumsum([0, *sizes])
    return list(BatchPlan(sum(sizes), 10, 1, steps, seed, block_bounds=bounds, **share))


def test_with_blocks_every_epoch_sees_every_image_once_in_its_own_order():
    keys = [key for batch in block_plan(range(30)) for key in batch]
    assert Counter(keys) == Counter((epoch, index) for epoch in range(3) for index in range(100))
    orders = [[index for epoch, index in keys if epoch == wanted] for wanted in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert [key for batch in block_plan(range(30), seed=4) for key in batch] != keys
    assert block_plan(range(13, 30)) == block_plan(range(30))[13:]
    halves = [block_plan(range(9), process_index=index, num_processes=2) for index in range(2)]
    for whole, one, other in zip(block_plan(range(9)), *halves, strict=True):
        assert sorted(one + other) == sorted(whole)


def test_images_of_a_block_stay_near_each_other_but_are_mixed_with_those_of_the_next_blocks():
    block_of = np.arange(50).repeat(100)
    order = [index for batch in block_plan(range(500), [100] * 50) for _, index in batch]
    places = np.argsort(order).reshape(50, 100)
    # Each image comes at most four blocks after the first of its block can come.
    assert (places.max(axis=1) - places.min(axis=1)).max() < 450
    for start in range(400, 4600, 100):
        assert len({*block_of[order[start : start + 100]]}) in (4, 5, 6)
    assert not any(np.all(np.diff(line) > 0) for line in places)


def test_few_images_of_blocks_lie_out_of_a_small_memory():
    block_of = np.arange(50).repeat(100)
    order = [index for batch in block_plan(range(500), [100] * 50) for _, index in batch]
    kept, reads = [], 0
    for block in block_of[order]:
        reads += block not in kept
        kept = [*(other for other in kept if other != block), block][-BLOCKS_AT_ONCE - 1 :]
    assert reads < 1.1 * 50


FACTORS = np.array([1.0, 2.5, 1.0, 1.25, 3.0])


def repeating(steps, factors=FACTORS, accumulation=1, process_index=0, num_processes=1, batch_size=6, seed=3):
    shared = (batch_size, accumulation, steps, seed, process_index, num_processes)
    return list(BatchPlan(len(factors), *shared, repeat_factors=factors))


def epochs_of(keys):
    epochs = {}
    for key in keys:
        epochs.setdefault(key[0], []).append(key[1:])
    return [epochs[number] for number in sorted(epochs)]


def test_an_epoch_repeats_images_as_often_as_asked_rounded_up_or_down():
    keys = [key for batch in repeating(range(2500)) for key in batch]
    *epochs, _ = epochs_of(keys)
    times = np.array([np.bincount([index for index, *_ in epoch], minlength=5) for epoch in epochs])
    assert len(times) > 1500
    assert {*map(tuple, times.tolist())} == {(1, twice, 1, once, 3) for twice in (2, 3) for once in (1, 2)}
    assert np.abs(times.mean(axis=0) - FACTORS).max() < 0.04
    # Each epoch is shuffled: copies of an image are anywhere.
    places = np.array([[place for place, key in enumerate(epoch) if key[0] == 4] for epoch in epochs])
    assert np.abs(np.diff(places, axis=1)).min() == 1
    assert places[:, 0].std() > 1
    assert len({tuple(epoch) for epoch in epochs}) > 1400


def test_each_repetition_has_a_number_of_its_own():
    keys = [key for batch in repeating(range(400)) for key in batch]
    assert len({*keys}) == len(keys)
    for epoch in epochs_of(keys)[:-1]:
        for index in range(5):
            numbers = sorted((*key, 0)[1] for key in epoch if key[0] == index)
            assert numbers == [*range(len(numbers))]
            assert sum(len(key) == 1 for key in epoch if key[0] == index) == 1


def test_factors_of_one_repeat_nothing():
    *epochs, _ = epochs_of(key for batch in repeating(range(9), np.ones(5)) for key in batch)
    assert len(epochs) == 10
    assert all(sorted(epoch) == [(index,) for index in range(5)] for epoch in epochs)


def test_repeating_goes_on_from_any_step_and_shares_its_batches():
    whole = repeating(range(60))
    for start in (1, 17, 41):
        assert repeating(range(start, 60)) == whole[start:]
    assert repeating(range(60), seed=4) != whole
    shares = [repeating(range(60), FACTORS, 1, index, 2) for index in range(2)]
    assert [sorted(one + other) for one, other in zip(*shares, strict=True)] == [*map(sorted, whole)]


def test_with_blocks_repeated_images_stay_near_the_others():
    bounds, factors = np.arange(0, 1001, 100), np.where(np.arange(1000) % 7 == 0, 3.0, 1.0)
    plan = BatchPlan(1000, 10, 1, range(129), 3, block_bounds=bounds, repeat_factors=factors)
    keys = [key for batch in plan for key in batch]
    total = int(factors.sum())
    assert Counter(index for _, index, *_ in keys[:total]) == Counter(
        {index: int(factor) for index, factor in enumerate(factors)}
    )
    places = [[place for place, key in enumerate(keys[:total]) if key[1] // 100 == block] for block in range(10)]
    assert max(line[-1] - line[0] for line in places) < 6 * 135


def load(workers, steps=range(3), transform=add_noise, repeat_factors=None):
    samples = TransformedSamples(Samples(), transform, seed=2)
    collate = Collate((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), size_divisor=1)
    plan = BatchPlan(5, 6, 2, steps, seed=2, repeat_factors=repeat_factors)
    return list(load_batches(samples, plan, collate, workers))


def assert_same_batches(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(chain(*ours), chain(*theirs), strict=True):
        assert one.file_names == other.file_names
        assert torch.equal(one.inputs["pixel_values"], other.inputs["pixel_values"])
        for ours_, theirs_ in zip(one.inputs["mask_labels"], other.inputs["mask_labels"], strict=True):
            assert torch.equal(ours_.binary_masks(), theirs_.binary_masks())
            assert torch.equal(ours_.labels, theirs_.labels)


MIXING = TrainTransform(
    jitter_size=(13, 11), jitter_scale=(0.8, 1.5), ssd_color=True, mosaic_prob=0.5, copy_paste_prob=0.7
)


def test_mixed_images_are_the_same_with_any_number_of_workers_and_from_any_step():
    whole = load(0, range(6), MIXING, FACTORS)
    assert_same_batches(load(2, range(6), MIXING, FACTORS), whole)
    assert_same_batches(load(1, range(4, 6), MIXING, FACTORS), whole[4:])
    names = [name for batches in whole for batch in batches for name in batch.file_names]
    assert {name.count("+") for name in names} >= {0, 1, 3, 4}


def test_repeated_images_are_changed_anew():
    seen = TransformedSamples(Samples(), add_noise, seed=2)
    noise = [int(seen[key].sample.image[0, 0, 0]) for key in ((0, 4), (0, 4, 1), (0, 4, 2), (1, 4), (1, 4, 1))]
    assert len({*noise}) == 5
    assert int(seen[0, 4, 1].sample.image[0, 0, 0]) == noise[1]


def draw_two(sample, generator, others):
    drawn = [others.draw().image_id for _ in range(2)]
    return replace(sample, image_id=(sample.image_id, *drawn))


def test_other_images_come_from_the_generator_and_may_be_any():
    seen = [TransformedSamples(Samples(), draw_two, seed=2)[epoch, 3].sample.image_id for epoch in range(200)]
    assert {own for own, *_ in seen} == {3}
    assert Counter(index for _, *drawn in seen for index in drawn).keys() == {*range(5)}
    again = [TransformedSamples(Samples(), draw_two, seed=2)[epoch, 3].sample.image_id for epoch in range(200)]
    assert seen == again
    generator = np.random.default_rng((Purpose.TRANSFORM, 2, 7, 3))
    assert seen[7][1:] == tuple(generator.integers(0, 5) for _ in range(2))


def test_other_images_come_from_the_same_block():
    samples = Samples()
    samples.block_bounds = np.array([0, 2, 3, 5])
    seen = TransformedSamples(samples, draw_two, seed=2)
    for index in range(5):
        found = {other for epoch in range(40) for other in seen[epoch, index].sample.image_id[1:]}
        assert found == [{0, 1}, {0, 1}, {2}, {3, 4}, {3, 4}][index]


def test_another_image_that_cannot_be_read_is_named_and_the_next_one_stands_in():
    seen = TransformedSamples(Damaged(4, 0), draw_two, seed=2, max_skipped=2)
    whole = TransformedSamples(Samples(), draw_two, seed=2)
    for epoch in range(20):
        loaded, expected = seen[epoch, 3], whole[epoch, 3].sample.image_id
        assert loaded.sample.image_id == tuple({4: 1, 0: 1}.get(index, index) for index in expected)
        problems = {4: ["4.png is torn", "0.png is torn"], 0: ["0.png is torn"]}
        assert loaded.unreadable == [problem for index in expected for problem in problems.get(index, ())]
    with pytest.raises(ValueError, match=r"4\.png is torn"):
        [TransformedSamples(Damaged(4), draw_two, seed=2)[epoch, 3] for epoch in range(20)]


def test_workers_do_not_change_what_is_loaded():
    for ours, theirs in zip(load(0), load(2), strict=True):
        assert len(ours) == len(theirs) == 2
        for one, other in zip(ours, theirs, strict=True):
            assert one.file_names == other.file_names
            assert torch.equal(one.inputs["pixel_values"], other.inputs["pixel_values"])


def test_images_change_from_epoch_to_epoch_and_with_their_index_but_not_with_the_start():
    seen = {}
    for step, batches in enumerate(load(0, range(10))):
        for batch in batches:
            for name, image in zip(batch.file_names, batch.inputs["pixel_values"], strict=True):
                noise = round(image[0, 0, 0].item() * 255) - int(name[0])
                seen.setdefault(name, []).append((step, noise % 256))
    assert all(len({noise for _, noise in values}) > 6 for values in seen.values())
    first = {name: values[0][1] for name, values in seen.items()}
    assert len(set(first.values())) > 2
    late = load(0, range(4, 6))
    again = load(0, range(10))[4:6]
    for ours, theirs in zip(late, again, strict=True):
        assert torch.equal(ours[1].inputs["pixel_values"], theirs[1].inputs["pixel_values"])


def test_labels_stay_with_their_images():
    for batches in load(0):
        for batch in batches:
            assert [f"{labels.item()}.png" for labels in batch.inputs["class_labels"]] == batch.file_names


class Damaged(Samples):
    """Images of which some cannot be read."""

    def __init__(self, *broken):
        self.broken = broken

    def __getitem__(self, index):
        if index in self.broken:
            raise ValueError(f"{index}.png is torn")
        return super().__getitem__(index)


def test_an_image_that_cannot_be_read_is_an_error_unless_it_may_be_left_out():
    with pytest.raises(ValueError, match=r"3\.png is torn"):
        TransformedSamples(Damaged(3), add_noise, seed=2)[0, 3]
    loaded = TransformedSamples(Damaged(3), add_noise, seed=2, max_skipped=1)[0, 2]
    assert (loaded.sample.file_name, loaded.unreadable) == ("2.png", [])


def test_the_next_image_that_can_be_read_stands_in_changed_as_the_first_would_have_been():
    samples = TransformedSamples(Damaged(4, 0), add_noise, seed=2, max_skipped=2)
    loaded = samples[7, 4]
    assert (loaded.sample.file_name, loaded.unreadable) == ("1.png", ["4.png is torn", "0.png is torn"])
    whole = TransformedSamples(Samples(), add_noise, seed=2)[7, 4].sample
    np.testing.assert_array_equal(loaded.sample.image - 1, whole.image - 4)


@pytest.mark.parametrize(("broken", "max_skipped"), [((2, 3), 1), (range(5), 100)])
def test_only_so_many_images_in_a_row_may_be_unreadable(broken, max_skipped):
    with pytest.raises(ValueError, match=r"\d.png is torn"):
        TransformedSamples(Damaged(*broken), add_noise, seed=2, max_skipped=max_skipped)[0, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_says_what_was_left_out_of_it(workers):
    samples = TransformedSamples(Damaged(1), add_noise, seed=2, max_skipped=3)
    collate = Collate((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), size_divisor=1)
    (batches,) = load_batches(samples, BatchPlan(5, 10, 2, range(1), seed=2), collate, workers)
    assert [list(batch.unreadable) for batch in batches] == [["1.png is torn"]] * 2
    assert all(sorted(batch.file_names) == ["0.png", "2.png", "2.png", "3.png", "4.png"] for batch in batches)


class NeverReady(Dataset):
    def __getitem__(self, key):
        time.sleep(60)


def test_a_worker_that_hangs_is_waited_for_only_so_long():
    plan = BatchPlan(5, 1, 1, range(1), seed=0)
    with pytest.raises(RuntimeError, match="timed out after 1 seconds"):
        next(load_batches(NeverReady(), plan, list, workers=1, timeout=1))


def test_every_step_of_every_process_has_its_own_random_numbers():
    def draw(*key):
        seed_step(*key)
        return torch.rand(1).item()

    keys = [(seed, step, process) for seed in (0, 1) for step in (0, 1) for process in (0, 1)]
    assert len({draw(*key) for key in keys}) == 8
    assert draw(1, 0, 1) == draw(1, 0, 1)
