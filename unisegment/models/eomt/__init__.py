# SPDX-License-Identifier: Apache-2.0
"""EoMT as a citizen of transformers: config, model, processor."""
