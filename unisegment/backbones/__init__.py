# SPDX-License-Identifier: Apache-2.0
"""Images in; feature maps at strides 4 to 32 out."""
