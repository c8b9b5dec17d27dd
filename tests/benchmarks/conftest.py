# SPDX-License-Identifier: Apache-2.0
"""The fixtures of runs, for peers that are trained in the same loop."""

from tests.training.conftest import recipe, scenes

__all__ = ["recipe", "scenes"]
