# SPDX-License-Identifier: Apache-2.0
"""Two processes of torchrun against one: the same steps, files and scores, and an end when one of them dies."""

import json
import os
import re
import shutil
import signal
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from accelerate import Accelerator, DistributedType, PartialState
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils.launch import prepare_multi_gpu_env
from PIL import Image
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from tests.training.small_steps import network
from tests.training.tiny_run import RECIPE, breaking_off, log_of, scores_of, spoiled
from tests.warm_processes import WarmProcess, run_in_two, run_script
from unisegment.data.formats.synthetic import write_synthetic
from unisegment.inference import Predictor, evaluate
from unisegment.inference.report import SHORT_NAMES
from unisegment.models.unisegment.image_processing_unisegment import UniSegmentImageProcessor
from unisegment.models.unisegment.modeling_unisegment import UniSegmentForUniversalSegmentation
from unisegment.runs.recipe import load_recipe
from unisegment.training import fit
from unisegment.training.assembly import open_samples
from unisegment.training.sharding import whole

ROOT = Path(__file__).parents[2]
TRAIN = ROOT / "recipes" / "train.py"
SETTINGS = {
    "schedule.max_steps": 2,
    "data.num_train": 4,  # every step sees all of them
    "data.transform.flip_prob": 0.5,
    "data.transform.jitter_size": [64, 96],  # one canvas, whoever it is shared with
    "data.transform.jitter_scale": [1.0, 1.0],
    "optim.ema_decay": 0.5,
    "evaluation.pictures": 0,
    "evaluation.panoptic_threshold": 0.0,
}
GOES_ON = {
    "schedule.max_steps": 4,
    "optim.lr": 1e-4,  # roundings grow with every step
    "run.checkpoint_every": 2,
    "run.eval_every": 3,
    "model.config.freeze_backbone_norm": False,
    "model.gradient_checkpointing": True,
}
KINDS = ["ddp", "fsdp2"]
UNEVEN = [[0, 23, 4], [1, 2]]
"""Segments of each image of either process."""
WITHOUT_EFFECT = re.compile(r"input_proj\.\d\.conv\.bias|attn\.k_proj\.bias")
"""Biases that a group norm or a softmax takes off again: their gradient is zero but for roundings."""
STARTED = []
draw = torch.rand


def same_points(masks, points, two, generator=None, device=None):
    """Stand in for the only random numbers of a step, the points where masks are compared: each mask gets the same."""
    generator = torch.Generator().manual_seed(points)
    return draw(1, points, two, generator=generator).expand(masks, points, two).clone()


def use(kind):
    """Let accelerate train in one of two ways; it cuts up weights on GPUs only, so the CPU has to pass for one."""
    AcceleratorState._reset_state()
    GradientState._reset_state()
    PartialState(cpu=True)
    types = {"ddp": DistributedType.MULTI_CPU, "fsdp2": DistributedType.MULTI_GPU}
    PartialState._shared_state["distributed_type"] = types[kind]
    os.environ["ACCELERATE_USE_FSDP"] = str(kind == "fsdp2").lower()


@contextmanager
def recorded_gradients(file):
    """Write down the whole gradient of the first step."""
    clip, steps = Accelerator.clip_grad_norm_, []

    def recording(accelerator, parameters, *arguments):
        steps.append(1)
        if len(steps) == 1:
            assert_cut_up(accelerator)
            named = accelerator._models[0].named_parameters()
            gradients = {name.removeprefix("module."): weight.grad for name, weight in named}
            gradients = {name: whole(value).clone() for name, value in gradients.items() if value is not None}
            if accelerator.is_main_process:
                torch.save(gradients, file)
        return clip(accelerator, parameters, *arguments)

    Accelerator.clip_grad_norm_ = recording
    try:
        yield
    finally:
        Accelerator.clip_grad_norm_ = clip


def assert_cut_up(accelerator):
    """Check that FSDP2 has every weight, and which layers it gathers one after the other."""
    (losses,) = accelerator._models
    if accelerator.distributed_type == DistributedType.FSDP:
        units = {type(part).__name__ for part in losses.modules() if isinstance(part, FSDPModule)}
        assert units == {"FSDPLossOnly", "FSDPMaskedAttentionLayer", "FSDPMSDeformAttnEncoderLayer"}
        assert all(isinstance(weight, DTensor) for weight in losses.parameters())


