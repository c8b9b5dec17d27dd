# SPDX-License-Identifier: Apache-2.0
"""The Hugging Face Hub: a trained model in, a repository with everything that others need out."""

from unisegment.hub.pushing import PushError, check_push, push
from unisegment.hub.staging import stage

__all__ = ["PushError", "check_push", "push", "stage"]
