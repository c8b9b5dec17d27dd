# SPDX-License-Identifier: Apache-2.0
"""Queries, feature maps and mask features in; classes and masks out."""
