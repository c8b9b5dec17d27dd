# SPDX-License-Identifier: Apache-2.0
"""Charts as SVG text, readable on light and on dark pages."""

import math
from collections.abc import Mapping, Sequence

_COLORS = ("#b0b7c3", "#2f6fb2", "#444444")
"""Of peers, of ours, and of a floor."""
_MIDDLE = 'text-anchor="middle"'


def bar_chart(title: str, bars: Sequence[tuple[str, float]], least: float, mark: float | None = None) -> str:
    """Draw horizontal bars from `least` on, with a dashed line at `mark`."""
    left, width, step = 250, 410, 30
    most = max(value for _, value in bars)
    scale = width / (most - least)
    height = 50 + step * len(bars)
    lines = _begin(title, 720, height)
    for number, (name, value) in enumerate(bars):
        top = 40 + step * number
        color = _COLORS[0] if name.endswith("transformers") else _COLORS[1]
        lines += [
            f'<text x="{left - 8}" y="{top + 15}" text-anchor="end">{name}</text>',
            f'<rect x="{left}" y="{top}" width="{(value - least) * scale:.1f}" height="20" fill="{color}"/>',
            f'<text x="{left + (value - least) * scale + 6:.1f}" y="{top + 15}">{value:.3g}</text>',
        ]
    if mark is not None:
        x = left + (mark - least) * scale
        lines.append(f'<path d="M{x:.1f} 36V{height - 8}" stroke="#444444" stroke-dasharray="4 3"/>')
    return "\n".join([*lines, "</svg>", ""])


def line_charts(title: str, panels: Mapping[str, Mapping[str, Mapping[float, float]]]) -> str:
    """Draw lines over a common axis, a panel beside the other, on logarithmic axes.

    Args:
        title: Of all.
        panels: By what is drawn: by whose line it is, y of each x. Peers come first, then ours.
    """
    width, height, gap = 300, 200, 70
    lines = _begin(title, (width + gap) * len(panels) + 20, height + 110)
    for number, (name, series) in enumerate(panels.items()):
        left, top = gap - 10 + number * (width + gap), 66
        points = [point for line in series.values() for point in line.items()]
        xs, ys = ([point[axis] for point in points] for axis in (0, 1))
        lines.append(f'<text x="{left}" y="{top - 14}">{name}</text>')
        lines.append(f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#b0b7c3"/>')
        for x in sorted(set(xs)):
            lines.append(f'<text x="{left + width * _share(x, xs):.1f}" y="{top + height + 18}" {_MIDDLE}>{x:g}</text>')
        for y in (min(ys), max(ys)):
            place = top + height * (1 - _share(y, ys)) + 5
            lines.append(f'<text x="{left - 6}" y="{place:.1f}" text-anchor="end">{y:.2g}</text>')
        for color, (who, line) in zip(_COLORS, series.items(), strict=False):
            path = [(left + width * _share(x, xs), top + height * (1 - _share(y, ys))) for x, y in sorted(line.items())]
            steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in path)
            lines.append(f'<polyline points="{steps}" fill="none" stroke="{color}" stroke-width="2.5"/>')
            lines += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/>' for x, y in path]
            if number == 0:
                place = 60 + 150 * list(series).index(who)
                lines.append(f'<rect x="{place}" y="{height + 94}" width="14" height="4" fill="{color}"/>')
                lines.append(f'<text x="{place + 20}" y="{height + 101}">{who}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _share(value: float, values: Sequence[float]) -> float:
    """Return where a value lies between the smallest and the largest, from 0.05 to 0.95 of a logarithmic axis."""
    low, high = math.log(min(values)), math.log(max(values))
    return 0.05 + 0.9 * (math.log(value) - low) / ((high - low) or 1.0)


def _begin(title: str, width: int, height: int) -> list[str]:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
    return [
        f'{head} font-family="sans-serif" font-size="14">',
        f"<title>{title}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-weight="bold">{title}</text>',
    ]
