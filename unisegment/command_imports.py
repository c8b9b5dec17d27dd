# SPDX-License-Identifier: Apache-2.0
"""What a subcommand needs, imported when it runs, so that help and misuse do not wait for torch and transformers."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from unisegment.ops import importing as large_imports


@contextmanager
def importing() -> Iterator[None]:
    """Import what is never looked through for garbage."""
    gc.freeze()
    with large_imports.importing():
        yield
    if transformers := sys.modules.get("transformers"):
        transformers.utils.logging.disable_progress_bar()  # of weights, which load at once
        transformers.utils.logging.hf_hub_utils.enable_progress_bars()  # of downloads, which went with it
