# SPDX-License-Identifier: Apache-2.0
"""Configs of small hierarchical backbones."""

STAGES = ["stage1", "stage2", "stage3", "stage4"]
STRIDES = (4, 8, 16, 32)
SWIN = {"image_size": 64, "embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8], "window_size": 3}
RESNET = {"embedding_size": 8, "hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 2, 1]}
CONVNEXT = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
