# SPDX-License-Identifier: Apache-2.0
"""Our classes under the names of transformers' Auto classes, so that its pipeline and its users find them.

Checkpoints of our families then open through AutoConfig, AutoModel, AutoModelForImageSegmentation,
AutoModelForUniversalSegmentation and AutoImageProcessor; nothing changes for any other model, a stock Mask2Former
included. `import unisegment` does it, and takes no time: what is ours is imported, and made known, as soon as one of
transformers' modules with Auto classes is there.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from unisegment.models.choices import FOLDERS

if TYPE_CHECKING:
    from unisegment.models.base import Family

_AUTO = "transformers.models.auto"


def _register_config(auto: Any, family: "Family") -> None:
    auto.AutoConfig.register(family.model_type, family.config, exist_ok=True)


def _register_model(auto: Any, family: "Family") -> None:
    model = family.model()
    # The pipeline looks for image segmentation, not for universal segmentation.
    for name in ("AutoModel", "AutoModelForImageSegmentation", "AutoModelForUniversalSegmentation"):
        getattr(auto, name).register(family.config, model, exist_ok=True)
    # The pipeline checks names against this list alone; without ours it logs, as an error, that it does not support us.
    auto.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES[family.model_type] = model.__name__


def _register_processor(auto: Any, family: "Family") -> None:
    # One class for both backends: it needs no torchvision, and whoever has it shall not be told that it is missing.
    classes = dict.fromkeys(("torchvision", "pil"), family.processor())
    auto.AutoImageProcessor.register(family.config, image_processor_classes=classes, exist_ok=True)


_REGISTER: dict[str, Callable[[Any, "Family"], None]] = {
    f"{_AUTO}.configuration_auto": _register_config,
    f"{_AUTO}.modeling_auto": _register_model,
    f"{_AUTO}.image_processing_auto": _register_processor,
}


class _Watch(MetaPathFinder):
    """Finds modules of transformers and ours as the other finders do, and registers what they make possible.

    That must wait until the outermost import of such a module has come to its end: those in the middle of theirs would
    be imported, or asked for what they do not have yet.
    """

    def __init__(self) -> None:
        self.registered: set[tuple[str, str]] = set()
        self.waits = False
        """Whether what is ours must be there, too; else it is imported."""
        self.running = threading.local()
        """`depth`: how many imports of a thread are in the middle."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module as the other finders do; None where it is not watched."""
        if fullname.partition(".")[0] not in ("transformers", "unisegment"):
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next((spec for finder in others if (spec := finder.find_spec(fullname, path, target))), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module
            spec.loader.exec_module = lambda module: self._execute(execute, module)  # type: ignore[method-assign]
        return spec

    def _execute(self, execute: Callable[[ModuleType], None], module: ModuleType) -> None:
        self.running.depth = getattr(self.running, "depth", 0) + 1
        try:
            execute(module)
        finally:
            self.running.depth -= 1
        if not self.running.depth:
            self.register()

    def register(self) -> None:
        """Register our classes with those of transformers' modules that are there; with all of them, the watch ends."""
        wanted = {(name, model_type) for name in _REGISTER for model_type in FOLDERS}
        for name, model_type in wanted - self.registered:
            folder = FOLDERS[model_type]
            kind = name.rpartition(".")[2].removesuffix("_auto")
            ours = f"unisegment.models.{folder}.{kind}_{folder}"
            if name in sys.modules and (not self.waits or ours in sys.modules):
                self.registered.add((name, model_type))  # before: what is imported for it ends here, too
                families = import_module("unisegment.models.base").FAMILIES
                _REGISTER[name](import_module(name), families[model_type])  # another thread may be in the middle of it
        if self.registered == wanted:
            sys.meta_path = [finder for finder in sys.meta_path if finder is not self]  # new: others may go through it


def watch(*, waits: bool = False) -> None:
    """Make our classes known to transformers' Auto classes, to those that are there and to those that come.

    Args:
        waits: Until somebody imports what is ours, for processes in which nobody opens it by Auto classes: transformers
            imports these for any config, and our model would take two seconds more than a config that is refused.
    """
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__qualname__ != _Watch.__qualname__]
    watcher = _Watch()
    watcher.waits = waits
    sys.meta_path.insert(0, watcher)
    watcher.register()


watch()
