# SPDX-License-Identifier: Apache-2.0
"""The whole model, assembled: a plain vision transformer whose last layers carry the queries, and what masks are of.

Enters: padded images, normalised. Leaves: class and mask logits of every query. Axes: see `unisegment.types`; t is a
prediction, s a token.
"""

import os
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unisegment.layers.attention import set_attn_implementation
from unisegment.models.eomt.configuration_eomt import UniSegmentEomtConfig
from unisegment.models.eomt.mask_features import Upscale
from unisegment.models.eomt.original_checkpoints import ORIGINAL_LICENSE
from unisegment.models.eomt.outputs import UniSegmentEomtOutput
from unisegment.models.eomt.vision_transformer import VisionTransformer
from unisegment.models.mask_classification import (
    MaskClassification,
    check_pixel_values,
    find_image_sizes,
    make_criterion,
    mask_logits,
)
from unisegment.models.pretrained_model import SegmentationPreTrainedModel
from unisegment.structures import SegmentationTarget
from unisegment.transformer_decoders.mask_predictor import MaskPredictor
from unisegment.types import Size


class Prediction(NamedTuple):
    """What the queries say between two layers; a mask is the dot product of an embedding with the features."""

    class_logits: Float[Tensor, "b q k"]
    mask_embeddings: Float[Tensor, "b q c"]
    mask_features: Float[Tensor, "b c h w"]


class Masking(NamedTuple):
    """Whether a layer holds queries to their masks, and whether it lets some of them off at random."""

    is_on: bool
    is_partial: bool


