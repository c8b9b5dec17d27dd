# SPDX-License-Identifier: Apache-2.0
"""Every family that is registered is held against the contract: a new one needs no line here."""

import pytest

from tests.models.model_tester import ModelTester
from tests.models.tiny_families import tiny_family
from unisegment.models.base import FOLDERS


@pytest.fixture(scope="module", params=FOLDERS)
def tiny(request):
    return tiny_family(request.param)


class TestEveryFamily(ModelTester):
    pass
