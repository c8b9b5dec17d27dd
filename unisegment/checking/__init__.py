# SPDX-License-Identifier: Apache-2.0
"""Data sets looked through before training: a recipe or folders in, named findings, figures and pictures out."""

from unisegment.checking.check import check_data

__all__ = ["check_data"]