class UniSegmentEomtForUniversalSegmentation(MaskClassification, SegmentationPreTrainedModel):
    """EoMT: queries join the tokens of a plain vision transformer, which is all there is.

    Args:
        config: All sizes. With `use_pretrained_backbone`, the weights of `config.backbone` are loaded as well.

    Attributes:
        attn_mask_probs: For each of the last `num_blocks` layers, the probability that a query is held to its own
            mask. Evaluation, too, holds queries to their masks where it is more than 0, and is random in between 0 and
            1, as in transformers. What is compiled or exported is made for what it was at the last call of `train`,
            `eval` or `load_state_dict`.

    Source:
        EoMT (arXiv:2503.19108).
    """

    config_class = UniSegmentEomtConfig
    class_head = "predictor.class_head"
    query_tables = ("queries.weight",)
    _no_split_modules = ("VisionTransformerLayer",)

    def __init__(self, config: UniSegmentEomtConfig, **unknown: Any) -> None:
        super().__init__(config, **unknown)
        self.backbone = _vision_transformer(config)
        self.queries = nn.Embedding(config.num_queries, config.hidden_size)
        self.upscale = Upscale(config.hidden_size, config.num_upscale_blocks, config.hidden_act)
        self.predictor = MaskPredictor(
            config.hidden_size, config.hidden_size, config.num_labels, config.hidden_act, with_norm=False
        )
        self.mask_stride = config.patch_size // 2**config.num_upscale_blocks
        self.criterion = make_criterion(config)
        self.attn_mask_probs = nn.Buffer(torch.empty(config.num_blocks))
        self._known_masking: tuple[Tensor | None, int, tuple[Masking, ...]]
        self._known_masking = None, 0, (Masking(True, False),) * config.num_blocks
        self.register_load_state_dict_post_hook(_look_up_masking)
        self.reset_parameters()
        set_attn_implementation(self, config._attn_implementation)
        self.post_init()
        self._load_backbone("the hub id or folder of the weights")

    @classmethod
    def from_original(
        cls,
        path: str | os.PathLike[str],
        *,
        license: str = ORIGINAL_LICENSE,
        num_attention_heads: int | None = None,
        image_size: int | None = None,
        base: str | Literal[False] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a checkpoint of the authors' code (tue-mps/eomt).

        The vision transformer, all widths and depths, classes and queries follow from the weights. The names of the
        classes are not in the file: give `id2label`, for example from `unisegment.data.categories.label_names`.

        Args:
            path: A `.bin`, `.pth` or `.safetensors` file; nothing in it is executed.
            license: Licence of the weights, for the record in the config. The authors' are under MIT.
            num_attention_heads: Heads of every attention; None takes what the file says, else one for each 64 channels.
            image_size: Side in pixels of the images that a model with DINOv3 was trained on; None takes what the file
                says, else 640. With DINOv2 the table of positions tells it.
            base: For a model with DINOv3, and only there: the hub id or folder of the DINOv3 that the file's weights
                have to be added to, as those that the authors have released, or False when they are whole.
            **kwargs: As in `from_pretrained`. What no weight tells has the paper's value (the weights of the loss).

        Raises:
            FileNotFoundError: When there is no such file, or no such `base`.
            ValueError: When the file is no such checkpoint, is damaged, or holds more than weights; when `base` is
                another model, or must be said and is not.
        """
        options = {
            "license": license, "num_attention_heads": num_attention_heads, "image_size": image_size, "base": base,
        }  # fmt: skip
        return cls.of_original(path, options, **kwargs)

    def reset_parameters(self) -> None:
        """Start with masks everywhere."""
        nn.init.ones_(self.attn_mask_probs)

    def layers_above(self, name: str) -> int:
        """Return how many layers lie above a weight.

        What makes tokens of images belongs to the first layer; nothing lies above the norm after the layers, queries
        and heads.
        """
        place = name.split(".")
        if place[0] != "backbone" or place[1] == "norm":
            return 0
        return self.config.num_hidden_layers - 1 - (int(place[2]) if place[1] == "layers" else 0)

    def at_step(self, step: int, of: int) -> None:
        """Let go of the masks, layer by layer, as training goes on; see `attn_mask_annealing` in the config."""
        if not self.config.attn_mask_annealing:
            return
        probs = self.config.mask_probabilities(step / of)
        for held, prob in zip(self.attn_mask_probs, probs, strict=True):
            held.fill_(prob)  # a tensor made of numbers would stop an accelerator's queue
        self._remember_masking(probs)

    def forward(
        self,
        pixel_values: Float[Tensor, "b 3 h w"],
        mask_labels: Sequence[Tensor | SegmentationTarget] | None = None,
        class_labels: Sequence[Int[Tensor, " n"]] | None = None,
        pixel_mask: Int[Tensor, "b h w"] | None = None,
        output_hidden_states: bool | None = None,
        output_auxiliary_logits: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        *,
        patch_offsets: list[Tensor] | None = None,
        loss_denominators: Float[Tensor, "2"] | None = None,
        **others: Any,
    ) -> UniSegmentEomtOutput | tuple[Any, ...]:
        """Predict, and score the prediction if targets are given.

        Args:
            pixel_values: Normalised images, padded at bottom and right, of any size.
            mask_labels: For each image either masks (n h w) on the padded grid, or a `SegmentationTarget`.
            class_labels: Labels of the masks; not needed beside `SegmentationTarget`, which has its own.
            pixel_mask: 1 where there is image, 0 where there is padding; only `image_sizes` follow from it. The network
                itself sees the padding, as in the original.
            output_hidden_states: Also return the tokens before and after each layer.
            output_auxiliary_logits: Also return the logits of inner predictions.
            output_attentions: Also return how the tokens of each layer look at each other.
            return_dict: False returns a tuple of what is not None, in the order of `UniSegmentEomtOutput`.
            patch_offsets: Returned as they are, as in transformers: where windows lie in their images.
            loss_denominators: What the loss is divided by, see `unisegment.losses.criterion.loss_denominators`.
            others: Without effect, as in transformers: a batch may hold more than the model needs.

        Raises:
            ValueError: When targets do not fit the images or the classes.
        """
        targets = None
        if mask_labels is not None or class_labels is not None:
            # Of no effect unless compiled. Then `_predict` is the graph: a larger one would know the targets, and be
            # made anew for other numbers of segments.
            torch._dynamo.skip_frame("the network is compiled, the loss is not")
            targets = self.read_targets(mask_labels, class_labels, pixel_values)
        output, scored = self._predict(
            pixel_values,
            pixel_mask,
            self._wants(output_hidden_states, "output_hidden_states"),
            self._wants(output_auxiliary_logits, "output_auxiliary_logits"),
            self._wants(output_attentions, "output_attentions"),
            is_scored=targets is not None,
        )
        scores: dict[str, Any] = {}
        if targets is not None:
            class_logits, mask_embeddings, mask_features = zip(*scored, strict=True)
            stacked = torch.stack(class_logits), torch.stack(mask_embeddings)
            scores = self.score(*stacked, mask_features, targets, loss_denominators)
        if scores or patch_offsets is not None:
            output = UniSegmentEomtOutput(**output, **scores, patch_offsets=patch_offsets)
        return output if self._wants(return_dict, "return_dict") else output.to_tuple()

    def _predict(
        self,
        pixel_values: Float[Tensor, "b 3 h w"],
        pixel_mask: Int[Tensor, "b h w"] | None,
        with_hidden_states: bool,
        with_inner_logits: bool,
        with_attentions: bool,
        is_scored: bool,
    ) -> tuple[UniSegmentEomtOutput, list[Prediction]]:
        """Return the output without a loss, and what the loss is of."""
        check_pixel_values(pixel_values)
        inner, states, attentions, grid = self._transform(
            pixel_values.to(self.dtype), with_hidden_states, with_inner_logits, with_attentions, is_scored
        )
        masking = self._masking()
        scored = [one for block, one in inner.items() if self.training or masking[block].is_on] if is_scored else []
        # Masks alone can do without mask features as a whole. A graph for all sizes knows no number of pieces.
        if is_scored or torch.is_grad_enabled() or torch.compiler.is_compiling():
            scored.append(self._prediction(states[-1], grid))
            class_logits, masks = scored[-1].class_logits, _masks(scored[-1])
        else:
            queries, patches = self._parts(states[-1], grid)
            class_logits, mask_embeddings = self.predictor(queries)
            masks = self.upscale.masks(patches, mask_embeddings)
        # Images were padded to whole patches.
        height, width = (-(-side // self.mask_stride) for side in pixel_values.shape[2:])
        inner_logits = [
            {"class_queries_logits": one.class_logits, "masks_queries_logits": _masks(one)[:, :, :height, :width]}
            for one in (inner.values() if with_inner_logits else ())
        ]
        output = UniSegmentEomtOutput(
            class_queries_logits=class_logits,
            masks_queries_logits=masks[:, :, :height, :width],
            last_hidden_state=states[-1],
            hidden_states=tuple(states) if with_hidden_states else None,
            attentions=tuple(attentions) if attentions else None,
            auxiliary_logits=inner_logits or None,
            image_sizes=find_image_sizes(pixel_values, pixel_mask),
        )
        return output, [one._replace(mask_features=one.mask_features[:, :, :height, :width]) for one in scored]

    def _transform(
        self,
        pixel_values: Float[Tensor, "b 3 h w"],
        with_hidden_states: bool,
        with_inner_logits: bool,
        with_attentions: bool,
        is_scored: bool,
    ) -> tuple[dict[int, Prediction], list[Tensor], list[Tensor], Size]:
        """Return predictions before layers with queries, tokens, weights of attention, and rows and columns of patches.

        The last tokens are those after all layers and the norm. Everything else is there where somebody asks.
        """
        tokens, grid = self.backbone.embed(pixel_values)
        rotation = self.backbone.rotation(grid)
        masking, without_queries = self._masking(), len(self.backbone.layers) - self.config.num_blocks
        predicts_all = with_inner_logits or (is_scored and self.training)
        inner: dict[int, Prediction] = {}
        states, attentions = [tokens], []
        for index, layer in enumerate(self.backbone.layers):
            allowed, block = None, index - without_queries
            if block == 0:
                tokens = self._with_queries(tokens)
            if block >= 0 and (predicts_all or masking[block].is_on):
                prediction = self._prediction(self.backbone.norm(tokens), grid)
                if masking[block].is_on:
                    allowed = self._allowed(prediction, grid, block, masking[block].is_partial)
                if is_scored or with_inner_logits:
                    inner[block] = prediction
            tokens, weights = layer(tokens, allowed, rotation, with_attentions)
            if with_hidden_states:
                states.append(tokens)
            if with_attentions:
                attentions.append(weights)
        states[-1] = self.backbone.norm(tokens)
        return inner, states, attentions, grid

    def _with_queries(self, tokens: Float[Tensor, "b s c"]) -> Float[Tensor, "b _ c"]:
        """Return the tokens with the queries in front."""
        # Looked up, not read: a device map may have left them on disk.
        queries = self.queries(torch.arange(self.config.num_queries, device=tokens.device))
        return torch.cat([queries.to(tokens).expand(tokens.shape[0], -1, -1), tokens], dim=1)

    def _parts(
        self, tokens: Float[Tensor, "b s c"], grid: Size
    ) -> tuple[Float[Tensor, "b q c"], Float[Tensor, "b h w c"]]:
        """Return queries and patches."""
        num_queries = self.config.num_queries
        patches = tokens[:, num_queries + self.backbone.num_prefix_tokens :]
        return tokens[:, :num_queries], patches.unflatten(1, grid)

    def _prediction(self, tokens: Float[Tensor, "b s c"], grid: Size) -> Prediction:
        """Return what the queries say now, from tokens behind the norm."""
        queries, patches = self._parts(tokens, grid)
        class_logits, mask_embeddings = self.predictor(queries)
        features = self.upscale(patches).permute(0, 3, 1, 2)
        return Prediction(class_logits, mask_embeddings, features.to(class_logits.device))

    @torch.no_grad()
    def _allowed(self, prediction: Prediction, grid: Size, block: int, is_partial: bool) -> Bool[Tensor, "b q s"]:
        """Return where the queries may look: at patches inside of their own mask, and at all tokens of no place.

        A query that is let off may look everywhere. One with an empty mask looks at the tokens of no place alone.
        """
        # Resizing commutes with the dot product: masks are made on the grid of patches only.
        features = F.interpolate(prediction.mask_features, grid, mode="bilinear")
        inside = mask_logits(prediction.mask_embeddings, features).flatten(2) > 0
        if is_partial:
            drawn = torch.rand(inside.shape[:2], device=inside.device)
            inside = inside | (drawn > self.attn_mask_probs[block])[..., None]
        return F.pad(inside, (self.config.num_queries + self.backbone.num_prefix_tokens, 0), value=True)

    def _masking(self) -> tuple[Masking, ...]:
        """Return what the layers with queries do about masks; `attn_mask_probs` is read only when it has changed."""
        held, version, masking = self._known_masking
        probs = self.attn_mask_probs
        # A graph is made for what is known; tensors without contents tell nothing.
        if torch.compiler.is_compiling() or type(probs) is not Tensor or probs.device.type == "meta":
            return masking
        if probs is held and not probs.is_inference() and probs._version == version:
            return masking
        return self._remember_masking(probs.tolist())

    def _remember_masking(self, probs: Sequence[float]) -> tuple[Masking, ...]:
        held, masking = self.attn_mask_probs, tuple(Masking(prob > 0, prob < 1) for prob in probs)
        self._known_masking = held, 0 if held.is_inference() else held._version, masking
        return masking

    def train(self, mode: bool = True) -> "UniSegmentEomtForUniversalSegmentation":
        """Set training or evaluation mode, as in torch; what graphs are made for is looked up."""
        super().train(mode)
        self._masking()
        return self


def _look_up_masking(model: UniSegmentEomtForUniversalSegmentation, incompatible_keys: Any) -> None:
    model._masking()


def _masks(prediction: Prediction) -> Float[Tensor, "b q h w"]:
    return mask_logits(prediction.mask_embeddings, prediction.mask_features)


def _vision_transformer(config: UniSegmentEomtConfig) -> VisionTransformer:
    augmentation = {key: getattr(config, f"pos_embed_{key}") for key in ("shift", "jitter", "rescale")}
    return VisionTransformer(
        config.hidden_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        feed_forward_dim=config.feed_forward_dim,
        image_size=(config.image_size, config.image_size),
        patch_size=config.patch_size,
        in_channels=config.num_channels,
        num_register_tokens=config.num_register_tokens,
        position_encoding=config.position_encoding,
        rope={"theta": config.rope_theta, **augmentation},
        activation=config.feed_forward_activation,
        is_gated=config.is_gated,
        feed_forward_bias=config.mlp_bias,
        attention_biases=(config.query_bias, config.key_bias, config.value_bias, config.proj_bias),
        dropout=config.hidden_dropout_prob,
        attention_dropout=config.attention_dropout,
        drop_path_rate=config.drop_path_rate,
        layer_scale=config.layerscale_value,
        norm_eps=config.layer_norm_eps,
        initializer_range=config.initializer_range,
    )
