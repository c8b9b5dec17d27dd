# SPDX-License-Identifier: Apache-2.0
"""The largest sizes that a checkpoint may ask for: far above any in use, small enough that nothing fails below them.

A file of a few bytes can ask for any number of layers or pixels. What is above these limits is refused by name and
value, before anything is made of it.
"""

MAX_LAYERS = 500
"""Layers of each part of a model, and of all stages of a backbone together."""
MAX_WIDTH = 32_768
"""Channels, and widths of feed-forward networks."""
MAX_MODEL = 10**10
"""Numbers of a model that a recipe describes: 40 GB in float32."""
MAX_QUERIES = 100_000
"""Queries of a model."""
MAX_LABELS = 100_000
"""Labels, categories and their names."""
MAX_POINTS = 1_000_000
"""Points at which training compares masks."""
MAX_NUMBER = 1_000_000
"""Any other whole number of a backbone's config."""
MAX_DEPTH = 16
"""Lists and mappings of a config that lie in each other."""
MAX_SIDE = 16_384
"""Height and width in pixels that an image is resized or padded to."""
MAX_FRAME = 1_000_000
"""The upper limit of a side that the size of an image may leave open."""
MAX_PIXELS = 2**27
"""Pixels of an image that is resized, or of the canvas of a batch: 1.6 GB of red, green and blue."""
MAX_DIVISOR = 2_048
"""What height and width of a canvas are multiples of."""
MAX_CHANNELS = 1_024
"""Channels of an image."""
