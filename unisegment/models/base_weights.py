# SPDX-License-Identifier: Apache-2.0
"""Where a model's weights come from, and under which licence: a record that stays in the config whatever follows.

A record is `{"name": …, "license": …}`; the licence is an identifier of the Hub's model cards, or "unknown".
"""

import os
from pathlib import Path
from typing import Any

from unisegment.ops.checkpoint_files import find_file
from unisegment.ops.downloads import is_address, public_address
from unisegment.ops.yaml_reading import read_front_matter

_LONGEST = 200
"""Characters of a licence's name."""
# Checkpoints on the Hub whose card says less than their source does.
_KNOWN = {
    "facebook/mask2former-": "cc-by-nc-4.0",
    "facebook/dinov3-": "dinov3-license",
}


def record(name_or_path: str | os.PathLike[str], hub: dict[str, Any], license: str | None = None) -> dict[str, str]:
    """Return the record of a checkpoint.

    Args:
        name_or_path: Hub id, folder, file or address of one. Of folders and files only the last part of the path is
            kept, of addresses nothing that may be a password.
        hub: How to reach the Hub.
        license: The licence where it is known; otherwise it is taken from the model card.
    """
    name = os.fspath(name_or_path)
    is_local = os.path.exists(name)
    known = next((license for start, license in _KNOWN.items() if not is_local and name.startswith(start)), None)
    return {
        "name": os.path.basename(os.path.abspath(name)) if is_local else public_address(name),
        "license": license or known or _licence_on_card(name, hub) or "unknown",
    }


def _licence_on_card(name_or_path: str, hub: dict[str, Any]) -> str | None:
    if os.path.isfile(name_or_path) or is_address(name_or_path):
        return None
    file = find_file(name_or_path, "README.md", **hub)
    if file is None:
        return None
    try:
        said = read_front_matter(Path(file))
    except ValueError:  # broken metadata
        return None
    license, name = (said.get(key) for key in ("license", "license_name")) if isinstance(said, dict) else (None, None)
    license = name if license == "other" and name else license
    return license if isinstance(license, str) and 0 < len(license) <= _LONGEST else None
