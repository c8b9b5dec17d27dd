# SPDX-License-Identifier: Apache-2.0
"""A word is answered with a name that is like it, or not at all."""

from unisegment.ops.near_names import did_you_mean, near_name, nearest_valid

NAMES = ["num_queries", "num_labels", "hidden_dim"]


def test_what_is_like_a_word_is_suggested():
    assert near_name("num_querys", NAMES) == "num_queries"
    assert did_you_mean("hiden_dim", NAMES) == " Did you mean 'hidden_dim'?"
    assert nearest_valid("num_lables", NAMES) == " The nearest valid one is 'num_labels'."


def test_what_is_not_is_not():
    assert near_name("learning_rate", NAMES) is None
    assert did_you_mean("learning_rate", NAMES) == nearest_valid("learning_rate", []) == ""
