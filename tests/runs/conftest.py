# SPDX-License-Identifier: Apache-2.0
"""The scenes and the recipe of training's tests."""

from tests.training.conftest import recipe, scenes

__all__ = ["recipe", "scenes"]
