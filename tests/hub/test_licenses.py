# SPDX-License-Identifier: Apache-2.0
import pytest

from unisegment.hub.licenses import license_metadata, weights_license


def base_weights(*licenses):
    return [{"name": f"base-{number}", "license": license} for number, license in enumerate(licenses)]


@pytest.mark.parametrize(
    ("licenses", "chosen", "expected"),
    [
        ((), None, None),
        ((), "mit", "mit"),
        (("apache-2.0",), None, "apache-2.0"),
        (("apache-2.0",), "openrail", "openrail"),
        (("apache-2.0", "mit"), None, None),
        (("unknown",), None, None),
        (("unknown",), "mit", "mit"),
        (("apache-2.0", "unknown"), None, None),
        (("cc-by-nc-4.0",), None, "cc-by-nc-4.0"),
        (("apache-2.0", "cc-by-nc-4.0", "unknown"), None, "cc-by-nc-4.0"),
        (("cc-by-nc-4.0", "cc-by-nc-4.0"), "cc-by-nc-4.0", "cc-by-nc-4.0"),
        (("cc-by-nc-4.0", "dinov3-license"), None, "cc-by-nc-4.0 and dinov3-license"),
    ],
)
def test_a_licence_follows_from_what_weights_come_from(licenses, chosen, expected):
    assert weights_license(base_weights(*licenses), chosen) == expected


def test_a_licence_cannot_be_shaken_off():
    with pytest.raises(ValueError, match=r"'mit': these weights come from base-0 \(mit\), base-1 \(cc-by-nc-4.0\)"):
        weights_license(base_weights("mit", "cc-by-nc-4.0"), "mit")


@pytest.mark.parametrize(
    ("license", "metadata"),
    [
        (None, {"license": None}),
        ("cc-by-nc-4.0", {"license": "cc-by-nc-4.0"}),
        ("apache-2.0", {"license": "apache-2.0"}),
        ("dinov3-license", {"license": "other", "license_name": "dinov3-license"}),
        ("a and b", {"license": "other", "license_name": "a-and-b"}),
    ],
)
def test_names_that_the_hub_does_not_know_are_other(license, metadata):
    assert license_metadata(license) == metadata
