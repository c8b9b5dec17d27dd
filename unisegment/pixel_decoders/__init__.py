# SPDX-License-Identifier: Apache-2.0
"""Feature maps of a backbone in; refined maps and mask features out."""
