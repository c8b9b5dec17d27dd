# SPDX-License-Identifier: Apache-2.0
from typing import get_args

from unisegment.data import choices
from unisegment.data.export import EXPORT_FORMATS


def test_the_words_are_those_of_the_writers():
    assert get_args(choices.ExportName) == tuple(EXPORT_FORMATS)
