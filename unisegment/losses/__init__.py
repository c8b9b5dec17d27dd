# SPDX-License-Identifier: Apache-2.0
"""Predictions and targets in; numbers to minimise out."""
