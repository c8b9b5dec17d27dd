# SPDX-License-Identifier: Apache-2.0
"""The files of an image processor: preprocessor_config.json in our own layout or that of stock transformers."""

import os
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from transformers.image_processing_utils import BaseImageProcessor

from unisegment.models.choices import is_ours
from unisegment.models.image_processor_settings import ImageProcessorSettings, read_settings
from unisegment.models.whole_checkpoints import save_whole
from unisegment.ops.checkpoint_files import named, object_in


class ImageProcessorFiles(ImageProcessorSettings, BaseImageProcessor):
    """An image processor that is stored as the keywords of its constructor, each of which is also an attribute."""

    stock_class: ClassVar[str]
    """transformers' image processor, by its name, whose files are written for format="transformers"."""

    def __setattr__(self, key: str, value: Any) -> None:
        # JSON has no numbers of numpy.
        super().__setattr__(key, value.item() if isinstance(value, np.generic) else value)

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[str]) -> Any:
        """Make a processor of a preprocessor_config.json, see `from_dict`."""
        content = object_in(Path(json_file))
        with named(json_file):
            return cls.from_dict(content)

    @classmethod
    def get_image_processor_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read preprocessor_config.json, and the names of the labels from config.json, which the stuff labels follow.

        Args:
            pretrained_model_name_or_path: A folder, a file or an id on the Hub.
            kwargs: How to reach the Hub, and keywords of the constructor.

        Returns:
            What the file holds, and the keywords of the constructor.

        Raises:
            OSError: When there is no such file.
            ValueError: When it holds no JSON object, or a value that makes no sense; names the file.
        """
        content = read_settings(pretrained_model_name_or_path, kwargs, cls)
        # Second, because its errors about what files hold do not name them. It raises when there is none.
        theirs, keywords = super().get_image_processor_dict(pretrained_model_name_or_path, **kwargs)
        if kwargs.get("_from_pipeline") is not None:
            # A pipeline hands the keywords of the model to its processor, too.
            keywords = {key: value for key, value in keywords.items() if key in cls.keywords()}
        return theirs if content is None else content, keywords

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        push_to_hub: bool = False,
        *,
        format: Literal["unisegment", "transformers"] = "unisegment",
        **kwargs: Any,
    ) -> list[str]:
        """Write preprocessor_config.json.

        Args:
            save_directory: Folder, made when it is missing.
            push_to_hub: Upload it as well.
            format: "unisegment", or "transformers" for a file that plain transformers loads.
            kwargs: As in transformers.

        Returns:
            The file that was written.

        Raises:
            WriteError: When it cannot be written; what was there is still there.
        """
        save = super().save_pretrained if is_ours(format) else self._as_stock().save_pretrained
        return save_whole(save, save_directory, push_to_hub=push_to_hub, **kwargs) or []

    def push_to_hub(
        self, repo_id: str, *, format: Literal["unisegment", "transformers"] = "unisegment", **kwargs: Any
    ) -> Any:
        """Upload preprocessor_config.json; see `save_pretrained` for `format`, and transformers for the rest."""
        return (super() if is_ours(format) else self._as_stock()).push_to_hub(repo_id, **kwargs)  # type: ignore[union-attr]

    def _as_stock(self) -> Any:
        import transformers

        stock = getattr(transformers, self.stock_class)  # half a second, for those alone that write such a file
        # It keeps and writes the keywords that it does not know, such as `stuff_label_ids` and `id2label`.
        kept = {key: value for key, value in self.to_dict().items() if not self._is_known(key)}
        return stock(**self._stock_settings(), **kept)

    def _stock_settings(self) -> dict[str, Any]:
        """Return the keywords of transformers' class that mean what ours do."""
        return self.settings()
