# SPDX-License-Identifier: Apache-2.0
"""The page is sound HTML that needs nothing from elsewhere, and names cannot break it."""

import base64
from html.parser import HTMLParser

from unisegment.checking.figures import Figures
from unisegment.checking.image_files import FileFacts
from unisegment.checking.page import Picture, make_page
from unisegment.checking.sample_check import CheckedSample, Summary
from unisegment.structures import Category

EVIL = "<script>alert('x')</script>&\".jpg"


class Page(HTMLParser):
    """Reads a page, and notes what is not balanced, what it links to, and its texts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def content_with(findings, name="r: train"):
    figures = Figures([Category(3, EVIL, True, (0, 0, 0)), Category(5, "sky", False, (0, 0, 0))])
    facts = FileFacts("JPEG", "RGB", (31, 100), 1, 77)
    figures.add(
        0, CheckedSample("a", [], facts, None, Summary((31, 100), [0, 0, 1], [1023, 1024, 3], [False] * 3, 1050))
    )
    part = {
        "name": name, "format": "png_semantic", "split": "train", "images": 3, "checked": 2, "opened": 1,
        "errors": len(findings), "warnings": 0, "findings": findings, **figures.as_dict(),
    }  # fmt: skip
    return {"unisegment": "1", "errors": len(findings), "warnings": 0, "seconds": 2.5, "parts": [part]}


def test_names_are_escaped():
    listed = [{"file": EVIL, "detail": EVIL}]
    finding = {"kind": "empty-file", "severity": "error", "meaning": "It is.", "count": 150, "listed": listed}
    page = Page(make_page(content_with([finding], EVIL)))
    assert "script" not in page.tags
    assert page.texts.count(EVIL) >= 3
    assert f": {EVIL}" in page.texts
    assert "… and 149 more." in page.texts
    assert page.links == []


def test_the_figures_are_there_and_pictures_inside():
    page = Page(make_page(content_with([]), [Picture("a.jpg", b"\xff\xd8 a picture")]))
    text = " ".join(" ".join(page.texts).split())
    for expected in ("no errors", "Nothing was found.", "3 segments; 33.87% of all pixels", "2,047", "sky", "31×100"):
        assert expected in text
    (link,) = page.links
    assert base64.b64decode(link.removeprefix("data:image/jpeg;base64,")) == b"\xff\xd8 a picture"
    assert "a.jpg" in page.texts


def test_findings_have_their_pictures_or_say_why_there_is_none():
    findings = [
        {"kind": kind, "severity": "error", "meaning": "", "count": 1, "listed": [{"file": "f", "detail": "d"}]}
        for kind in ("wrong-size", "missing-image")
    ]
    pictures = {"missing-image": [Picture(EVIL, None, f"why {EVIL}")], "wrong-size": [Picture("1: b", b"\xff")]}
    page = Page(make_page(content_with(findings), [], [pictures]))
    assert page.links == ["data:image/jpeg;base64,/w=="]
    assert [page.texts.count(text) for text in (EVIL, f"why {EVIL}", "1: b")] == [1, 1, 1]
    assert page.texts.index("error: wrong-size") < page.texts.index("1: b") < page.texts.index("error: missing-image")


def test_a_part_that_cannot_be_opened_has_no_figures():
    content = content_with([])
    content["parts"][0].update(Figures(None).as_dict(), opened=0)
    assert "segments;" not in " ".join(Page(make_page(content)).texts)