class BrokenOffError(Exception):
    pass


def train(recipe, folder, kind, **overrides):
    use(kind)
    fit(recipe, **{**SETTINGS, **overrides, "run.output_dir": str(folder)})
    assert PartialState().num_processes == 2
    assert PartialState().distributed_type == (DistributedType.FSDP if kind == "fsdp2" else DistributedType.MULTI_CPU)


def compare(recipe, root):
    """Train in all the ways that are looked at afterwards."""
    root = Path(root)
    torch.rand = same_points
    for kind in KINDS:
        for accumulation in (1, 2):
            folder = root / f"{kind}-{accumulation}"
            with recorded_gradients(folder.with_suffix(".gradients")):
                train(recipe, folder, kind, **{"optim.accumulation": accumulation})
        train(recipe, root / f"{kind}-bf16", kind, **{"run.precision": "bf16", "schedule.max_steps": 1})
        with spoiled([1] if PartialState().process_index == 1 else []):
            train(recipe, root / f"{kind}-spoiled", kind, **{"schedule.max_steps": 3})
        train(recipe, root / f"{kind}-unbroken", kind, **GOES_ON)
        with breaking_off(4, BrokenOffError), suppress(BrokenOffError):
            train(recipe, root / f"{kind}-broken", kind, **GOES_ON)
        train(recipe, root / f"{kind}-broken", kind, **GOES_ON)
    damaged = {"data.root": str(root / "damaged"), "data.format": "coco_panoptic", "data.on_error": "skip"}
    train(recipe, root / "ddp-damaged", "ddp", **damaged)
    still = {"optim.lr": 0, "schedule.max_steps": 4, "run.eval_every": 1, "run.patience": 1}
    train(recipe, root / "ddp-still", "ddp", **still)
    state = PartialState()
    labels = [torch.zeros(count, dtype=torch.int64) for count in UNEVEN[state.process_index]]
    denominators, model = {}, network()
    model.config.num_queries = 31
    for mode in ("global", "rank"):
        model.config.loss_normalization = mode
        (own,) = model.loss_denominators([labels], Accelerator().reduce, state.num_processes)
        denominators[mode] = own.tolist()
    known = {"processes": state.num_processes, "pid": os.getpid(), "denominators": denominators}
    (root / f"process-{state.process_index}.json").write_text(json.dumps(known))
    state.destroy_process_group()


def command(pids, *arguments):
    """Run the training command, and say which process this is."""
    Path(pids, os.environ["RANK"]).write_text(str(os.getpid()))
    run_script(TRAIN, *arguments)


def start(function, *arguments):
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", **fsdp2_settings()}
    run = WarmProcess(function, *arguments, environment=environment)
    STARTED.append(run)
    return run


@pytest.fixture(autouse=True)
def _end_what_was_started():
    yield
    for run in STARTED:
        if run.poll() is None:
            run.terminate()
            run.communicate()
    STARTED.clear()


def start_two(function, *arguments):
    """Start two processes, as torchrun does."""
    return start(run_in_two, function, *arguments)


def fsdp2_settings():
    """Return what `accelerate launch` tells the processes of our configuration file."""
    file = str(ROOT / "recipes" / "accelerate" / "fsdp2.yaml")
    arguments = launch_command_parser().parse_args(["--config_file", file, "--main_process_port", "0", "script.py"])
    environment = prepare_multi_gpu_env(_validate_launch_command(arguments)[0])
    assert environment["ACCELERATE_USE_FSDP"] == "true"
    return {name: value for name, value in environment.items() if name.startswith("FSDP_")}


