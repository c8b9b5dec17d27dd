# SPDX-License-Identifier: Apache-2.0
"""The whole model, assembled: backbone, pixel decoder, transformer decoder, and the loss when targets are given.

Enters: padded images, normalised. Leaves: class and mask logits of every query. Axes: see `unisegment.types`; t is a
prediction of the decoder.
"""

import os
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedConfig

from unisegment.backbones.build import build_backbone
from unisegment.layers.attention import set_attn_implementation
from unisegment.models.mask_classification import (
    MaskClassification,
    check_pixel_values,
    find_image_sizes,
    make_criterion,
    mask_logits,
)
from unisegment.models.pretrained_model import SegmentationPreTrainedModel
from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
from unisegment.models.unisegment.original_checkpoints import ORIGINAL_LICENSE
from unisegment.models.unisegment.outputs import UniSegmentOutput
from unisegment.pixel_decoders.base import PixelDecoderOutput
from unisegment.pixel_decoders.fpn import FPNPixelDecoder
from unisegment.pixel_decoders.ms_deform_attn import MSDeformAttnPixelDecoder
from unisegment.pixel_decoders.transformer_fpn import TransformerFPNPixelDecoder
from unisegment.structures import SegmentationTarget
from unisegment.transformer_decoders.masked_attention import MaskedAttentionDecoder


