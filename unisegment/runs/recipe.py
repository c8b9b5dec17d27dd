# SPDX-License-Identifier: Apache-2.0
"""YAML files and `key.path=value` overrides in, one checked `Recipe` out.

A recipe names everything that decides the result of a training run. Every key has its type and its default here.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from huggingface_hub.utils import validate_repo_id

from unisegment.ops.json_values import shown
from unisegment.runs.data_recipe import DataRecipe
from unisegment.runs.lora_recipe import LoraRecipe
from unisegment.runs.recipe_files import drop_replaced, find_recipe, read_keys
from unisegment.runs.schedule_recipe import ScheduleRecipe
from unisegment.runs.settings import (
    AtLeastOne,
    Bounds,
    NotBelowZero,
    NotNegative,
    RecipeError,
    Share,
    check,
    construct,
    cut,
    expand_home,
    plain,
)

_Images = Annotated[int, Bounds(1, 2**16)]
_SAID_BY_DATA = frozenset(("size", "range", "id2label", "num_labels", "stuff_label_ids"))
_WHERE_DATA_SAYS_IT = (
    "the section data says it. Sizes are data.shortest_edge and data.longest_edge, the range is data.range, and labels "
    "are those of the data set."
)


@dataclass(frozen=True, kw_only=True)
class ModelRecipe:
    """What is trained.

    Args:
        type: Family of the model, as `model_type` in its config.json: "unisegment" is Mask2Former. None takes that of
            `pretrained`, or else "unisegment".
        pretrained: Checkpoint of a whole model to start from: a folder or Hub name (ours or one that transformers has a
            model for), or a file of the original code. Labels of equal name keep their weights. None starts from random
            weights.
        config: Keys of the family's config, over the defaults or over the checkpoint's own; the classes are the data's.
        processor: Settings of the family's image processor, likewise, but for those that `data` says.
        gradient_checkpointing: Forget what is inside the layers after the forward pass and compute it again for the
            backward pass: less memory, more time, the same result. The layers are those of decoders and of
            transformers (Swin and vision transformers; not ResNet and ConvNeXt).
        frozen_stages: How much of the backbone does not learn, counted from its input: 0 nothing, 1 the stem, 2 the
            stem and the first stage (of a plain vision transformer: block), and so on; `all` the whole backbone.
        lora: Small matrices beside the layers of `pretrained` learn instead of the layers.
    """

    type: str | None = None
    pretrained: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    processor: dict[str, Any] = field(default_factory=dict)
    gradient_checkpointing: bool = False
    frozen_stages: Annotated[int, Bounds(0, 1000)] | Literal["all"] = 0
    lora: LoraRecipe = field(default_factory=LoraRecipe)

    def __post_init__(self) -> None:
        expand_home(self, "pretrained")
        backbone = self.config.get("backbone")
        if isinstance(backbone, str):
            object.__setattr__(self, "config", {**self.config, "backbone": os.path.expanduser(backbone)})
        if self.type is not None or self.config or self.processor:
            self._check_keys(self.families)
        for key in {"id2label", "label2id", "num_labels", "categories"} & self.config.keys():
            raise ValueError(
                f"config.{key}: the classes are the categories of the data. Name them there: in the annotation file, "
                "in categories.json, or by data.categories."
            )
        if self.lora.rank and self.pretrained is None:
            raise ValueError(
                f"lora.rank={self.lora.rank} is for a model that has learned before, but pretrained=null. Give "
                "pretrained a checkpoint, or set lora.rank to 0."
            )

    def _check_keys(self, families: Sequence[Any]) -> None:
        """Raise a ValueError unless one of the families has all keys; it says what each of them does not have."""
        for key in _SAID_BY_DATA & self.processor.keys():
            raise ValueError(f"processor.{key}: {_WHERE_DATA_SAYS_IT}")
        refusals = []
        for family in families:
            try:
                family.config.check_keys(self.config)
                family.check_settings(self.processor)
            except ValueError as error:
                refusals.append(str(error))
            else:
                return
        raise ValueError(" ".join(dict.fromkeys(refusals)))

    @property
    def families(self) -> list[Any]:
        """The families that the model may be of: one, unless a checkpoint tells.

        Raises:
            ValueError: When there is none of the name in `type`.
        """
        # Here, because it brings transformers, which most errors in recipes need not wait for.
        from unisegment.models.base import FAMILIES

        if self.type is None and self.pretrained is not None:
            return [*FAMILIES.values()]
        return [FAMILIES.named(self.type or "unisegment")]


@dataclass(frozen=True, kw_only=True)
class OptimRecipe:
    """How one step is taken.

    Args:
        lr: Highest learning rate.
        batch_size: Images in one step, over all processes and micro-batches.
        accumulation: Micro-batches that one step is computed in; more need less memory and give the same result.
        micro_batch: Instead of that, the images of a micro-batch in each process; `auto` takes the largest power-of-two
            split of the batch that the forecast of memory allows. The run writes down `accumulation`.
        weight_decay: AdamW's decay of the parameters that are decayed at all.
        decay_all: Norms, embeddings and position tables are decayed, too.
        backbone_lr_factor: The backbone's learning rate is `lr` times this.
        layer_decay: Each layer of the backbone learns at the rate of the one above times this; what is before the first
            at the rate of that one. 1 lets all learn alike.
        full_rate_layers: Last layers of the backbone that learn at its full rate all the same; `layer_decay` counts
            them. With DINOv3, EoMT's authors let those with queries do so.
        clip_norm: Largest L2 norm of all gradients together; 0 does not clip.
        ema_decay: Share of a moving average of the weights that each step keeps, such as 0.9999. The average is what
            is evaluated and saved. 0 keeps none.
        max_non_finite_steps: Steps in a row whose loss is no finite number, after which the run ends. Fewer are left
            out, and their images named in the log.
    """

    lr: NotBelowZero = 1e-4
    batch_size: _Images = 16
    accumulation: _Images = 1
    micro_batch: _Images | Literal["auto"] | None = None
    weight_decay: NotBelowZero = 0.05
    decay_all: bool = False
    backbone_lr_factor: NotBelowZero = 0.1
    layer_decay: Share = 1.0
    full_rate_layers: NotNegative = 0
    clip_norm: NotBelowZero = 0.01
    ema_decay: Share = 0.0
    max_non_finite_steps: AtLeastOne = 5

    def __post_init__(self) -> None:
        if self.ema_decay == 1:
            raise ValueError("ema_decay=1 keeps the first weights for ever: give less, such as 0.9999.")
        if self.layer_decay == 0:
            raise ValueError("layer_decay must be more than 0, got 0. To freeze layers, set model.frozen_stages.")
        if self.micro_batch is not None and self.accumulation != 1:
            raise ValueError(
                f"either accumulation or micro_batch says how a step is divided, got {self.accumulation} and "
                f"{self.micro_batch}. Set one of them."
            )


@dataclass(frozen=True, kw_only=True)
class EvaluationRecipe:
    """How the held-out images are evaluated.

    Args:
        panoptic_threshold: Smallest score of a segment that counts.
        top_k: Most objects of an image, the best ones. COCO's rules score 100 of each category; with more, as many.
        batch_size: Images of equal padded size that go through the model together, in each process.
        pictures: Held-out images that are drawn into `predictions/` at the end.
        expected: Scores that the recipe as it stands has reached, in words, which are said beside the result. Recipes
            that extend this one do not inherit it.
    """

    panoptic_threshold: Share = 0.8
    top_k: AtLeastOne = 100
    batch_size: _Images = 4
    pictures: NotNegative = 6
    expected: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunRecipe:
    """Where results go and how the run is kept alive.

    Args:
        output_dir: Folder of everything that the run writes, relative to the folder the command runs in.
        seed: Decides the first weights, the order of images and everything random.
        precision: Number format of the training steps; evaluation is always in float32.
        tf32: Let GPUs that have TF32 round float32 to it in matrix products and convolutions, in steps and evaluation,
            as the original's did. False computes in full.
        checkpoint_every: Steps between two states to resume from; 0 saves none.
        keep_checkpoints: How many of them are kept, the newest.
        eval_every: Steps between two evaluations; 0 evaluates at the end only.
        best_metric: The score that the run is for: it is named first, pictures show its task, and by it the best
            of the models that were evaluated is kept in `checkpoint-best/`, if `eval_every` is not 0. None takes `miou`
            for labels without things, `mask_ap` for labels without stuff, and `pq` otherwise.
        patience: Evaluations in a row without a better `best_metric` after which the run ends, as if these had been
            all its steps; those without a score do not count. 0 takes all steps.
        trackers: Where the log goes besides: any that accelerate knows, such as tensorboard, wandb, trackio and mlflow.
            Each must be installed.
        project: Name of the project there.
        resume: `auto` continues an unfinished run in `output_dir`, `never` starts anew, a path continues from there.
        overwrite: True removes an earlier run in `output_dir` where `resume` would refuse.
        timeout: Minutes that a process waits for another one, or for a worker that loads images, before the run ends.
        compile: Let torch.compile make kernels of backbone and decoders for the training steps; loss and evaluations go
            without them. Takes minutes at the first step, and some for each further size of image.
        threads: Processor threads of each process. None takes the cores there are, unless OMP_NUM_THREADS says
            otherwise.
    """

    output_dir: str
    seed: Annotated[int, Bounds(0, 2**63 - 1)] = 0
    precision: Literal["no", "bf16", "fp16"] = "no"
    tf32: bool = True
    checkpoint_every: NotNegative = 1000
    keep_checkpoints: AtLeastOne = 2
    eval_every: NotNegative = 0
    best_metric: Literal["pq", "mask_ap", "miou"] | None = None
    patience: NotNegative = 0
    trackers: tuple[str, ...] = ()
    project: str = "unisegment"
    resume: str = "auto"
    overwrite: bool = False
    timeout: Annotated[float, Bounds(0, 60 * 24 * 365)] = 10
    compile: bool = False
    threads: Annotated[int, Bounds(1, 2**10)] | None = None

    def __post_init__(self) -> None:
        expand_home(self, "output_dir", "resume")
        if self.timeout == 0:
            raise ValueError("timeout must be more than 0 minutes, got 0.")
        if self.patience and not self.eval_every:
            raise ValueError(
                f"patience={self.patience} counts evaluations, but eval_every=0. Set the steps between two of them."
            )


@dataclass(frozen=True, kw_only=True)
class HubRecipe:
    """Whether the result goes to the Hugging Face Hub.

    Args:
        push: Upload the model, its processor, the recipe and a model card when the run is finished. Whether the Hub
            knows the user is asked before it begins.
        repo: Where to: `user/name`, or `name` alone for the user's own. It is made when it is missing.
        private: Nobody else sees it.
    """

    push: bool = False
    repo: str | None = None
    private: bool = False

    def __post_init__(self) -> None:
        if self.repo is not None:
            validate_repo_id(self.repo)
        elif self.push:
            raise ValueError("push=true needs repo: where to, such as user/name.")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a training run; see each section."""

    data: DataRecipe
    model: ModelRecipe = field(default_factory=ModelRecipe)
    optim: OptimRecipe = field(default_factory=OptimRecipe)
    schedule: ScheduleRecipe
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)
    run: RunRecipe
    hub: HubRecipe = field(default_factory=HubRecipe)

    def counted(self, num_images: int) -> "Recipe":
        """Return the same recipe with a number of steps in place of epochs, see `ScheduleRecipe.counted`."""
        return replace(self, schedule=self.schedule.counted(num_images, self.optim.batch_size))

    def to_yaml(self) -> str:
        """Return the recipe with every key, so that it runs the same when the defaults change."""
        return yaml.safe_dump(plain(asdict(self)), sort_keys=False)


