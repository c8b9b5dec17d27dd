# SPDX-License-Identifier: Apache-2.0
"""Sections of a recipe in, the data sets, model and processor that they describe out."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from jaxtyping import Float64

from unisegment.data.annotated_images import AnnotatedImages, category_entry
from unisegment.data.first_look import doubt_two_numbers, is_empty, read_first
from unisegment.data.formats import FORMATS
from unisegment.data.formats.synthetic import write_synthetic
from unisegment.data.label_spaces import in_label_space
from unisegment.data.splitting import only_annotated
from unisegment.inference.images import Samples
from unisegment.models.base import FAMILIES, SegmentationProcessor
from unisegment.models.checkpoint_changes import new_weights
from unisegment.models.checkpoints import open_checkpoint
from unisegment.ops.weight_sources import find_checkpoint
from unisegment.runs.data_opening import data_named, named, open_split, with_format
from unisegment.runs.data_recipe import DataRecipe
from unisegment.runs.recipe import Recipe
from unisegment.runs.settings import RecipeError
from unisegment.structures import Category
from unisegment.training.batches import BatchPlan, MicroBatch, TransformedSamples, load_batches
from unisegment.training.lora import add_adapters

_OTHER_RUN = (
    "Labels of a run stay what they were. Begin another one with another run.output_dir, or with run.resume=never and "
    "run.overwrite=true; model.pretrained starts it from the earlier model."
)
_ONE_LIST = "Give both splits one list of categories, or those that are the same one name."


def open_samples(data: DataRecipe, categories: list[Category] | None = None) -> tuple[AnnotatedImages, AnnotatedImages]:
    """Return the training and the held-out images; synthetic ones are made where they are missing.

    Both have the same labels, matched by the names of their categories.

    Args:
        data: What the recipe says about them.
        categories: Those whose labels they get, of a run that goes on; None takes those of the training images.

    Raises:
        RecipeError: When there is no data set of the format, it cannot be opened, it has a category that is not among
            those whose labels it gets, or another number of synthetic scenes than the recipe asks for, or when there is
            nothing to learn.
    """
    root = Path(data.root)
    if data.format == "synthetic" and not root.exists():
        write_synthetic(root, data.num_train, data.num_val)
    with data_named(data):
        train, held_out = open_split(data, "train"), open_split(data, "val")
        if categories is not None:
            owners = "The state that training goes on from", "the " + _called(train, "train")
            train = in_label_space(train, categories, owners=owners, advice=_OTHER_RUN)
        owners = "The " + _called(train, "train"), "the " + _called(held_out, "val")
        held_out = in_label_space(held_out, train.categories, owners=owners, advice=_ONE_LIST)
        read_first(train, data.on_error)
    found, wanted = (len(train), len(held_out)), (data.num_train, data.num_val)
    if data.format == "synthetic" and found != wanted:
        raise RecipeError(
            f"{root} holds {found[0]} scenes for training and {found[1]} held out, but the recipe asks for "
            f"data.num_train={wanted[0]} and data.num_val={wanted[1]}. Change one of them, or remove the folder: it is "
            f"then made anew."
        )
    if is_empty(train):
        advice = doubt_two_numbers(train) or "`unisegment check-data` counts what there is."
        raise RecipeError(
            f"data.root={data.root}: there is nothing to learn: none of the {len(train)} training images has a segment "
            f"that is no crowd (`iscrowd`). {advice}"
        )
    if data.transform.copy_paste_prob and len(region_labels(data, train)) == len(train.id2label):
        raise RecipeError(
            f"data.transform.copy_paste_prob={data.transform.copy_paste_prob}: there are no objects to paste, as no "
            f"category of {data.root} (format {data.format}) is told apart object by object. Set it to 0."
        )
    return only_annotated(train) if data.only_annotated else train, held_out


def _called(samples: AnnotatedImages, split: str) -> str:
    file = getattr(samples, "annotation_file", None)
    return f"split {split!r}" + ("" if file is None else f" ({file})")


def data_notes(train: AnnotatedImages, held_out: AnnotatedImages) -> list[str]:
    """Return what a user should know of the data before training."""
    doubt = doubt_two_numbers(train)
    notes = [] if doubt is None else [doubt]
    if is_empty(held_out):
        notes.append(
            f"none of the {len(held_out)} held-out images has a segment that is no crowd: there will be no scores, and "
            "no best checkpoint."
        )
    return notes


def region_labels(data: DataRecipe, samples: AnnotatedImages) -> list[int]:
    """Return the labels of which an image has one segment at most: stuff, and all where there are no objects."""
    has_objects = FORMATS[with_format(data).format].tasks != ("semantic",)
    return samples.stuff_label_ids if has_objects else [*samples.id2label]


def plan_batches(
    recipe: Recipe, samples: Samples, steps: range, repeat_factors: Float64[np.ndarray, " n"] | None = None
) -> BatchPlan:
    """Return which images this process sees in which step; see `BatchPlan` for `repeat_factors`.

    Raises:
        RecipeError: When the batch cannot be divided among processes and micro-batches.
    """
    state = PartialState()
    return BatchPlan(
        num_samples=len(samples),
        batch_size=recipe.optim.batch_size,
        accumulation=recipe.optim.accumulation,
        steps=steps,
        seed=recipe.run.seed,
        process_index=state.process_index,
        num_processes=state.num_processes,
        block_bounds=getattr(samples, "block_bounds", None),
        repeat_factors=repeat_factors,
    )


def open_batches(
    recipe: Recipe,
    samples: AnnotatedImages,
    processor: SegmentationProcessor,
    steps: range,
    workers: int,
    repeat_factors: Float64[np.ndarray, " n"] | None = None,
) -> Iterator[list[MicroBatch]]:
    """Give the micro-batches of this process, step by step, as training sees them; see `plan_batches`.

    Raises:
        RecipeError: As `plan_batches` does.
    """
    data = recipe.data
    regions = region_labels(data, samples)
    transformed = TransformedSamples(samples, data.transform, recipe.run.seed, data.most_skipped, regions)
    plan = plan_batches(recipe, samples, steps, repeat_factors)
    return load_batches(transformed, plan, processor.collate, workers, timeout=60 * recipe.run.timeout)


def check_model(recipe: Recipe) -> None:
    """Find out early whether there is what `model` starts from: opening the data may take minutes.

    Raises:
        RecipeError: When it cannot be found, or `model.config` describes no model.
    """
    chosen = recipe.model
    if chosen.pretrained is not None:
        with named(f"model.pretrained={chosen.pretrained}"):
            find_checkpoint(chosen.pretrained)
        return
    with named("model.config"):
        chosen.families[0].config(**chosen.config)
        if chosen.config.get("use_pretrained_backbone") and chosen.config.get("backbone") is not None:
            from unisegment.backbones.pretrained import require_backbone  # it has the code of models

            require_backbone(chosen.config["backbone"])


def model_notes(recipe: Recipe) -> list[str]:
    """Return what a user should know of the model before training."""
    chosen, factor = recipe.model, recipe.optim.backbone_lr_factor
    if chosen.pretrained is not None or chosen.config.get("use_pretrained_backbone") or factor >= 1:
        return []
    return [
        f"model.pretrained=null: all weights start random, but optim.backbone_lr_factor={factor} is for a backbone "
        "that has learned before. Name a checkpoint, or start from the recipe own_data_scratch, whose network, norms, "
        "rates and clipping are for random weights."
    ]


def starting_weights(recipe: Recipe, model: Any, new: Collection[str], new_classes: int) -> str:
    """Say what a model is, where its weights come from, and how many of them start random.

    Args:
        recipe: What describes the model.
        model: As it was opened.
        new: Names of the weights that nothing was loaded into.
        new_classes: Rows of its class head that nothing was loaded into, unless they are among `new`.
    """
    config, chosen = model.config, recipe.model
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    has_backbone = chosen.pretrained is None and config.use_pretrained_backbone
    # What is behind the network of a backbone, such as a feature pyramid, is not in its file.
    loaded = getattr(model.backbone, "body", model.backbone).parameters() if has_backbone else ()
    random = sum(sizes[name] for name in sizes.keys() & new) - sum(weight.numel() for weight in loaded)
    random += new_classes * (model.get_submodule(model.class_head).in_features + 1)
    origin = chosen.pretrained or (f"{config.backbone} for the backbone" if has_backbone else "no checkpoint")
    return (
        f"{_described(model)}, weights from {origin}; "
        f"{random / 1e6:.1f} of {sum(sizes.values()) / 1e6:.1f} million start random"
    )


def _described(model: Any) -> str:
    return " and ".join(FAMILIES[model.config.model_type].describe(model.config))


def build_model(
    recipe: Recipe, samples: AnnotatedImages, say: Callable[[str], object] | None = None
) -> tuple[Any, SegmentationProcessor]:
    """Return the model that is trained, a `SegmentationModel`, and its processor, for a data set.

    With `model.lora.rank` it has adapters, see `add_adapters`.

    Args:
        recipe: Describes the model.
        samples: The data set, which says the classes.
        say: Is told what `starting_weights` returns.

    Raises:
        RecipeError: When `model` does not describe a model.
    """
    model, processor, new, new_classes = _open_model(recipe, samples)
    chosen = recipe.model
    if say is not None:
        say(starting_weights(recipe, model, new, new_classes))
    with named("model"):
        model.backbone.freeze(chosen.frozen_stages)
    decay = recipe.optim.layer_decay
    if decay != 1 and not any(model.layers_above(name) for name, _ in model.named_parameters()):
        raise RecipeError(
            f"optim.layer_decay={decay}: which modules of this model ({_described(model)}) are its layers "
            "is not known. Set it to 1."
        )
    if chosen.lora.rank:
        add_adapters(model, chosen.lora, new)
    if chosen.gradient_checkpointing:
        recompute_layers(model)
    return model, processor


def _open_model(recipe: Recipe, samples: AnnotatedImages) -> tuple[Any, SegmentationProcessor, set[str], int]:
    """Return the model as it was opened, its processor, and which weights and how many classes no checkpoint had."""
    data, chosen = recipe.data, recipe.model
    size = {"shortest_edge": data.shortest_edge, "longest_edge": data.longest_edge}
    of_processor = {"size": size, "range": data.range, **chosen.processor}
    if chosen.pretrained is None:
        with named("model.config"):
            model, processor = chosen.families[0].build(chosen.config, samples.categories, **of_processor)
        return model, processor, set(model.state_dict()), 0
    of_processor |= {"num_labels": len(samples.id2label), "stuff_label_ids": samples.stuff_label_ids}
    classes = {"id2label": samples.id2label, "categories": [*map(category_entry, samples.categories)]}
    options = {**classes, "ignore_mismatched_sizes": True, "output_loading_info": True, **chosen.config}
    family, called = None, f"model.pretrained={chosen.pretrained}"
    if chosen.type is not None:
        family, called = chosen.families[0], f"{called}, model.type={chosen.type}"
    with named(called):
        opened, processor = open_checkpoint(chosen.pretrained, of_processor, family, **options)
    model, report = opened
    changes = report["changes"]
    new_classes = len(changes["classes"].made) if "classes" in changes else 0
    return model, processor, new_weights(changes, model.query_tables), new_classes


def recompute_layers(model: Any) -> None:
    """Let a model forget what is inside its layers after the forward pass, and compute it again for the backward."""
    # The name since transformers 5.23, which warns of the older one, and the only one before.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()
