# SPDX-License-Identifier: Apache-2.0
"""Model families; each is a folder of its own."""
