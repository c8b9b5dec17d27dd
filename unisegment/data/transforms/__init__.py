# SPDX-License-Identifier: Apache-2.0
"""Annotated images in, annotated images of another size, orientation or colour out.

Images are (h, w, 3) arrays of uint8, resampled by Pillow as in the original code, or for the jitter by torch, within
one grey level of Pillow; targets are resampled to the nearest pixel. Every random number comes from the generator that
is handed in. Crowd segments are changed like others.
"""
