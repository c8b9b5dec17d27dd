# SPDX-License-Identifier: Apache-2.0
"""Data sets, training transforms and batches: files in, `Sample`s and batches out."""
