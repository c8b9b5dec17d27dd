# SPDX-License-Identifier: Apache-2.0
"""The tiny EoMT that stands for its family."""

CONFIG = {
    "image_size": 64, "patch_size": 16, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
    "mlp_ratio": 2, "num_register_tokens": 2, "num_blocks": 2, "num_queries": 11, "train_num_points": 61,
}  # fmt: skip
STOCK_SIZE = (64, 64)
