# SPDX-License-Identifier: Apache-2.0
from unisegment.models.unknown_keys import warn_of_kept


def test_a_file_is_spoken_of_once_for_the_same_keys(caplog):
    for keys in (("apple", "pear"), (), ("apple", "pear"), ("plum",)):
        warn_of_kept("tested.json", keys)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith(
        "tested.json has keys that this release does not know: 'apple', 'pear'. They have no effect"
    )
    assert "'plum'" in second
