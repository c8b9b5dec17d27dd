# SPDX-License-Identifier: Apache-2.0
"""A user's own folders of images and PNG files, semantic or with instances.

An image and its PNG file have one name. `categories.json` is a list of `{"id": 1, "name": "road"}`, perhaps with
`"isthing": true` and `"color": [128, 64, 128]`; or a list of names, of which the first has the id 0; or a dict from id
to name, as `id2label` in a config.json. Without `isthing`, categories are stuff in semantic files, things in others.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from unisegment.data.annotated_images import category_of_entry
from unisegment.data.formats.format import Format, Found, Layout
from unisegment.data.problems import Problems
from unisegment.data.reading.label_maps import IMAGE_ENDINGS, LabelMaps, pair_files
from unisegment.ops.json_reading import read_json
from unisegment.ops.json_values import number_of_key, shown
from unisegment.structures import Category

CategoryList: TypeAlias = str | Sequence[str] | Mapping[int, str]
"""A JSON file, names of the ids from 0 on, or names by id."""


def _open_semantic(
    found: Found, *, problems: Problems, categories: CategoryList | None = None, void_ids: Collection[int] = ()
) -> LabelMaps:
    """Open PNG files whose pixels hold ids of categories; 0, 255 and 65535 are void unless they are listed."""
    pairs = pair_files(found.parts["images"], found.parts["annotations"], IMAGE_ENDINGS, problems=problems)
    listed = find_png_categories(found.root, categories, is_thing=False)
    return LabelMaps(pairs, listed, void={0, 255, 65535}, void_ids=void_ids)


def _open_instance(
    found: Found, *, problems: Problems, categories: CategoryList | None = None, void_ids: Collection[int] = ()
) -> LabelMaps:
    """Open PNG files of 16 bits whose pixels hold objects.

    The object n of a category is `1000 * id + n`. The id alone is the whole of a category that is stuff, or a crowd of
    one that is a thing. 0 and 255 are void unless they are listed. For ids above 64, PNG files may have three
    channels: red + 256 green + 65536 blue.
    """
    pairs = pair_files(found.parts["images"], found.parts["annotations"], IMAGE_ENDINGS, problems=problems)
    listed = find_png_categories(found.root, categories, is_thing=True)
    return LabelMaps(pairs, listed, void={0, 255}, label_divisor=1000, void_ids=void_ids)


def find_png_categories(root: str | Path, given: CategoryList | None, is_thing: bool) -> list[Category]:
    """Return the categories that are given, or those in `categories.json`."""
    file = Path(root) / "categories.json"
    if given is None and not file.is_file():
        raise FileNotFoundError(
            f"{file}: there is no such file: nothing says what the numbers in the PNG files mean. Name them there, or "
            "in the recipe: data.categories=[sky, road] for 0 and 1, {7: sky, 9: road}, or another FILE."
        )
    return categories_of(*given_categories(str(file) if given is None else given), is_thing=is_thing)


def given_categories(given: CategoryList) -> tuple[Any, str]:
    """Return what names the categories, and what that is called in messages.

    Raises:
        FileNotFoundError, ValueError: When a file is named that is not there, or is no JSON.
    """
    if isinstance(given, str):
        return read_json(Path(given)), given
    return given, "data.categories"


def categories_of(content: Any, source: str, is_thing: bool) -> list[Category]:
    """Return the categories that the content of a JSON file describes; see the top of this file for its forms.

    Args:
        content: The content.
        source: Where it comes from, for messages.
        is_thing: What categories are that do not say it.

    Raises:
        ValueError: When it does not describe categories.
    """
    try:
        categories = [category_of_entry(entry, is_thing) for entry in _entries(content)]
    except ValueError as error:
        raise ValueError(
            f'{source} must be a list of {{"id": 1, "name": "road"}}, a list of names, or a dict from id to name: '
            f"{error}."
        ) from error
    ids = [category.id for category in categories]
    if not ids or min(ids) < 0 or len(set(ids)) < len(ids):
        raise ValueError(f"{source} must list categories with different ids of 0 or more, got {ids[:10]}.")
    return sorted(categories, key=lambda category: category.id)


def _entries(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, Mapping):
        content = content.get("categories", content.get("id2label", content))
    if isinstance(content, Mapping):
        return [{"id": number_of_key(key), "name": name} for key, name in content.items()]
    if isinstance(content, str) or not isinstance(content, Sequence):
        raise ValueError(f"got {shown(content)}")
    return [
        item if isinstance(item, dict) else {"id": place, "name": _text(item)} for place, item in enumerate(content)
    ]


def _text(name: Any) -> str:
    # A number in the list may as well be meant as an id.
    if not isinstance(name, str):
        raise ValueError(f"an entry must be a name or a dict, got {shown(name)}")
    return name


def _layouts(folder: str) -> list[Layout]:
    return [
        Layout(parts={"images": f"images{split}", "annotations": f"{folder}{split}", "sign": f"{folder}{split}{files}"})
        for split, files in (("/{split}", "/**/*.png"), ("", "/*.png"))
    ]


_LABELS = "`categories.json`, or `data.categories`"

FORMATS = (
    Format(
        name="png_semantic",
        summary="your own: a PNG file of category ids for each image",
        layouts=_layouts("labels"),
        open=_open_semantic,
        tasks=("semantic",),
        labels=_LABELS,
        options=frozenset(("categories",)),
    ),
    Format(
        name="png_instance",
        summary="your own: a PNG file of 16 bits with objects for each image",
        layouts=_layouts("instances"),
        open=_open_instance,
        tasks=("instance",),
        labels=_LABELS,
        options=frozenset(("categories",)),
    ),
)
