# SPDX-License-Identifier: Apache-2.0
"""What a run is, as data: its recipe, its folder and the files there, its processes."""
