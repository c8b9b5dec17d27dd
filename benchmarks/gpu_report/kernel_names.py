# SPDX-License-Identifier: Apache-2.0
"""Who is compared in the table of the kernel, as rows, forecasts and figures name them."""

OURS_FUSED = "ours, fused"
OURS_OF_POINTS = "ours, of points"
TRANSFORMERS = "transformers"
TRANSFORMERS_COMPILED = "transformers, compiled"
SENSETIME = "SenseTime"
