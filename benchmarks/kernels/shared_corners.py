# SPDX-License-Identifier: Apache-2.0
"""How many additions the CUDA backward would save if a warp merged the corners that its queries share. No GPU needed.

A warp goes through the samples of its queries in step, so it can merge corners of one step: of the same level and point
of neighbouring queries. Counted for the encoder at 1024 x 1024 (strides 8, 16, 32), one head, with offsets as they are
initialised (point i lies i pixels from the query in the head's direction) and noise around them: each query's own, or
the same for 4 x 4 queries, as if neighbours belonged to one object. Prints a table: a row for each noise in pixels, a
column for each rectangle of queries that a warp may have for a head.
"""

import numpy as np

LEVELS = [(128, 128), (64, 64), (32, 32)]
NUM_POINTS = 4
DIRECTION = np.array([-1.0, 1.0])
RECTANGLES = [(1, 4), (2, 2), (1, 8), (2, 4)]  # of 4 queries (float32, or 16 bits with two heads in a warp), of 8


def corners_of(queries: tuple[int, int], level: tuple[int, int], noise: float, shared: int) -> np.ndarray:
    """Return which pixels of a level queries add to: (query row, query column, point, corner), -1 outside.

    Args:
        queries: Height and width of the level of the queries.
        level: Height and width of the level that is sampled.
        noise: Standard deviation in pixels.
        shared: The noise is the same for so many queries along each axis.
    """
    generator = np.random.default_rng(0)
    (rows, columns), (height, width) = queries, level
    deviations = generator.normal(0, noise, (rows // shared, columns // shared, NUM_POINTS, 2))
    deviations = deviations.repeat(shared, 0).repeat(shared, 1)
    offsets = DIRECTION * np.arange(1, NUM_POINTS + 1)[:, None] + deviations
    x = ((np.arange(columns) + 0.5) / columns * width - 0.5)[None, :, None] + offsets[..., 0]
    y = ((np.arange(rows) + 0.5) / rows * height - 0.5)[:, None, None] + offsets[..., 1]
    left = np.floor(x).astype(int)[..., None] + [0, 1, 0, 1]
    top = np.floor(y).astype(int)[..., None] + [0, 0, 1, 1]
    inside = (left >= 0) & (left < width) & (top >= 0) & (top < height)
    return np.where(inside, top * width + left, -1)


def count(pixels: np.ndarray, rectangle: tuple[int, int]) -> tuple[int, int]:
    """Return how many additions warps with such rectangles of queries make, and how many if they merge them."""
    rows, columns = rectangle
    height, width, points, corners = pixels.shape
    steps = pixels.reshape(height // rows, rows, width // columns, columns, points, corners)
    steps = np.sort(steps.transpose(0, 2, 4, 1, 3, 5).reshape(-1, rows * columns * corners), 1)
    inside = steps >= 0
    return int(inside.sum()), int((inside & (np.diff(steps, axis=1, prepend=-1) != 0)).sum())


def main() -> None:
    print("additions over merged additions" + "".join(f"{f'{rows} x {columns}':>8}" for rows, columns in RECTANGLES))
    for shared, name in ((1, "own noise"), (4, "noise of 4 x 4")):
        for noise in (0.0, 0.5, 1.0, 3.0):
            ratios = []
            for rectangle in RECTANGLES:
                counts = [
                    count(corners_of(queries, level, noise, shared), rectangle)
                    for queries in LEVELS
                    for level in LEVELS
                ]
                additions, merged = np.sum(counts, 0)
                ratios.append(additions / merged)
            print(f"{f'{name}, {noise} pixels':31}" + "".join(f"{ratio:8.2f}" for ratio in ratios))


if __name__ == "__main__":
    main()
