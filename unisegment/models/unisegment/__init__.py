# SPDX-License-Identifier: Apache-2.0
"""Mask2Former as a citizen of transformers: config, model, processor."""
