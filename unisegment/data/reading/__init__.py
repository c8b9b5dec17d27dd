# SPDX-License-Identifier: Apache-2.0
"""Images and annotations as they are stored in, arrays and targets out: what the readers of all formats share."""
