# SPDX-License-Identifier: Apache-2.0
"""Every number of an EoMT, under the names of transformers' EomtConfig and EomtDinov3Config."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from unisegment.models.config_values import QUERY_KINDS, is_activation
from unisegment.models.configuration import SegmentationConfig
from unisegment.models.eomt.mask_annealing import mask_probability
from unisegment.models.eomt.outputs import NOT_PREDICTIONS
from unisegment.ops.limits import MAX_CHANNELS, MAX_DIVISOR, MAX_LAYERS, MAX_SIDE, MAX_WIDTH
from unisegment.ops.value_kinds import FLAG, NOTHING, Kind, list_of, number, one_of, whole

_FLAG = FLAG | NOTHING
_WIDTH = whole(1, MAX_WIDTH) | NOTHING
_SHARES = list_of(number(0, 1), 1, MAX_LAYERS) | NOTHING
_AUGMENTATION = number(1, 1000) | NOTHING

KINDS: Mapping[str, Kind] = {
    **QUERY_KINDS,
    "image_size": whole(1, MAX_SIDE),
    "patch_size": whole(1, MAX_DIVISOR),
    "num_channels": whole(1, MAX_CHANNELS),
    "position_encoding": one_of("learned", "rope") | NOTHING,
    "hidden_size": _WIDTH,
    "num_hidden_layers": whole(1, MAX_LAYERS) | NOTHING,
    "num_attention_heads": whole(1, 1024) | NOTHING,
    "mlp_ratio": number(0, 1000, above=True) | NOTHING,
    "intermediate_size": _WIDTH,
    "use_swiglu_ffn": _FLAG,
    "use_gated_mlp": _FLAG,
    "hidden_act": Kind("an activation of transformers, such as gelu", is_activation) | NOTHING,
    "layer_norm_eps": number(0, 1, above=True) | NOTHING,
    "layerscale_value": number(-1e6, 1e6) | NOTHING,
    "num_register_tokens": whole(0, 1024) | NOTHING,
    "query_bias": _FLAG,
    "key_bias": _FLAG,
    "value_bias": _FLAG,
    "proj_bias": _FLAG,
    "mlp_bias": _FLAG,
    "rope_theta": number(0, 1e9, above=True) | NOTHING,
    "pos_embed_shift": number(0, 1000) | NOTHING,
    "pos_embed_jitter": _AUGMENTATION,
    "pos_embed_rescale": _AUGMENTATION,
    "hidden_dropout_prob": number(0, 1),
    "attention_dropout": number(0, 1),
    "drop_path_rate": number(0, 0.999),
    "initializer_range": number(0, 1000),
    "num_upscale_blocks": whole(0, 11),
    "num_blocks": whole(1, MAX_LAYERS),
    "attn_mask_annealing": FLAG,
    "attn_mask_annealing_start": _SHARES,
    "attn_mask_annealing_end": _SHARES,
    "attn_mask_annealing_power": number(0, 100, above=True),
}
"""What each key may be, whether it comes from a file, from the constructor or from an override."""

# ViT-L, as in transformers; what has no entry may stay None.
_DEFAULTS = {
    "position_encoding": "learned",
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "mlp_ratio": 4,
    "use_swiglu_ffn": False,
    "use_gated_mlp": False,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "layerscale_value": 1.0,
    "num_register_tokens": 4,
    "query_bias": True,
    "value_bias": True,
    "proj_bias": True,
    "mlp_bias": True,
    "rope_theta": 100.0,
}


_T = TypeVar("_T")
_FROM_BACKBONE: Any = None
if TYPE_CHECKING:
    _Filled = Annotated[
        _T, "None until the backbone, or the default, has filled it in: in a config that is made, never"
    ]
else:

    class _Filled:
        """The kind of keys that may be left to the backbone."""

        def __class_getitem__(cls, kind: Any) -> Any:
            return kind | None


class UniSegmentEomtConfig(SegmentationConfig):
    """Configuration of `UniSegmentEomtForUniversalSegmentation`.

    Keys that transformers' EomtConfig and EomtDinov3Config have mean what they mean there. `num_labels` or `id2label`
    sets the classes, without "no object". Keys of the vision transformer that are None come from `backbone`; without
    one they are those of a ViT-L of DINOv2 with registers.

    Args:
        backbone: Where the vision transformer's sizes come from: hub id or folder of a DINOv2 (with or without
            registers) or DINOv3 ViT of transformers.
        use_pretrained_backbone: Also load its weights from there when a model is made from this config. They are
            resampled to `patch_size` and `image_size`, which never come from `backbone`.
        image_size: Side in pixels of the squares whose patches the learned position table has entries for; the table is
            resized for images of other sizes.
        patch_size: Side of a patch in pixels, a multiple of 2**`num_upscale_blocks`.
        num_channels: Channels of an image.
        position_encoding: "learned", a table of positions that is added to the patches (DINOv2), or "rope", queries and
            keys of each attention rotated by the position (DINOv3).
        hidden_size: Channels of every token.
        num_hidden_layers: Layers ("blocks" in the paper) of the vision transformer.
        num_attention_heads: Heads of every attention.
        mlp_ratio: Width of the feed-forward networks as a multiple of `hidden_size`, where `intermediate_size` is None.
        intermediate_size: Width of the feed-forward networks; None takes what follows from `mlp_ratio`, two thirds of
            it rounded up to a multiple of 8 with `use_swiglu_ffn`.
        use_swiglu_ffn: Feed-forward networks with a gate under SiLU (DINOv2 giant).
        use_gated_mlp: Feed-forward networks with a gate under `hidden_act` (DINOv3).
        hidden_act: Activation of the feed-forward networks, the upscaling and the mask head.
        layer_norm_eps: What layer norms add to the variance.
        layerscale_value: Factor that each branch of a layer starts with.
        num_register_tokens: Register tokens beside the class token.
        query_bias: Whether the projection of the queries has a bias. None without `backbone`: true, as all of these but
            `key_bias`.
        key_bias: The same for keys; None without `backbone`: true with learned positions only.
        value_bias: The same for values.
        proj_bias: The same for the projection behind the attention.
        mlp_bias: The same for the feed-forward networks.
        rope_theta: Base of the rotations' wavelengths, which go from 1 up to nearly this many halves of the image.
        pos_embed_shift: Training moves all rotary positions by up to this share of the half image; None does not.
        pos_embed_jitter: Training scales height and width apart by up to this factor, at least 1; None does not.
        pos_embed_rescale: Training scales both together by up to this factor, at least 1; None does not.
        hidden_dropout_prob: Share of values of the embedded tokens dropped in training.
        attention_dropout: Share of attention weights dropped in training.
        drop_path_rate: Probability that training leaves a branch of a layer out, the same for all layers.
        initializer_range: Standard deviation that weights of the vision transformer start with.
        num_upscale_blocks: How many times the last map is doubled before masks are taken from it.
        num_blocks: The last layers, which carry the queries.
        num_queries: Queries, the largest number of segments that can be found.
        no_object_weight: Class weight of queries without a segment.
        class_weight: Weight of the class term in loss and matching.
        mask_weight: Weight of the mask cross-entropy.
        dice_weight: Weight of the dice loss.
        train_num_points: Points at which masks are compared in matching and loss.
        oversample_ratio: Candidates drawn for each point of the loss, at least 1.
        importance_sample_ratio: Share of loss points where the prediction is uncertain, 0 to 1.
        output_auxiliary_logits: Return the logits of inner predictions by default.
        loss_normalization: "global" divides the loss by counts of all processes, equal to one process with the whole
            batch; "rank" divides the class term by each process's own, as the original does.
        attn_mask_annealing: Let the probability that a query is masked fall from 1 to 0 while training runs; without
            it masks stay, in evaluation too.
        attn_mask_annealing_start: For each of the `num_blocks` layers the share of the run at which it begins to fall.
            None takes the paper's: from a sixth to four sixths, in equal steps.
        attn_mask_annealing_end: The share at which it is 0. None takes the start and a sixth, at most 1.
        attn_mask_annealing_power: The power of its fall.

    Raises:
        ValueError: As `SegmentationConfig` does; for a `backbone` that is no such transformer.
        MissingSourceError: When there is no `backbone` of that name, or it cannot be fetched.

    Source:
        EoMT (arXiv:2503.19108).
    """

    model_type = "unisegment_eomt"
    keys_to_ignore_at_inference: ClassVar = NOT_PREDICTIONS
    kinds: ClassVar = KINDS

    image_size: int = 640
    patch_size: int = 16
    num_channels: int = 3
    position_encoding: _Filled[Literal["learned", "rope"]] = _FROM_BACKBONE
    hidden_size: _Filled[int] = _FROM_BACKBONE
    num_hidden_layers: _Filled[int] = _FROM_BACKBONE
    num_attention_heads: _Filled[int] = _FROM_BACKBONE
    mlp_ratio: _Filled[float | int] = _FROM_BACKBONE
    intermediate_size: int | None = None
    use_swiglu_ffn: _Filled[bool] = _FROM_BACKBONE
    use_gated_mlp: _Filled[bool] = _FROM_BACKBONE
    hidden_act: _Filled[str] = _FROM_BACKBONE
    layer_norm_eps: _Filled[float | int] = _FROM_BACKBONE
    layerscale_value: _Filled[float | int] = _FROM_BACKBONE
    num_register_tokens: _Filled[int] = _FROM_BACKBONE
    query_bias: _Filled[bool] = _FROM_BACKBONE
    key_bias: _Filled[bool] = _FROM_BACKBONE
    value_bias: _Filled[bool] = _FROM_BACKBONE
    proj_bias: _Filled[bool] = _FROM_BACKBONE
    mlp_bias: _Filled[bool] = _FROM_BACKBONE
    rope_theta: _Filled[float | int] = _FROM_BACKBONE
    pos_embed_shift: float | int | None = None
    pos_embed_jitter: float | int | None = None
    pos_embed_rescale: float | int | None = 2.0
    hidden_dropout_prob: float | int = 0.0
    attention_dropout: float | int = 0.0
    drop_path_rate: float | int = 0.0
    initializer_range: float | int = 0.02
    num_upscale_blocks: int = 2
    num_blocks: int = 4
    num_queries: int = 200
    no_object_weight: float | int = 0.1
    class_weight: float | int = 2.0
    mask_weight: float | int = 5.0
    dice_weight: float | int = 5.0
    train_num_points: int = 12544
    oversample_ratio: float | int = 3.0
    importance_sample_ratio: float | int = 0.75
    output_auxiliary_logits: bool | None = None
    loss_normalization: Literal["global", "rank"] = "global"
    attn_mask_annealing: bool = True
    attn_mask_annealing_start: list[float | int] | tuple[float | int, ...] | None = None
    attn_mask_annealing_end: list[float | int] | tuple[float | int, ...] | None = None
    attn_mask_annealing_power: float | int = 0.9

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Make a config of what a config.json holds and of keywords, see `SegmentationConfig.from_dict`.

        A backbone that a file names is kept and not looked at: sizes are keys of their own.
        """
        sizes = {key: value for key, value in config_dict.items() if key != "backbone"}
        made = super().from_dict(sizes, **kwargs)
        if "backbone" in config_dict and "backbone" not in kwargs:
            config = made[0] if isinstance(made, tuple) else made
            config.backbone = config_dict["backbone"]
        return made

    def resolve_backbone(self) -> None:
        """Take sizes that are None from `backbone`, and what it does not say from a ViT-L."""
        found: dict[str, Any] = {}
        if self.backbone is not None and any(getattr(self, key) is None for key in _DEFAULTS):
            from unisegment.models.eomt.backbone_weights import sizes_of  # it has the code of models: seconds

            found = sizes_of(self.backbone)
        if self.mlp_ratio is None and self.intermediate_size is None:
            self.intermediate_size = found.get("intermediate_size")
        for key, value in {**_DEFAULTS, **found}.items():
            if getattr(self, key) is None and key != "intermediate_size":
                setattr(self, key, value)
        if self.key_bias is None:
            self.key_bias = self.position_encoding == "learned"

    @property
    def feed_forward_dim(self) -> int:
        """Width of the feed-forward networks: of the gate, where they have one."""
        if self.intermediate_size is not None:
            return self.intermediate_size
        return feed_forward_width(self.hidden_size, self.mlp_ratio, self.use_swiglu_ffn)

    @property
    def is_gated(self) -> bool:
        """Whether the feed-forward networks have a gate."""
        return self.use_swiglu_ffn or self.use_gated_mlp

    @property
    def feed_forward_activation(self) -> str:
        """Activation inside the feed-forward networks."""
        return "silu" if self.use_swiglu_ffn else self.hidden_act

    @property
    def grid_size(self) -> int:
        """Patches along each side of the learned position table."""
        return self.image_size // self.patch_size

    @property
    def annealing_shares(self) -> list[tuple[float, float]]:
        """For each layer with queries the shares of the run at which its masks begin and end to disappear."""
        start = self.attn_mask_annealing_start
        if start is None:
            start = [(1 + 3 * block / max(self.num_blocks - 1, 1)) / 6 for block in range(self.num_blocks)]
        end = self.attn_mask_annealing_end
        return list(zip(start, [min(share + 1 / 6, 1.0) for share in start] if end is None else end, strict=True))

    def mask_probabilities(self, progress: float) -> list[float]:
        """Return for each layer with queries how likely a query is held to its mask, see `mask_probability`.

        Args:
            progress: Share of the run that is done, 0 to 1.
        """
        power = self.attn_mask_annealing_power
        return [mask_probability(progress, start, end, power) for start, end in self.annealing_shares]

    def check_sizes(self) -> None:
        """Raise a ValueError when sizes do not fit together, as they may after keys were overridden."""
        missing = [key for key in (*_DEFAULTS, "key_bias") if getattr(self, key) is None]
        if missing:
            raise ValueError(f"{missing[0]}: None, expected {KINDS[missing[0]].expected.removesuffix(' or null')}.")
        heads, width = self.num_attention_heads, self.hidden_size
        is_rope = self.position_encoding == "rope"
        if width % (heads * (4 if is_rope else 1)):
            times = "4 times num_attention_heads (rope)" if is_rope else "num_attention_heads"
            raise ValueError(f"hidden_size must be a multiple of {times}, got {width} for {heads} heads.")
        if self.use_swiglu_ffn and self.use_gated_mlp:
            raise ValueError("use_swiglu_ffn and use_gated_mlp exclude each other, got both.")
        if not self.feed_forward_dim:
            raise ValueError(f"mlp_ratio: {self.mlp_ratio} leaves the feed-forward networks no width, expected more.")
        if self.num_blocks > self.num_hidden_layers:
            raise ValueError(
                f"num_blocks must be at most num_hidden_layers ({self.num_hidden_layers}), got {self.num_blocks}."
            )
        if self.patch_size % 2**self.num_upscale_blocks:
            raise ValueError(
                f"patch_size must be a multiple of 2**num_upscale_blocks ({2**self.num_upscale_blocks}), as masks have "
                f"a stride of whole pixels, got {self.patch_size}."
            )
        if self.image_size < self.patch_size:
            raise ValueError(f"image_size must be at least patch_size ({self.patch_size}), got {self.image_size}.")
        self._check_annealing()

    def _check_annealing(self) -> None:
        for key in ("attn_mask_annealing_start", "attn_mask_annealing_end"):
            shares = getattr(self, key)
            if shares is not None and len(shares) != self.num_blocks:
                raise ValueError(f"{key} must have num_blocks ({self.num_blocks}) entries, got {len(shares)}.")
        wrong = next((block for block, (start, end) in enumerate(self.annealing_shares) if end < start), None)
        if wrong is not None:
            start, end = self.annealing_shares[wrong]
            raise ValueError(
                f"attn_mask_annealing_end must not lie before attn_mask_annealing_start, got {end:g} after {start:g} "
                f"for block {wrong}."
            )


def feed_forward_width(hidden_size: int, mlp_ratio: float, is_swiglu: bool) -> int:
    """Return the width of feed-forward networks that only a ratio is known of, as DINOv2 has it.

    Args:
        hidden_size: Channels of every token.
        mlp_ratio: The width as a multiple of it.
        is_swiglu: Whether there is a gate: as it adds a third layer, two thirds of the width are left, rounded up to a
            multiple of 8.
    """
    width = int(hidden_size * mlp_ratio)
    return (int(width * 2 / 3) + 7) // 8 * 8 if is_swiglu else width
