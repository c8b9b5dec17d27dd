# SPDX-License-Identifier: Apache-2.0
"""Any backbone of transformers (ResNet, Swin, …) behind our contract."""

import re
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoBackbone, PreTrainedConfig

from unisegment.backbones.base import Backbone
from unisegment.layers.norm import freeze_batch_norm

# The norm after each stage is new by design, the final norm unused, and batch counters of no use.
_NOT_IN_A_CLASSIFIER = re.compile(r"^hidden_states_norms\.|^swin\.layernorm\.|num_batches_tracked$")


class TransformersBackbone(Backbone):
    """A backbone made by transformers' AutoBackbone.

    Args:
        config: Configuration of the backbone; `out_features` names the stages that are used.
        strides: Stride of each of these stages, ascending.
        freeze_norm: Turn batch normalisation into constants.
    """

    def __init__(self, config: PreTrainedConfig, strides: Sequence[int], freeze_norm: bool) -> None:
        body = AutoBackbone.from_config(config)
        super().__init__(body.channels, strides)
        self.body = body
        final_norm = getattr(getattr(body, "swin", None), "layernorm", None)
        if final_norm is not None:
            # SwinBackbone makes, but never uses, the classifier's norm. Without a gradient it would stop
            # DistributedDataParallel at the second step.
            body.swin.layernorm = nn.Identity()
        if freeze_norm:
            freeze_batch_norm(body)

    def extract(self, pixel_values: Float[Tensor, "b 3 h w"]) -> Sequence[Float[Tensor, "b _ _ _"]]:
        """Compute the feature maps of the stages in `out_features`."""
        return self.body(pixel_values).feature_maps

    def load_pretrained(self, name_or_path: str) -> None:
        """Load the weights of an image classifier (or backbone) from a hub id or a local folder.

        Raises:
            ValueError: When weights that the backbone needs are not in the checkpoint.
        """
        source, report = type(self.body).from_pretrained(
            name_or_path, config=self.body.config, dtype="float32", output_loading_info=True
        )
        missing = [key for key in sorted(report["missing_keys"]) if not _NOT_IN_A_CLASSIFIER.search(key)]
        mismatched = sorted(report["mismatched_keys"])
        if missing or mismatched:
            raise ValueError(
                f"{name_or_path!r} does not fit the backbone {type(self.body).__name__}: {len(missing)} weights are "
                f"missing (first: {missing[:3]}), {len(mismatched)} have another shape (first: {mismatched[:3]})."
            )
        own = self.body.state_dict()
        self.body.load_state_dict({key: value for key, value in source.state_dict().items() if key in own})
