# SPDX-License-Identifier: Apache-2.0
"""Large imports in less time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Import without looking for garbage: what imports make lives to the end, and the search took 1.5 s each time.

    Where the process has frozen something before (`gc.freeze`), as the command does, this is frozen, too.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if gc.get_freeze_count():
            gc.freeze()
        if was_enabled:
            gc.enable()