def empty_one_and_crowd_another(root):
    """Leave no segment in one image, and put more into another than a tiny model has queries."""
    file = root / "annotations" / "panoptic_train.json"
    content = json.loads(file.read_text())
    for annotation, count in zip(content["annotations"][:2], (0, 23), strict=True):
        picture = root / "annotations" / "panoptic_train" / annotation["file_name"]
        with Image.open(picture) as image:
            ids = np.zeros((image.height, image.width, 3), np.uint8)
        for index in range(count):
            ids[:, 4 * index : 4 * index + 4, 0] = index + 1
        Image.fromarray(ids).save(picture)
        segment = {"category_id": 1, "iscrowd": 0, "bbox": [0, 0, 4, 4], "area": 16}
        annotation["segments_info"] = [{**segment, "id": index + 1} for index in range(count)]
    file.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folders of all runs, one of them by a single process."""
    root = tmp_path_factory.mktemp("several")
    write_synthetic(root / "scenes", num_train=4, num_val=3, progress=False)
    empty_one_and_crowd_another(root / "scenes")
    shutil.copytree(root / "scenes", root / "damaged")
    for part in ("train", "val"):
        torn = sorted((root / "damaged" / part).iterdir())[-1]
        torn.write_bytes(torn.read_bytes()[:200])
    recipe = root / "recipe.yaml"
    recipe.write_text(RECIPE.format(root=root / "scenes", output=root / "one"))
    two = start_two(compare, recipe, root)
    with pytest.MonkeyPatch.context() as patch, recorded_gradients(root / "one.gradients"):
        patch.setattr(torch, "rand", same_points)
        fit(recipe, **SETTINGS)
    message = two.communicate()[1]
    assert two.returncode == 0, message
    return root


def weights_of(folder):
    return UniSegmentForUniversalSegmentation.from_pretrained(folder / "checkpoint").state_dict()


def test_there_are_two_processes(runs):
    found = [json.loads((runs / f"process-{index}.json").read_text()) for index in range(2)]
    assert [process["processes"] for process in found] == [2, 2]
    assert len({process["pid"] for process in found}) == 2
    # 30 segments, 5 images of 31 queries of which 23 + 4 + 1 + 2 match.
    whole_batch = [15, (30 + 0.1 * 125) / 2]
    expected = [
        {"global": whole_batch, "rank": [15, 27 + 0.1 * 66]},
        {"global": whole_batch, "rank": [15, 3 + 0.1 * 59]},
    ]
    for process, denominators in zip(found, expected, strict=True):
        for mode, values in denominators.items():
            assert process["denominators"][mode] == pytest.approx(values)


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_take_the_step_of_one(runs, kind, accumulation):
    name = f"{kind}-{accumulation}"
    (one, *_), (two, *_) = log_of(runs / "one"), log_of(runs / name)
    assert two == pytest.approx(one, rel=1e-5)
    expected, found = (torch.load(runs / f"{run}.gradients") for run in ("one", name))
    assert found.keys() == expected.keys()
    largest = max(value.abs().max() for value in expected.values())
    for key, value in expected.items():
        size = largest / 100 if WITHOUT_EFFECT.search(key) else value.abs().max()
        assert (found[key] - value).abs().max() <= 1e-5 * size, key


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_share_the_held_out_images(runs, kind):
    folder = runs / f"{kind}-1"
    model = UniSegmentForUniversalSegmentation.from_pretrained(folder / "checkpoint")
    processor = UniSegmentImageProcessor.from_pretrained(folder / "checkpoint")
    _, held_out = open_samples(load_recipe(runs / "recipe.yaml", SETTINGS).data)
    assert len(held_out) == 3
    report = evaluate(Predictor(model, processor, panoptic_threshold=0.0), held_out, batch_size=4)
    scores = {name: report[name] for name in SHORT_NAMES}
    assert scores["miou"] > 0
    found = scores_of(folder)
    assert {name: found[name] for name in scores} == pytest.approx(scores, abs=1e-5)


def test_images_that_one_process_cannot_read_are_known_to_all(runs):
    metrics = scores_of(runs / "ddp-damaged")
    assert metrics["images"] == 2
    first, second = metrics["unreadable_images"]
    assert f"{runs}/damaged/train/" in first
    assert f"{runs}/damaged/val/" in second


def test_processes_end_together_when_nothing_gets_better(runs):
    assert [line["step"] for line in log_of(runs / "ddp-still")] == [1, 2]
    assert (scores_of(runs / "ddp-still")["step"], scores_of(runs / "ddp-still")["finished"]) == (2, True)


@pytest.mark.parametrize("name", ["1", "2", "bf16", "spoiled", "unbroken"])
def test_weights_that_are_cut_up_learn_the_same(runs, name):
    whole_ones, cut_up = runs / f"ddp-{name}", runs / f"fsdp2-{name}"
    for ours, theirs in zip(log_of(cut_up), log_of(whole_ones), strict=True):
        numbers = {key: value for key, value in theirs.items() if isinstance(value, int | float)}
        assert ours == theirs | {key: pytest.approx(value, rel=1e-5) for key, value in numbers.items()}
    expected, found = weights_of(whole_ones), weights_of(cut_up)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if not WITHOUT_EFFECT.search(key):  # Adam makes steps of their roundings
            torch.testing.assert_close(
                found[key], value, rtol=1e-5, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}"
            )
    scores, expected_scores = scores_of(cut_up), scores_of(whole_ones)
    assert scores.pop("unreadable_images") == expected_scores.pop("unreadable_images") == []
    assert scores == pytest.approx(expected_scores, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_off_run_goes_on(runs, kind):
    broken, unbroken = runs / f"{kind}-broken", runs / f"{kind}-unbroken"
    assert log_of(broken) == log_of(unbroken)
    assert scores_of(broken) == scores_of(unbroken)
    expected, found = weights_of(unbroken), weights_of(broken)
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert sorted(path.name for path in broken.iterdir()) == sorted(path.name for path in unbroken.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_no_process_learns_from_what_one_cannot_match(runs, kind):
    lines = log_of(runs / f"{kind}-spoiled")
    assert [line["loss"] is None for line in lines] == [False, True, False]
    (names,) = [line["skipped_images"] for line in lines if "skipped_images" in line]
    assert len(set(names)) == 2


def wait_for_steps(run, log, count):
    while not log.exists() or log.read_text().count("\n") < count:
        assert run.poll() is None, run.communicate()[1]
        time.sleep(0.05)


def test_processes_that_are_stopped_go_on_and_end_when_one_dies(recipe, tmp_path):
    log = tmp_path / "run" / "log.jsonl"
    arguments = [command, tmp_path, recipe, "schedule.max_steps=100000", "data.workers=1"]
    stopped = start_two(*arguments)
    wait_for_steps(stopped, log, 3)
    stopped.send_signal(signal.SIGTERM)
    message = stopped.communicate()[1]
    assert stopped.returncode != 0
    (step,) = re.findall(r"Stopped after step (\d+) of 100000, as a signal asked for", message)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [f"step-{int(step):06d}"]

    again = start_two(*arguments)
    wait_for_steps(again, log, int(step) + 2)
    pids = [int((tmp_path / str(rank)).read_text()) for rank in range(2)]
    os.kill(pids[1], signal.SIGKILL)
    message = again.communicate()[1]
    assert again.returncode != 0
    first = re.search(r"rank +: (\d) .*\n *exitcode +: (-?\d+) \(pid: (\d+)\)", message)  # that the launcher saw to end
    assert first, message
    assert tuple(map(int, first.groups())) in ((1, -signal.SIGKILL, pids[1]), (0, 1, pids[0]))
    assert "fault of unisegment" not in message
    if first.group(1) == "0":
        assert "error: the connection to another process of this run was lost" in message
    assert not psutil.pid_exists(pids[0])
    steps = [line["step"] for line in log_of(tmp_path / "run")]
    assert steps == list(range(1, len(steps) + 1))


def test_a_data_worker_that_dies_or_raises_ends_the_run(recipe, tmp_path, scenes):
    damaged = tmp_path / "scenes"
    shutil.copytree(scenes, damaged)
    picture = sorted((damaged / "train").iterdir())[3]
    picture.write_bytes(picture.read_bytes()[:-500])
    command = [run_script, TRAIN, recipe, "data.workers=1"]
    raising = start(*command, f"data.root={damaged}", f"run.output_dir={tmp_path / 'raising'}")
    dying = start(*command, "schedule.max_steps=100000")
    wait_for_steps(dying, tmp_path / "run" / "log.jsonl", 3)
    for worker in psutil.Process(dying.pid).children():
        worker.kill()
    killed = "error: a process that loads images was killed, has died or hangs"
    for run, cause in ((dying, killed), (raising, re.escape(str(picture)))):
        message = run.communicate()[1]
        assert run.returncode == 1
        assert re.search(cause, message), message
