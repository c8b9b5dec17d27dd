# SPDX-License-Identifier: Apache-2.0
"""FSDP as accelerate and Trainer set it up by themselves, in two processes, against one process without it."""

import os
from functools import partial

import numpy as np
import pytest
import torch
from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin, PartialState
from accelerate.state import AcceleratorState, GradientState
from torch.distributed.fsdp import FSDPModule
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP1
from transformers import ConvNextConfig, ResNetConfig, SwinConfig, Trainer, TrainingArguments

from tests.two_processes import run_in_two_processes
from unisegment import SegmentationTarget, UniSegmentConfig, UniSegmentForUniversalSegmentation
from unisegment.data.collate import Collate
from unisegment.structures import Sample

BACKBONES = {
    "swin": SwinConfig(
        image_size=64, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8], window_size=3, drop_path_rate=0.0
    ),
    "resnet": ResNetConfig(embedding_size=8, hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1]),
    "convnext": ConvNextConfig(hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1]),
}
UNITS = {"SwinStage", "MSDeformAttnPixelDecoder", "MaskedAttentionDecoder", "UniSegmentForUniversalSegmentation"}
draw = torch.rand


def tiny_model(backbone="swin", **overrides):
    torch.manual_seed(0)
    keys = {
        "feature_size": 32, "mask_feature_size": 16, "hidden_dim": 32, "encoder_layers": 1, "decoder_layers": 3,
        "num_queries": 7, "dim_feedforward": 48, "encoder_feedforward_dim": 40, "train_num_points": 61, "num_labels": 3,
        "backbone_config": BACKBONES[backbone].to_dict(), **overrides,
    }  # fmt: skip
    return UniSegmentForUniversalSegmentation(UniSegmentConfig(**keys)).train()


def samples():
    """Return two images with 3 segments and 1."""
    noise, found = np.random.default_rng(0), []
    for index, count in enumerate((3, 1)):
        ids = torch.arange(32 * 64).view(32, 64) * (count + 1) // (32 * 64)
        target = SegmentationTarget(labels=torch.arange(count), id_map=ids, segment_ids=torch.arange(1, count + 1))
        found.append(Sample(noise.integers(0, 256, (32, 64, 3), dtype=np.uint8), index, f"{index}.png", target=target))
    return found


def collate(batch):
    return Collate(mean=[0.5] * 3, std=[0.2] * 3)(batch)


def same_points(masks, points, two, generator=None, device=None):
    """Stand in for the only random numbers of a step, the points where masks are compared: each mask gets the same."""
    generator = torch.Generator().manual_seed(points)
    return draw(1, points, two, generator=generator).expand(masks, points, two).clone()


def two_steps(model, optimizer, backward):
    """Return the losses of two steps, of which the second sees what the first has learned."""
    losses = []
    for _ in range(2):
        losses.append(model(**collate(samples())).loss)
        optimizer.zero_grad()
        backward(losses[-1])
        optimizer.step()
    return [loss.item() for loss in losses]


def pass_for_gpus():
    """Let accelerate take the CPU for a GPU, as it cuts up weights nowhere else."""
    AcceleratorState._reset_state()
    GradientState._reset_state()
    PartialState(cpu=True)
    PartialState._shared_state |= {"distributed_type": DistributedType.MULTI_GPU, "device": torch.device("cpu")}


def units(model):
    """Return the classes of the parts that gather their weights by themselves."""
    parts = [part for part in model.modules() if isinstance(part, FSDP1 | FSDPModule)]
    return {type(getattr(part, "module", part)).__name__.removeprefix("FSDP") for part in parts}


def with_accelerate(version):
    pass_for_gpus()
    plugin = FullyShardedDataParallelPlugin(fsdp_version=version, auto_wrap_policy="transformer_based_wrap")
    accelerator = Accelerator(cpu=True, fsdp_plugin=plugin)
    model = tiny_model()
    if version == 1:  # the optimiser has to be made of weights that are cut up already
        model = accelerator.prepare(model)
        optimizer = accelerator.prepare(torch.optim.SGD(model.parameters(), 0.1))
    else:
        model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.1))
    return two_steps(model, optimizer, accelerator.backward), units(model)


def with_trainer(folder, fsdp, batch_size):
    AcceleratorState._reset_state(reset_partial_state=True)
    arguments = TrainingArguments(
        str(folder), fsdp=fsdp, max_steps=2, per_device_train_batch_size=batch_size, use_cpu=True,
        dataloader_pin_memory=False, disable_tqdm=True, logging_steps=1, report_to=[], save_strategy="no",
    )  # fmt: skip
    if fsdp:
        assert arguments.world_size == 2
        pass_for_gpus()
    trainer = Trainer(tiny_model(), arguments, data_collator=collate, train_dataset=samples())
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line], units(trainer.model_wrapped)


def in_two_processes(folder, rank):
    # What torchrun would say; nothing listens there, as the processes know each other already.
    there = {"MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", **there}
    torch.set_num_threads(1)
    torch.rand = same_points
    return {
        "fsdp 1": with_accelerate(1),
        "fsdp 2": with_accelerate(2),
        "trainer": with_trainer(folder / "trainer", "full_shard auto_wrap", batch_size=1),
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    first, second = run_in_two_processes(partial(in_two_processes, folder), folder)
    assert first == second
    return first


@pytest.mark.parametrize("kind", ["fsdp 1", "fsdp 2", "trainer"])
def test_cut_up_weights_learn_as_whole_ones(found, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(torch, "rand", same_points)
    if kind == "trainer":
        expected, _ = with_trainer(tmp_path, None, batch_size=2)
    else:
        model = tiny_model()
        expected = two_steps(model, torch.optim.SGD(model.parameters(), 0.1), torch.Tensor.backward)
    losses, parts = found[kind]
    assert losses == pytest.approx(expected, rel=1e-5)
    assert losses[0] != losses[1]
    assert parts == UNITS


@pytest.mark.parametrize("pixel_decoder", ["ms_deform_attn", "fpn", "transformer_fpn"])
@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_parts_that_stay_together_are_there(backbone, pixel_decoder):
    model = tiny_model(backbone, pixel_decoder=pixel_decoder)
    assert model._no_split_modules <= {type(part).__name__ for part in model.modules()}
    decoders = {type(part).__name__ for part in (model.pixel_decoder, model.transformer_decoder)}
    # Residuals need both of their ends on one device.
    assert decoders < model._no_split_modules
