# SPDX-License-Identifier: Apache-2.0
"""Logits as a trained network gives them: sure queries have one blob each, the others have one and are no object."""

import torch


def blob_logits(grid, num_queries, num_labels, num_sure, seed=0):
    """Return class logits (1 q k+1) and mask logits (1 q h w)."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.rand(num_queries, 2, 1, 1, generator=generator)
    radii = 0.05 + 0.3 * torch.rand(num_queries, 2, 1, 1, generator=generator)
    rows, columns = (torch.arange(length) / length for length in grid)
    distances = (rows[:, None] - centers[:, 0]) ** 2 / radii[:, 0] ** 2
    distances = distances + (columns - centers[:, 1]) ** 2 / radii[:, 1] ** 2
    mask_logits = (8 * (1 - distances)).clamp(-15) + torch.randn(num_queries, *grid, generator=generator)
    labels = torch.randint(num_labels, (num_queries,), generator=generator)
    labels[num_sure:] = num_labels
    class_logits = torch.randn(num_queries, num_labels + 1, generator=generator)
    class_logits[torch.arange(num_queries), labels] += 7
    return class_logits[None], mask_logits[None]