class UniSegmentForUniversalSegmentation(MaskClassification, SegmentationPreTrainedModel):
    """Mask2Former: one set of queries that answers for things and stuff, whatever the task.

    Args:
        config: All sizes. With `use_pretrained_backbone`, the weights of `config.backbone` are loaded as well.

    Source:
        Mask2Former (arXiv:2112.01527).
    """

    config_class = UniSegmentConfig
    class_head = "transformer_decoder.predictor.class_head"
    query_tables = ("transformer_decoder.query_features.weight", "transformer_decoder.query_pos.weight")
    # Constants (frozen batch norm) count no batches; the two kinds of norm read each other's checkpoints.
    _keys_to_ignore_on_load_unexpected = (r"num_batches_tracked$",)
    _keys_to_ignore_on_load_missing = (r"num_batches_tracked$",)

    def __init__(self, config: UniSegmentConfig, **unknown: Any) -> None:
        super().__init__(config, **unknown)
        assert isinstance(config.backbone_config, PreTrainedConfig)
        self.backbone = build_backbone(config.backbone_config, config.feature_strides, config.freeze_backbone_norm)
        self.pixel_decoder = _pixel_decoder(config, self.backbone.channels)
        self.transformer_decoder = MaskedAttentionDecoder(
            config.feature_size,
            dim=config.hidden_dim,
            mask_dim=config.mask_feature_size,
            num_labels=config.num_labels,
            num_queries=config.num_queries,
            num_layers=config.decoder_layers - 1,
            num_levels=config.num_feature_levels,
            num_heads=config.num_attention_heads,
            feed_forward_dim=config.dim_feedforward,
            activation=config.activation_function,
            dropout=config.dropout,
            pre_norm=config.pre_norm,
            project_inputs=config.enforce_input_projection,
        )
        self.criterion = make_criterion(config)
        set_attn_implementation(self, config._attn_implementation)
        self.post_init()
        self._load_backbone("the hub id, folder or file of the weights")

    @classmethod
    def from_original(
        cls,
        path: str | os.PathLike[str],
        *,
        license: str = ORIGINAL_LICENSE,
        num_attention_heads: int | None = None,
        encoder_n_points: int = 4,
        **kwargs: Any,
    ) -> Any:
        """Load a checkpoint of the original code (facebookresearch/Mask2Former, on detectron2).

        Backbone (ResNet or Swin), pixel decoder, all widths and depths, classes and queries follow from the weights.
        The names of the classes are not in the file: give `id2label`, for example from
        `unisegment.data.categories.label_names`.

        Args:
            path: A `.pkl`, `.pth` or `.safetensors` file; nothing in it is executed.
            license: Licence of the weights, for the record in the config. The original's model zoo is CC BY-NC 4.0.
            num_attention_heads: Heads of both decoders; None takes what follows from `encoder_n_points`, or 8.
            encoder_n_points: Points of the deformable attention.
            **kwargs: As in `from_pretrained`. What no weight tells has the paper's value (`pre_norm=False`, the weights
                of the loss, `drop_path_rate` of a Swin).

        Raises:
            FileNotFoundError: When there is no such file.
            ValueError: When the file is no such checkpoint, is damaged, or holds more than weights.
        """
        options = {
            "license": license,
            "num_attention_heads": num_attention_heads,
            "encoder_n_points": encoder_n_points,
        }
        return cls.of_original(path, options, **kwargs)

    def post_init(self) -> None:
        """Finish the construction: initial weights, and what the parts want of a device map or of FSDP."""
        super().post_init()
        # Both decoders are small beside a backbone, with parameters and results of their own that must lie together.
        names = {type(part).__name__ for part in (self.pixel_decoder, self.transformer_decoder)}
        names.update(self.backbone.body._no_split_modules or ())  # transformers looks into its own models alone
        self._no_split_modules = names & {type(part).__name__ for part in self.modules()}  # any other stops FSDP

    def set_attn_implementation(self, attn_implementation: str | dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """Compute attention by "sdpa" or "eager" from now on; a dict says it for `backbone_config` separately."""
        if attn_implementation == "sdpa" and not self.backbone.body._supports_sdpa:
            attn_implementation = {"": "sdpa", "backbone_config": "eager"}  # a ResNet has none, and would refuse
        super().set_attn_implementation(attn_implementation, *args, **kwargs)

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
        loss_denominators: Float[Tensor, "2"] | None = None,
        **others: Any,
    ) -> UniSegmentOutput | tuple[Any, ...]:
        """Predict, and score the prediction if targets are given.

        The order of arguments is that of transformers' Mask2Former.

        Args:
            pixel_values: Normalised images, padded at bottom and right (sides multiples of 32 for the full accuracy).
            mask_labels: For each image either masks (n h w) on the padded grid, or a `SegmentationTarget`.
            class_labels: Labels of the masks; not needed beside `SegmentationTarget`, which has its own.
            pixel_mask: 1 where there is image, 0 where there is padding; only `image_sizes` follow from it. The network
                itself sees the padding, as in the original.
            output_hidden_states: Also return all maps of backbone and pixel decoder, and the queries after each layer.
            output_auxiliary_logits: Also return the logits of inner predictions.
            output_attentions: Also return how the queries of each layer look at each other.
            return_dict: False returns a tuple of what is not None, in the order of `UniSegmentOutput`.
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
        if targets is not None:
            class_logits, mask_embeddings, mask_features = scored
            first = 0 if self.config.use_auxiliary_loss else len(class_logits) - 1
            scores = self.score(
                class_logits[first:], mask_embeddings[first:], mask_features, targets, loss_denominators
            )
            output = UniSegmentOutput(**scores, **output)
        return output if self._wants(return_dict, "return_dict") else output.to_tuple()

    def _predict(
        self,
        pixel_values: Float[Tensor, "b 3 h w"],
        pixel_mask: Int[Tensor, "b h w"] | None,
        with_hidden_states: bool,
        with_inner_logits: bool,
        with_attentions: bool,
        is_scored: bool,
    ) -> tuple[UniSegmentOutput, tuple[Tensor, Tensor, Tensor]]:
        """Return the output without a loss, and class logits, mask embeddings and mask features for the loss."""
        check_pixel_values(pixel_values)
        maps = self.backbone(pixel_values.to(self.dtype))
        last_map, all_maps = maps[-1], tuple(maps) if with_hidden_states else None
        pixels = self._decode_pixels(maps)
        decoded = self.transformer_decoder(
            pixels.multi_scale_features,
            pixels.mask_features,
            with_attentions,
            with_inner_predictions=with_inner_logits or is_scored,
        )
        class_logits, mask_embeddings = decoded.class_logits, decoded.mask_embeddings
        mask_features = pixels.mask_features.to(class_logits.device)  # a device map may have put it elsewhere
        wished: dict[str, Any] = {}
        if with_hidden_states:
            wished["encoder_hidden_states"] = all_maps
            wished["pixel_decoder_hidden_states"] = pixels.multi_scale_features
            wished["transformer_decoder_hidden_states"] = decoded.queries
        if with_inner_logits:
            wished["auxiliary_logits"] = [
                {"class_queries_logits": logits, "masks_queries_logits": mask_logits(embeddings, mask_features)}
                for logits, embeddings in zip(class_logits[:-1], mask_embeddings[:-1], strict=True)
            ]
        output = UniSegmentOutput(
            class_queries_logits=class_logits[-1],
            masks_queries_logits=mask_logits(mask_embeddings[-1], mask_features),
            encoder_last_hidden_state=last_map,
            pixel_decoder_last_hidden_state=pixels.mask_features,
            transformer_decoder_last_hidden_state=decoded.queries[-1].transpose(0, 1),
            attentions=decoded.attentions,
            image_sizes=find_image_sizes(pixel_values, pixel_mask),
            **wished,
        )
        return output, (class_logits, mask_embeddings, mask_features)

    def _decode_pixels(self, features: list[Float[Tensor, "b _ _ _"]]) -> PixelDecoderOutput:
        """Return what the pixel decoder makes of the maps, which may leave the list."""
        device = features[0].device.type
        if self.config.pixel_decoder_dtype == "autocast" or device == "meta":  # for which torch has no autocast
            return self.pixel_decoder(features)
        with torch.autocast(device, enabled=False):
            dtype = next(self.pixel_decoder.parameters()).dtype
            features[:] = [feature.to(dtype) for feature in features]
            return self.pixel_decoder(features)


def _pixel_decoder(config: UniSegmentConfig, in_channels: Sequence[int]) -> nn.Module:
    sizes: dict[str, Any] = {
        "dim": config.feature_size,
        "mask_dim": config.mask_feature_size,
        "num_levels": config.num_feature_levels,
    }
    if config.pixel_decoder == "fpn":
        return FPNPixelDecoder(in_channels, **sizes)
    sizes |= {
        "num_layers": config.encoder_layers,
        "num_heads": config.num_attention_heads,
        "feed_forward_dim": config.encoder_feedforward_dim,
        "dropout": config.dropout,
    }
    if config.pixel_decoder == "transformer_fpn":
        return TransformerFPNPixelDecoder(in_channels, **sizes, pre_norm=config.pre_norm)
    return MSDeformAttnPixelDecoder(in_channels, **sizes, num_points=config.encoder_n_points)
