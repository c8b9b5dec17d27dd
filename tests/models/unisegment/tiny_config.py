# SPDX-License-Identifier: Apache-2.0
"""The tiny Mask2Former that stands for its family."""

CONFIG = {
    "backbone_config": {
        "model_type": "swin", "image_size": 64, "embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8],
        "window_size": 3, "drop_path_rate": 0.0, "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
    "feature_size": 32, "mask_feature_size": 16, "hidden_dim": 32, "encoder_layers": 1, "decoder_layers": 4,
    "num_attention_heads": 4, "num_queries": 11, "dim_feedforward": 40, "encoder_feedforward_dim": 24,
    "train_num_points": 61,
}  # fmt: skip
STOCK_SIZE = (64, 96)
