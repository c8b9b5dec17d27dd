# SPDX-License-Identifier: Apache-2.0
"""The keywords of EoMT's image processor, without the processor: those of all families and some more."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from unisegment.models.image_processor_settings import ImageProcessorSettings
from unisegment.models.image_sizes import size_keys
from unisegment.ops.limits import MAX_DIVISOR, MAX_SIDE
from unisegment.ops.value_kinds import FLAG, NOTHING, Kind, require_all, whole
from unisegment.types import Size

_PATCH_SIZE, _SIDE = 16, 640
_FLAG = FLAG | whole(0, 1) | NOTHING
_STRIDE = whole(1, MAX_DIVISOR)

KINDS: Mapping[str, Kind] = {"do_split_image": _FLAG, "do_pad": _FLAG, "mask_stride": _STRIDE}
"""What each further keyword may be."""

_KINDS_OF_MODEL = {
    "patch_size": whole(1, MAX_DIVISOR),
    "image_size": whole(1, MAX_SIDE),
    "num_upscale_blocks": whole(0, 11),
}


class EomtImageProcessorSettings(ImageProcessorSettings):
    """An image processor that only knows its settings; see `UniSegmentEomtImageProcessor`."""

    longest_edge: ClassVar[int | None] = None

    def __init__(
        self,
        *,
        size: dict[str, int] | int | Sequence[int] | None = None,
        size_divisor: int | None = None,
        do_reduce_labels: bool | None = None,
        do_split_image: bool = False,
        do_pad: bool = False,
        mask_stride: int = 4,
        **others: Any,
    ) -> None:
        require_all({"do_split_image": do_split_image, "do_pad": do_pad, "mask_stride": mask_stride}, KINDS)
        self.do_split_image = bool(do_split_image)
        self.do_pad = bool(do_pad)
        self.mask_stride = mask_stride
        if do_reduce_labels is None:
            # So files of transformers mean it, which have no such key.
            do_reduce_labels = others.get("ignore_index") is not None
        super().__init__(
            size={"shortest_edge": _SIDE, "longest_edge": _SIDE} if size is None else size,
            size_divisor=size_divisor or _PATCH_SIZE,
            do_reduce_labels=do_reduce_labels,
            **others,
        )

    @property
    def square(self) -> Size:
        """Height and width that `do_pad` pads to."""
        sides = self.size
        height = sides.get("shortest_edge") or sides.get("height") or sides["max_height"]
        return height, sides.get("longest_edge") or sides.get("width") or sides.get("max_width", height)

    def _check(self) -> None:
        super()._check()
        if self.do_pad:
            size_keys(self.square, None)  # a side that is a limit may be longer than a canvas may be

    @classmethod
    def of_model(cls, config: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
        """Return keywords of a processor with those that follow from the model.

        Masks have the stride that the model gives them. Where nothing else is said, the canvas is a multiple of the
        patches, images are as large as those that the model was made for, and they are padded to a square of that size.

        Args:
            config: Content of its config.json; nothing where there is none.
            content: The keywords, as a preprocessor_config.json has them.

        Raises:
            ValueError: When the config's patches or upscaling make no sense.
        """
        if "patch_size" not in config:
            return dict(content)
        require_all(config, _KINDS_OF_MODEL)
        patch_size, side = config["patch_size"], config.get("image_size", _SIDE)
        found: dict[str, Any] = {"size": {"shortest_edge": side, "longest_edge": side}, "size_divisor": patch_size}
        if not content.keys() & {"do_pad", "do_split_image"}:
            found["do_pad"] = True
        return {**found, **content, "mask_stride": max(patch_size // 2 ** config.get("num_upscale_blocks", 2), 1)}
