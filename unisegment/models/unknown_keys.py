# SPDX-License-Identifier: Apache-2.0
"""Keys that this release does not know: an error where somebody types them, kept where they stand in a file.

Other tools add keys to config.json and preprocessor_config.json, and so will later releases. Whoever reads such a file
must not lose them when it is written again.
"""

import logging
from functools import cache


@cache
def warn_of_kept(file: str, keys: tuple[str, ...]) -> None:
    """Log, once for each file name and keys, that a file has keys that are kept, without effect.

    Args:
        file: Name of the file.
        keys: The keys; nothing is said when there are none.
    """
    if keys:
        logging.getLogger(__name__).warning(
            "%s has keys that this release does not know: %s. They have no effect; they are kept, and written again.",
            file,
            ", ".join(map(repr, keys)),
        )
