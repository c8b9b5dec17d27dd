# SPDX-License-Identifier: Apache-2.0
"""Every number of a model, under the names of transformers' Mask2FormerConfig."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from transformers import AutoConfig, PreTrainedConfig

from unisegment.backbones.config_files import PLAIN_VIT_TYPES, backbone_config
from unisegment.layers.conv import NUM_GROUPS
from unisegment.models.configuration import SegmentationConfig
from unisegment.models.unisegment.config_kinds import KINDS
from unisegment.models.unisegment.outputs import NOT_PREDICTIONS

_DEFAULT_BACKBONE = {"model_type": "swin", "depths": [2, 2, 18, 2], "drop_path_rate": 0.3}


class UniSegmentConfig(SegmentationConfig):
    """Configuration of `UniSegmentForUniversalSegmentation`.

    Keys that transformers' Mask2FormerConfig has mean what they mean there. `num_labels` or `id2label` sets the
    classes, without "no object".

    Args:
        backbone_config: Configuration (or dict with `model_type`) of a transformers backbone; Swin-S sizes if None.
        backbone: Where to take the backbone's configuration from, instead of `backbone_config`: a hub id or folder of
            transformers; a torchvision ResNet or an official Swin, as a `.pth` file or its https:// address.
        use_pretrained_backbone: Also load the backbone's weights from there when a model is made from this config.
        feature_size: Channels inside the pixel decoder, a multiple of 32.
        mask_feature_size: Channels of mask features and mask embeddings.
        hidden_dim: Channels of the queries.
        encoder_feedforward_dim: Width of the pixel decoder's feed-forward networks.
        activation_function: Activation of the transformer decoder.
        encoder_layers: Layers of the pixel decoder.
        decoder_layers: Predictions of the transformer decoder: its layers and the learned queries' own prediction, so
            10 means 9 layers. On loading, fewer than the checkpoint has leave out its last layers.
        num_attention_heads: Heads of every attention.
        dropout: Share of values dropped in training, in both decoders.
        dim_feedforward: Width of the transformer decoder's feed-forward networks.
        pre_norm: Norms before attention and feed-forward instead of after (transformer decoder).
        enforce_input_projection: A 1x1 convolution before each level of the transformer decoder even where channels
            agree.
        common_stride: Stride of masks and mask features; always 4.
        ignore_value: Read by nobody, as in transformers; kept so that configs round-trip.
        num_queries: Queries, the largest number of segments that can be found.
        no_object_weight: Class weight of queries without a segment.
        class_weight: Weight of the class term in loss and matching.
        mask_weight: Weight of the mask cross-entropy.
        dice_weight: Weight of the dice loss.
        train_num_points: Points at which masks are compared in matching and loss.
        oversample_ratio: Candidates drawn for each point of the loss, at least 1.
        importance_sample_ratio: Share of loss points where the prediction is uncertain, 0 to 1.
        init_std: Read by nobody: all layers start as in the original code. Kept so that configs round-trip.
        init_xavier_std: The same.
        use_auxiliary_loss: Score every prediction of the decoder, not only the last.
        feature_strides: Strides of the backbone's maps, ascending, the first one 4.
        output_auxiliary_logits: Return the logits of inner predictions by default.
        num_feature_levels: How many of the backbone's coarsest maps the queries and the deformable attention look at.
        encoder_n_points: Points that each head of the deformable attention looks at on each level.
        pixel_decoder: "ms_deform_attn", the paper's; "fpn", a feature pyramid of convolutions; "transformer_fpn", the
            same with an encoder of plain attention on the coarsest map.
        pixel_decoder_dtype: "float32" keeps autocast out of the pixel decoder, as the original does; "autocast" lets it
            in. Sampling coordinates stay in float32 either way.
        freeze_backbone_norm: Batch normalisation of the backbone as constants, as in the original's COCO models. False
            for stock transformers checkpoints, which train it.
        loss_normalization: "global" divides the loss by counts of all processes, equal to one process with the whole
            batch; "rank" divides the class term by each process's own, as the original does.
        base_weights: Name and licence of each checkpoint that the weights come from; kept by everything derived.
        categories: The classes as the data set lists them, [{"id": 7, "name": "sky", "isthing": 0}, …], in the order of
            the labels. Training fills it, exports write its ids. Without `id2label` it names the classes; when these
            change on loading it follows by name, and is None where a name is new.

    Raises:
        ValueError: For an unknown key, with a valid one that is like it; for a value of another kind than its key
            allows, or beyond the limits of `unisegment.ops.limits`; and for sizes that do not fit together. A key that
            is set later is checked as well.
    """

    model_type = "unisegment"
    sub_configs: ClassVar = {"backbone_config": AutoConfig}
    keys_to_ignore_at_inference: ClassVar = NOT_PREDICTIONS
    kinds: ClassVar = KINDS
    legacy_keys: ClassVar = frozenset(("backbone_kwargs", "use_timm_backbone", "num_classes"))
    shortened: ClassVar = {"decoder_layers": "transformer_decoder.layers"}
    attribute_map: ClassVar = {"hidden_size": "hidden_dim", "num_hidden_layers": "decoder_layers"}

    backbone_config: dict | PreTrainedConfig | None = None
    feature_size: int = 256
    mask_feature_size: int = 256
    hidden_dim: int = 256
    encoder_feedforward_dim: int = 1024
    activation_function: str = "relu"
    encoder_layers: int = 6
    decoder_layers: int = 10
    num_attention_heads: int = 8
    dropout: float | int = 0.0
    dim_feedforward: int = 2048
    pre_norm: bool = False
    enforce_input_projection: bool = False
    common_stride: int = 4
    ignore_value: int = 255
    num_queries: int = 100
    no_object_weight: float | int = 0.1
    class_weight: float | int = 2.0
    mask_weight: float | int = 5.0
    dice_weight: float | int = 5.0
    train_num_points: int = 12544
    oversample_ratio: float | int = 3.0
    importance_sample_ratio: float | int = 0.75
    init_std: float | int = 0.02
    init_xavier_std: float | int = 1.0
    use_auxiliary_loss: bool = True
    feature_strides: list[int] | tuple[int, ...] = (4, 8, 16, 32)
    output_auxiliary_logits: bool | None = None
    num_feature_levels: int = 3
    encoder_n_points: int = 4
    pixel_decoder: Literal["ms_deform_attn", "fpn", "transformer_fpn"] = "ms_deform_attn"
    pixel_decoder_dtype: Literal["float32", "autocast"] = "float32"
    freeze_backbone_norm: bool = True
    loss_normalization: Literal["global", "rank"] = "global"

    def resolve_backbone(self) -> None:
        """Let `backbone_config` be a config of transformers, whichever way it is given."""
        self.backbone_config = self._resolved_backbone()

    @classmethod
    def merge(cls, base: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys of a backbone with changes; those of another kind of backbone replace it."""
        keys = base.to_dict() if isinstance(base, PreTrainedConfig) else dict(base or _DEFAULT_BACKBONE)
        is_other = changes.get("model_type", keys.get("model_type")) != keys.get("model_type")
        return dict(changes) if is_other else {**keys, **changes}

    def _resolved_backbone(self) -> PreTrainedConfig:
        config = self.backbone_config
        if config is None and self.backbone is not None:
            from unisegment.backbones.pretrained import pretrained_config  # it has the code of models: seconds

            config = pretrained_config(self.backbone)
        elif config is None:
            config = backbone_config(_DEFAULT_BACKBONE)
        elif not isinstance(config, PreTrainedConfig):
            config = backbone_config(config)
        stages = list(getattr(config, "stage_names", None) or [])
        if config.model_type not in PLAIN_VIT_TYPES and len(stages) > 1 and list(config.out_features) == stages[-1:]:
            # Backbones give only their last stage unless told otherwise; the first name is the stem.
            config.out_features = stages[1:]
        return config

    def check_sizes(self) -> None:
        """Raise a ValueError when sizes do not fit together, as they may after keys were overridden."""
        if self.feature_size % NUM_GROUPS:
            raise ValueError(f"feature_size must be a multiple of {NUM_GROUPS} (group norm), got {self.feature_size}.")
        for key in ("feature_size", "hidden_dim"):
            if getattr(self, key) % self.num_attention_heads or getattr(self, key) % 4:
                raise ValueError(
                    f"{key} must be a multiple of num_attention_heads ({self.num_attention_heads}) and of 4, "
                    f"got {getattr(self, key)}."
                )
        if self.common_stride != 4 or self.feature_strides[0] != 4:
            raise ValueError(
                "Masks have stride 4: common_stride and the first of feature_strides must be 4, got "
                f"{self.common_stride} and {tuple(self.feature_strides)}."
            )
        if not 1 <= self.num_feature_levels <= len(self.feature_strides):
            raise ValueError(
                f"num_feature_levels must be 1 to {len(self.feature_strides)}, the number of feature_strides, "
                f"got {self.num_feature_levels}."
            )
