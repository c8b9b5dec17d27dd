# SPDX-License-Identifier: Apache-2.0
"""What whole_model.py measures: which model, images and number formats, in order of worth."""

from dataclasses import dataclass, replace

_WORK = {"Swin-T": 1.2, "Swin-L": 4.0}
_SLOWNESS = {"bf16": 1.0, "bf16 weights": 0.8, "tf32": 1.5, "fp32": 3.0}


@dataclass(frozen=True)
class Case:
    """What both models do.

    Args:
        backbone: A key of `model_pair.CONFIGS`.
        size: Height and width of the images.
        batch_size: Images at once.
        precision: "fp32" without TF32, "tf32", "bf16": autocast, with TF32 for what stays in float32, or "bf16
            weights", which are rounded for good, without autocast.
        decoder: What our pixel decoder computes in beside bf16: "autocast", as transformers' does, or outside of it
            "tf32" or "float32".
        way: "eager", "compiled" by torch.compile, or "recorded": ours replays a CUDA graph, as it does by itself once a
            size has come often, beside transformers' eager way, which cannot be recorded.
    """

    backbone: str
    size: tuple[int, int]
    batch_size: int
    precision: str
    decoder: str = "autocast"
    way: str = "eager"

    @property
    def name(self) -> str:
        """What rows call it."""
        decoder = "" if self.decoder == "autocast" else f" decoder {self.decoder}"
        recorded = " recorded" if self.way == "recorded" else ""
        return f"{self.for_peer}{decoder}{recorded}"

    @property
    def for_peer(self) -> str:
        """The same for transformers, whose pixel decoder has no format of its own, and which is not recorded."""
        height, width = self.size
        compiled = " compiled" if self.way == "compiled" else ""
        return f"{self.backbone} {height}x{width} b{self.batch_size} {self.precision}{compiled}"

    @property
    def work(self) -> float:
        """How much it is, roughly, as a multiple of one image of 1024x1024 through R50 in bf16."""
        images = self.batch_size * self.size[0] * self.size[1] / 2**20
        return images * _WORK.get(self.backbone, 1.0) * _SLOWNESS[self.precision]

    @property
    def allows_tf32(self) -> bool:
        """Whether GPUs may compute in TF32 what is float32."""
        return self.precision != "fp32" and self.decoder != "float32"


_SQUARE, _WIDE, _HALF = (1024, 1024), (800, 1344), (512, 512)
_R50, _SWIN, _EOMT = (
    Case("R50", _SQUARE, 1, "bf16"),
    Case("Swin-L", _SQUARE, 1, "bf16"),
    Case("EoMT-S", (640, 640), 1, "bf16"),
)
_TINY = Case("tiny ResNet", (64, 96), 2, "bf16")


def _and_recorded(case: Case) -> list[Case]:
    return [case, replace(case, way="recorded")]


CASES = {
    "inference": [
        *_and_recorded(_R50),
        *(replace(_R50, batch_size=16), replace(_R50, precision="tf32"), replace(_R50, precision="fp32")),
        *_and_recorded(replace(_R50, size=_HALF)),
        *_and_recorded(replace(_R50, batch_size=4)),
        *_and_recorded(replace(_R50, precision="bf16 weights")),
        *(replace(_R50, batch_size=16, precision="bf16 weights"), replace(_R50, size=_WIDE)),
        *_and_recorded(_SWIN),
        *(replace(_SWIN, batch_size=16), replace(_SWIN, batch_size=4)),
        *(replace(_SWIN, precision=precision) for precision in ("tf32", "fp32")),
        *_and_recorded(_EOMT),
        replace(_EOMT, batch_size=16),
    ],
    "training": [
        *(replace(_R50, batch_size=16, decoder=decoder) for decoder in ("autocast", "tf32", "float32")),
        *(replace(_R50, batch_size=4, decoder=decoder) for decoder in ("autocast", "tf32", "float32")),
        *(replace(_R50, batch_size=4, precision=precision) for precision in ("tf32", "fp32")),
        *(replace(_R50, size=_HALF, batch_size=16), replace(_R50, size=_WIDE, batch_size=4), _R50),
        *(_SWIN, replace(_SWIN, batch_size=4)),
    ],
    "compiled": [_R50, replace(_R50, way="compiled")],
}
"""For each part. Those of a backbone stand together, as making its models takes seconds."""

SMALL = {
    "inference": [
        *_and_recorded(_TINY),
        *(replace(_TINY, precision="fp32", batch_size=1), replace(_TINY, precision="bf16 weights")),
        *(replace(_TINY, backbone="tiny Swin"), replace(_TINY, backbone="tiny EoMT", size=(64, 64))),
    ],
    "training": [replace(_TINY, decoder="tf32"), _TINY, replace(_TINY, precision="fp32", batch_size=1)],
    "compiled": [_TINY, replace(_TINY, way="compiled")],
}
