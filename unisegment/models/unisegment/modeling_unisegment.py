# SPDX-License-Identifier: Apache-2.0
"""The whole model, assembled: backbone, pixel decoder, transformer decoder, and the loss when targets are given.

Enters: padded images, normalised. Leaves: class and mask logits of every query. Axes: see `unisegment.types`; t is a
prediction of the decoder.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedConfig

from unisegment.backbones.build import build_backbone
from unisegment.layers.attention import set_attn_implementation
from unisegment.losses.criterion import SetCriterion
from unisegment.losses.matcher import HungarianMatcher
from unisegment.models.base_weights import record
from unisegment.models.pretrained_model import UniSegmentPreTrainedModel
from unisegment.models.unisegment.configuration_unisegment import UniSegmentConfig
from unisegment.models.unisegment.outputs import UniSegmentOutput
from unisegment.pixel_decoders.base import PixelDecoderOutput
from unisegment.pixel_decoders.fpn import FPNPixelDecoder
from unisegment.pixel_decoders.ms_deform_attn import MSDeformAttnPixelDecoder
from unisegment.pixel_decoders.transformer_fpn import TransformerFPNPixelDecoder
from unisegment.structures import SegmentationTarget
from unisegment.transformer_decoders.masked_attention import MaskedAttentionDecoder
from unisegment.types import Size


class UniSegmentForUniversalSegmentation(UniSegmentPreTrainedModel):
    """Mask2Former: one set of queries that answers for things and stuff, whatever the task.

    Args:
        config: All sizes. With `use_pretrained_backbone`, the weights of `config.backbone` are loaded as well.

    Source:
        Mask2Former (arXiv:2112.01527).
    """

    def __init__(self, config: UniSegmentConfig, **unknown: Any) -> None:
        UniSegmentConfig.check_keys(unknown)
        config.check_sizes()  # keys may have been overridden since construction
        super().__init__(config)
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
        self.criterion = _criterion(config)
        set_attn_implementation(self, config._attn_implementation)
        self.post_init()
        # `from_pretrained` builds on the meta device and brings all weights itself.
        if config.use_pretrained_backbone and self.device.type != "meta":
            self._load_backbone(config)

    def _load_backbone(self, config: UniSegmentConfig) -> None:
        if config.backbone is None:
            raise ValueError("use_pretrained_backbone needs `backbone`: the hub id, folder or file of the weights.")
        self.backbone.load_pretrained(config.backbone)
        known, source = config.base_weights or [], record(config.backbone, {})
        config.base_weights = known if source in known else [*known, source]

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
        if pixel_values.ndim != 4 or 0 in pixel_values.shape:
            raise ValueError(f"pixel_values must be (batch, 3, height, width), got {tuple(pixel_values.shape)}.")
        if class_labels is not None and mask_labels is None:
            raise ValueError("mask_labels is needed beside class_labels.")
        targets = None
        if mask_labels is not None:
            # Of no effect unless compiled. Then `_predict` is the graph: a larger one would know the targets, and be
            # made anew for other numbers of segments.
            torch._dynamo.skip_frame("the network is compiled, the loss is not")
            size = (pixel_values.shape[2], pixel_values.shape[3])
            targets = _read_targets(mask_labels, class_labels, len(pixel_values), size, self.config.num_labels)
        output, scored = self._predict(
            pixel_values, pixel_mask, output_hidden_states, output_auxiliary_logits, output_attentions
        )
        if targets is not None:
            output = self._with_loss(output, *scored, targets, loss_denominators)
        return output if self._wants(return_dict, "return_dict") else output.to_tuple()

    def _predict(
        self,
        pixel_values: Float[Tensor, "b 3 h w"],
        pixel_mask: Int[Tensor, "b h w"] | None,
        output_hidden_states: bool | None,
        output_auxiliary_logits: bool | None,
        output_attentions: bool | None,
    ) -> tuple[UniSegmentOutput, tuple[Tensor, Tensor, Tensor]]:
        """Return the output without a loss, and class logits, mask embeddings and mask features for the loss."""
        maps = self.backbone(pixel_values.to(self.dtype))
        pixels = self._decode_pixels(maps)
        decoded = self.transformer_decoder(
            pixels.multi_scale_features, pixels.mask_features, self._wants(output_attentions, "output_attentions")
        )
        class_logits, mask_embeddings = decoded.class_logits, decoded.mask_embeddings
        mask_features = pixels.mask_features.to(class_logits.device)  # a device map may have put it elsewhere
        wished: dict[str, Any] = {}
        if self._wants(output_hidden_states, "output_hidden_states"):
            wished["encoder_hidden_states"] = tuple(maps)
            wished["pixel_decoder_hidden_states"] = pixels.multi_scale_features
            wished["transformer_decoder_hidden_states"] = decoded.queries
        if self._wants(output_auxiliary_logits, "output_auxiliary_logits"):
            wished["auxiliary_logits"] = [
                {"class_queries_logits": logits, "masks_queries_logits": _masks(embeddings, mask_features)}
                for logits, embeddings in zip(class_logits[:-1], mask_embeddings[:-1], strict=True)
            ]
        output = UniSegmentOutput(
            class_queries_logits=class_logits[-1],
            masks_queries_logits=_masks(mask_embeddings[-1], mask_features),
            encoder_last_hidden_state=maps[-1],
            pixel_decoder_last_hidden_state=pixels.mask_features,
            transformer_decoder_last_hidden_state=decoded.queries[-1].transpose(0, 1),
            attentions=decoded.attentions,
            image_sizes=find_image_sizes(pixel_values, pixel_mask),
            **wished,
        )
        return output, (class_logits, mask_embeddings, mask_features)

    @torch.compiler.disable
    def _with_loss(
        self,
        output: UniSegmentOutput,
        class_logits: Float[Tensor, "t b q k"],
        mask_embeddings: Float[Tensor, "t b q c"],
        mask_features: Float[Tensor, "b c h w"],
        targets: Sequence[SegmentationTarget],
        denominators: Float[Tensor, "2"] | None,
    ) -> UniSegmentOutput:
        """Return the output with the loss, which comes first, and its terms."""
        # Nobody waits for these copies; the matcher waits for all, before `targets` are gone.
        sent = [target.to(class_logits.device, non_blocking=True) for target in targets]
        first = 0 if self.config.use_auxiliary_loss else len(class_logits) - 1
        loss, terms = self.criterion(class_logits[first:], mask_embeddings[first:], mask_features, sent, denominators)
        return UniSegmentOutput(loss=loss, loss_dict=terms, **output)

    def _wants(self, given: bool | None, key: str) -> bool:
        return bool(getattr(self.config, key) if given is None else given)

    def _decode_pixels(self, features: Sequence[Float[Tensor, "b _ _ _"]]) -> PixelDecoderOutput:
        device = features[0].device.type
        if self.config.pixel_decoder_dtype == "autocast" or device == "meta":  # for which torch has no autocast
            return self.pixel_decoder(features)
        with torch.autocast(device, enabled=False):
            dtype = next(self.pixel_decoder.parameters()).dtype
            return self.pixel_decoder([feature.to(dtype) for feature in features])


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


def _criterion(config: UniSegmentConfig) -> SetCriterion:
    weights: dict[str, Any] = {
        "class_weight": config.class_weight,
        "mask_weight": config.mask_weight,
        "dice_weight": config.dice_weight,
    }
    return SetCriterion(
        HungarianMatcher(**weights, num_points=config.train_num_points),
        **weights,
        no_object_weight=config.no_object_weight,
        num_points=config.train_num_points,
        oversample_ratio=config.oversample_ratio,
        importance_sample_ratio=config.importance_sample_ratio,
        normalization=config.loss_normalization,
    )


def _masks(
    mask_embeddings: Float[Tensor, "b q c"], mask_features: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b q h w"]:
    logits = torch.einsum("bqc,bchw->bqhw", mask_embeddings, mask_features.to(mask_embeddings.dtype))
    # float16 ends at 65504, and resizing would make NaN of infinite neighbours.
    if logits.dtype == torch.float16:
        largest = torch.finfo(torch.float16).max
        logits.detach().clamp_(-largest, largest)  # the same memory; autograd would keep what was there
    return logits


def find_image_sizes(
    pixel_values: Float[Tensor, "b 3 h w"], pixel_mask: Int[Tensor, "b h w"] | None
) -> Int[Tensor, "b 2"]:
    """Return (height, width) of each image without its padding."""
    batch_size, _, height, width = pixel_values.shape
    if pixel_mask is None:
        # Filled, not sent: a tensor made of a list would stop an accelerator's queue and fix the size of an export.
        lengths = [torch.full((batch_size,), length, device=pixel_values.device) for length in (height, width)]
        return torch.stack(lengths, dim=1)
    if pixel_mask.shape != (batch_size, height, width):
        raise ValueError(
            f"pixel_mask must be (batch, height, width) as pixel_values {tuple(pixel_values.shape)}, "
            f"got {tuple(pixel_mask.shape)}."
        )
    inside = pixel_mask != 0
    return torch.stack([inside.any(dim=2).sum(1), inside.any(dim=1).sum(1)], dim=1)


@torch.compiler.disable
def _read_targets(
    mask_labels: Sequence[Tensor | SegmentationTarget],
    class_labels: Sequence[Tensor] | None,
    batch_size: int,
    size: Size,
    num_labels: int,
) -> list[SegmentationTarget]:
    """Bring targets into one form, without crowds, and check them."""
    if len(mask_labels) != batch_size or (class_labels is not None and len(class_labels) != batch_size):
        raise ValueError(
            f"Targets are needed for each of the {batch_size} images, got {len(mask_labels)} in mask_labels and "
            f"{None if class_labels is None else len(class_labels)} in class_labels."
        )
    targets = []
    for index, masks in enumerate(mask_labels):
        if isinstance(masks, SegmentationTarget):
            target = masks
        elif class_labels is None:
            raise ValueError("class_labels is needed when mask_labels are plain masks.")
        else:
            target = SegmentationTarget(masks=cast(Any, masks), labels=class_labels[index])
        if target.size != size:
            raise ValueError(
                f"mask_labels[{index}] has size {target.size}, but the padded images have {size} (height, width). "
                "Pad masks at bottom and right as the image processor does."
            )
        targets.append(target)
    return _checked(targets, num_labels)


def _checked(targets: Sequence[SegmentationTarget], num_labels: int) -> list[SegmentationTarget]:
    """Refuse labels that are none, and leave crowds out.

    All values are looked at together, on the CPU: where they are on an accelerator, its queue is waited for once.
    """
    device = targets[0].labels.device
    columns = [torch.stack([target.labels, target.is_crowd.to(torch.int64)]).to(device) for target in targets]
    checked = []
    values = torch.cat(columns, dim=1).cpu().split([len(target) for target in targets], dim=1)
    for index, (target, (labels, is_crowd)) in enumerate(zip(targets, values, strict=True)):
        wrong = [label for label in labels.tolist() if not 0 <= label < num_labels]
        if wrong:
            raise ValueError(
                f"class_labels[{index}] has {wrong[0]}, but labels go from 0 to {num_labels - 1} (num_labels = "
                f'{num_labels} in the config, "no object" not counted).'
            )
        checked.append(target.select(is_crowd == 0) if is_crowd.any() else target)
    return checked
