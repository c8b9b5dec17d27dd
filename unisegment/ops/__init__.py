# SPDX-License-Identifier: Apache-2.0
"""Functions on tensors, without parameters."""
