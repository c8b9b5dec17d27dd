# SPDX-License-Identifier: Apache-2.0
"""A recipe of a tiny model on drawn scenes, for tests of whole runs, and what runs of it write."""

import json
from contextlib import contextmanager
from itertools import count
from unittest import mock

import torch

from unisegment.models.image_processing import ImageProcessor
from unisegment.training import loop

RECIPE = """
data: {{root: {root}, format: synthetic, num_train: 8, num_val: 3, workers: 0, shortest_edge: 64, longest_edge: 80}}
model:
  config:
    backbone_config:
      model_type: resnet
      embedding_size: 8
      hidden_sizes: [8, 8, 16, 16]
      depths: [1, 1, 1, 1]
      layer_type: basic
      out_features: [stage1, stage2, stage3, stage4]
    feature_size: 32
    mask_feature_size: 32
    hidden_dim: 32
    encoder_feedforward_dim: 32
    dim_feedforward: 32
    encoder_layers: 1
    decoder_layers: 4
    num_attention_heads: 2
    num_queries: 11
    train_num_points: 64
optim: {{lr: 1e-3, batch_size: 4, clip_norm: 1.0}}
schedule: {{max_steps: 3}}
evaluation: {{pictures: 0}}
run: {{output_dir: {output}, threads: 1, checkpoint_every: 0}}
"""

MEASURED = ("images_per_second", "peak_memory_mib")


def log_of(folder):
    """Return what the log says, without what differs from run to run."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in MEASURED} for line in lines]


def scores_of(folder):
    """Return the last evaluation, without what differs from run to run."""
    return {**json.loads((folder / "metrics.json").read_text()), "train_seconds": 0}


@contextmanager
def spoiled(calls):
    """Within `with`, let the batches of these numbers hold a picture that is no number, counted from 0."""
    collate, numbers = ImageProcessor.collate, count()

    def spoils(processor, samples):
        inputs = collate(processor, samples)
        if next(numbers) in calls:
            inputs["pixel_values"][1, 0, 5, 7] = torch.nan
        return inputs

    with mock.patch.object(ImageProcessor, "collate", spoils):
        yield


@contextmanager
def breaking_off(at_step, error):
    """Within `with`, let the step of this number raise an error, counted from 1."""
    take_step, steps = loop.take_step, []

    def breaks_off(*arguments):
        steps.append(1)
        if len(steps) == at_step:
            raise error
        return take_step(*arguments)

    loop.take_step = breaks_off
    try:
        yield
    finally:
        loop.take_step = take_step
