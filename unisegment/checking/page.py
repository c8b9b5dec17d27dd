# SPDX-License-Identifier: Apache-2.0
"""The content of `report.json` in, one page of HTML out that needs nothing from elsewhere."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from unisegment.visualization import label_colors

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1e2026; margin: 2rem auto; max-width: 76rem; padding: 0 1rem }
h1, h2, h3 { line-height: 1.2 } h2 { margin-top: 3rem; border-top: 1px solid #ccd; padding-top: 1rem }
table { border-collapse: collapse } td, th { padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
details { margin: .4rem 0 } summary { cursor: pointer } li { overflow-wrap: anywhere }
.error { color: #b3261e; font-weight: 600 } .warning { color: #8a5a00; font-weight: 600 }
.good { color: #1b6e3c; font-weight: 600 }
.chip { display: inline-block; width: .9em; height: .9em; border-radius: .2em }
.bar { display: block; height: .8em; background: #5b7fd4; border-radius: .15em }
.figures { display: flex; flex-wrap: wrap; gap: 1rem 3rem } .bars td:last-child { width: 14rem }
img { max-width: 100% }
"""
_BAR = 100


def make_page(content: dict[str, Any], contact_sheet: bytes | None) -> str:
    """Return the page.

    Args:
        content: As in `report.json`.
        contact_sheet: A JPEG file.
    """
    body = [
        "<h1>Data check</h1>",
        f"<p>{_verdict(content['errors'], content['warnings'])}, in {content['seconds']:.1f} seconds, by unisegment "
        f"{escape(content['unisegment'])}. Errors are what training stops at, or leaves out with "
        "<code>data.on_error=skip</code>. Warnings are what it accepts.</p>",
        _overview(content["parts"]),
        *(_part(part) for part in content["parts"]),
    ]
    if contact_sheet is not None:
        data = base64.b64encode(contact_sheet).decode("ascii")
        body += ["<h2>Samples</h2>", f'<img alt="Samples and their targets" src="data:image/jpeg;base64,{data}">']
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Data check</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _verdict(errors: int, warnings: int) -> str:
    first = f'<span class="{"error" if errors else "good"}">{counted(errors, "error")}</span>'
    return f'{first}, <span class="{"warning" if warnings else "good"}">{counted(warnings, "warning")}</span>'


def counted(number: int, noun: str) -> str:
    """Return how many of something there are, in words."""
    return f"{number or 'no':{',' if number else ''}} {noun}{'' if number == 1 else 's'}"


def _overview(parts: Sequence[dict[str, Any]]) -> str:
    rows = (
        (
            part["name"],
            part["format"],
            part["images"],
            part["checked"],
            part["opened"],
            part["errors"],
            part["warnings"],
        )
        for part in parts
    )
    return _table(("part", "format", "images", "checked", "opened", "errors", "warnings"), rows)


def _part(part: dict[str, Any]) -> str:
    pieces = [f"<h2>{escape(part['name'])}</h2>", *(_finding(finding) for finding in part["findings"])]
    if not part["findings"]:
        pieces.append('<p class="good">Nothing was found.</p>')
    if part["opened"]:
        share = part["unlabelled_share"]
        pieces += [
            f"<p>{part['segments']:,} segments; {share:.2%} of all pixels are unlabelled.</p>",
            '<div class="figures">',
            _histogram("Longer side of images, pixels", part["longest_sides"]),
            _histogram("Segments of an image", part["segments_per_image"]),
            _histogram("Square root of a segment’s pixels", part["root_areas"]),
            _bars("Size of segments, by the limits of COCO", part["coco_sizes"].items()),
            _bars("Unlabelled part of an image", zip(_tenths(), part["unlabelled_tenths"], strict=True)),
            _bars(
                f"Most frequent of {part['distinct_image_sizes']:,} sizes (height × width)",
                ((f"{size['height']}×{size['width']}", size["images"]) for size in part["image_sizes"]),
            ),
            _bars("Image files", part["file_kinds"].items()),
            "</div>",
            _categories(part["categories"]),
        ]
    return "\n".join(pieces)


def _finding(finding: dict[str, Any]) -> str:
    listed = "".join(
        f"<li><code>{escape(item['file'])}</code>: {escape(item['detail'])}</li>" for item in finding["listed"]
    )
    more = finding["count"] - len(finding["listed"])
    rest = f"<p>… and {more:,} more.</p>" if more else ""
    return (
        f'<details><summary><span class="{finding["severity"]}">{finding["severity"]}: {finding["kind"]}</span>, '
        f"{finding['count']:,}: {escape(finding['meaning'])}</summary><ul>{listed}</ul>{rest}</details>"
    )


def _categories(categories: Sequence[dict[str, Any]]) -> str:
    colors = label_colors({place: str(category["name"]) for place, category in enumerate(categories)})
    largest = max((category["pixels"] for category in categories), default=0)
    rows = []
    for category, (red, green, blue) in zip(categories, colors.values(), strict=True):
        chip = f'<span class="chip" style="background: rgb({red}, {green}, {blue})"></span>'
        kind = "thing" if category["is_thing"] else "stuff"
        cells = [f"<td>{chip} {escape(str(category['name']))}</td><td>{kind}</td>"]
        cells += [_number(category[name]) for name in ("label", "id", "images", "segments", "crowds", "pixels")]
        cells.append(f"<td>{_bar(category['pixels'], largest)}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    numbers = "".join(
        f'<th class="number">{title}</th>' for title in ("label", "id", "images", "segments", "crowds", "pixels")
    )
    head = f"<tr><th>category</th><th></th>{numbers}<th></th></tr>"
    return f'<h3>Categories</h3><table class="bars">{head}{"".join(rows)}</table>'


def _histogram(title: str, bins: Sequence[dict[str, int]]) -> str:
    return _bars(
        title,
        (
            (
                f"{item['from']:,}" if item["from"] == item["to"] else f"{item['from']:,} to {item['to']:,}",
                item["count"],
            )
            for item in bins
        ),
    )


def _bars(title: str, counts: Iterable[tuple[str, int]]) -> str:
    counts = list(counts)
    largest = max((count for _, count in counts), default=0)
    rows = "".join(
        f"<tr><td>{escape(name)}</td>{_number(count)}<td>{_bar(count, largest)}</td></tr>" for name, count in counts
    )
    return f'<div><h3>{escape(title)}</h3><table class="bars">{rows}</table></div>'


def _bar(count: int, largest: int) -> str:
    return f'<span class="bar" style="width: {_BAR * count / max(largest, 1):.1f}%"></span>'


def _number(number: int) -> str:
    return f'<td class="number">{number:,}</td>'


def _table(titles: Sequence[str], rows: Iterable[Sequence[str | int]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(
        f"<tr>{''.join(_number(cell) if isinstance(cell, int) else f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _tenths() -> Iterable[str]:
    return (f"{10 * tenth} to {10 * (tenth + 1)} %" for tenth in range(10))
