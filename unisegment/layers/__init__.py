# SPDX-License-Identifier: Apache-2.0
"""Modules without opinions: they get plain numbers, never a config."""
