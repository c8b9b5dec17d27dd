# SPDX-License-Identifier: Apache-2.0
"""The checkpoints that weights come from in, the licence of the weights out.

Licences are identifiers of the Hub; a name that it does not know is written beside "other".
"""

import re
from collections.abc import Sequence
from typing import Any

_FREE = frozenset(
    """
    apache-2.0 mit bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0
    cc-by-4.0 isc ncsa pddl unlicense wtfpl zlib
    """.split()
)
"""Licences that leave it to the author of a derived work which one it gets."""

_OTHERS_ON_THE_HUB = frozenset(
    """
    openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m afl-3.0
    artistic-2.0 c-uda cc cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
    lgpl-2.1 lgpl-3.0 h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl openrail++
    osl-3.0 postgresql ofl-1.1 lgpl-lr unknown other
    """.split()
)
_LONGEST_NAME = 96


def weights_license(base_weights: Sequence[dict[str, str]], chosen: str | None) -> str | None:
    """Return the licence that weights are given away under; None when nobody has said one.

    Args:
        base_weights: Name and licence of each checkpoint that they come from, as in a config.
        chosen: What their author wants.

    Raises:
        ValueError: When a checkpoint that they come from does not allow the chosen one.
    """
    licenses = list(dict.fromkeys(base["license"] for base in base_weights))
    binding = [license for license in licenses if license not in _FREE and license != "unknown"]
    if chosen is not None:
        if binding and binding != [chosen]:
            sources = ", ".join(f"{base['name']} ({base['license']})" for base in base_weights)
            raise ValueError(
                f"license={chosen!r}: these weights come from {sources}, and keep what that says. Leave the licence "
                f"out. If the record is wrong, mend base_weights in config.json."
            )
        return chosen
    if binding:
        return binding[0] if len(binding) == 1 else " and ".join(binding)
    return licenses[0] if len(licenses) == 1 and licenses != ["unknown"] else None


def license_metadata(license: str | None) -> dict[str, Any]:
    """Return a licence as the metadata of a model card say it."""
    if license is None or license in _FREE or license in _OTHERS_ON_THE_HUB:
        return {"license": license}
    name = re.sub(r"[^\w.+-]+", "-", license, flags=re.ASCII).strip("-")[:_LONGEST_NAME]
    return {"license": "other", "license_name": name or "unknown"}