def load_recipe(source: Recipe | str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe and set some of its keys.

    Args:
        source: A recipe, its YAML file, or the name of one that comes with the library, see `find_recipe`. A file may
            start from others, `extends: other.yaml` or `extends: [one.yaml, other.yaml]`, of which later ones win;
            they are files relative to it, or names.
        overrides: Values by dotted key, such as `{"optim.lr": 1e-3}`. Keys of `model.config` go as deep as needed.
            `schedule.epochs` takes the place of `schedule.max_steps` in the recipe, and the other way round, as it does
            in a file of what it extends; so do `optim.micro_batch` and `optim.accumulation`.

    Raises:
        RecipeError: For an unknown key, a value of a wrong type or out of range, or a key that is not set.
    """
    origin = "the recipe" if isinstance(source, Recipe) else str(source)
    values = plain(asdict(source)) if isinstance(source, Recipe) else read_keys(Recipe, find_recipe(source))
    overrides = overrides or {}
    drop_replaced(values, overrides)
    for key, value in overrides.items():
        _override(values, key, value)
    return construct(Recipe, check(Recipe, values, origin), origin)


def _override(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, name = key.split(".")
    nested: dict[str, Any] = {name: value}
    for parent in reversed(parents):
        nested = {parent: nested}
    check(Recipe, nested, cut(f"{key}={value}"))
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise RecipeError(f"{key}={shown(value)}: {parent} is {shown(values)}, which has no keys.")
    values[name] = value
