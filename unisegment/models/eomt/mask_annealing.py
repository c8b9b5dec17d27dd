# SPDX-License-Identifier: Apache-2.0
"""How likely a query is still held to its own mask, as training goes on.

Source:
    EoMT (arXiv:2503.19108), section 3.3, and its released code.
"""


def mask_probability(progress: float, start: float, end: float, power: float) -> float:
    """Return the probability that a query of a layer may look at its own mask only.

    Args:
        progress: Share of the run that is done, 0 to 1.
        start: Share up to which it is 1.
        end: Share from which on it is 0.
        power: Of the fall between the two; 1 is a straight line, less falls later.
    """
    if progress < start:
        return 1.0
    if progress >= end:
        return 0.0
    return (1 - (progress - start) / (end - start)) ** power
