# SPDX-License-Identifier: Apache-2.0
import errno

import pytest
import torch

from tests.training.test_assembly import RESNET, SMALL
from unisegment import UniSegmentConfig, UniSegmentForUniversalSegmentation, UniSegmentImageProcessor
from unisegment.files import WriteError
from unisegment.models.unisegment import original_checkpoints
from unisegment.models.whole_checkpoints import save_whole


@pytest.fixture(scope="module")
def model():
    return UniSegmentForUniversalSegmentation(UniSegmentConfig(backbone_config=RESNET, num_labels=3, **SMALL))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("format", ["unisegment", "transformers"])
def test_weights_in_other_files_are_not_found_first(model, tmp_path, format):
    (tmp_path / "notes").write_text("mine")
    for size in ("50GB", "100KB", "200KB", "50GB"):
        with torch.no_grad():
            next(model.parameters()).add_(1)
        model.save_pretrained(tmp_path, format=format, max_shard_size=size)
        names = {path.name for path in tmp_path.glob("model*")}
        assert ("model.safetensors" in names) == ("model.safetensors.index.json" not in names) == (size == "50GB")
        counts = {name.split("-of-")[1] for name in names if "-of-" in name}
        assert len(counts) == (0 if size == "50GB" else 1)
        loaded = UniSegmentForUniversalSegmentation.from_pretrained(tmp_path)
        assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    assert (tmp_path / "notes").read_text() == "mine"


@pytest.mark.parametrize("format", ["unisegment", "transformers"])
def test_what_breaks_off_leaves_the_earlier_checkpoint(model, tmp_path, monkeypatch, format):
    processor = UniSegmentImageProcessor(stuff_label_ids=[1])
    model.save_pretrained(tmp_path, format=format)
    assert processor.save_pretrained(tmp_path, format=format) == [str(tmp_path / "preprocessor_config.json")]
    before = contents(tmp_path)

    def full(*arguments, **settings):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", full)
    monkeypatch.setattr("transformers.image_processing_base.ImageProcessingMixin.to_json_file", full)
    for item in (model, processor):
        with pytest.raises(WriteError, match=r"No space left on device.* Make room there"):
            item.save_pretrained(tmp_path, format=format)
    assert contents(tmp_path) == before
    (tmp_path / "file").write_text("mine")
    for item in (model, processor):
        with pytest.raises(WriteError, match="A file is in the way"):
            item.save_pretrained(tmp_path / "file", format=format)


def test_a_file_for_the_original_stays_until_the_new_one_is_whole(model, tmp_path, monkeypatch):
    (tmp_path / "model.pkl").write_text("before")

    def full(path, *arguments):
        path.write_text("half")
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setitem(original_checkpoints._WRITERS, ".pkl", full)
    with pytest.raises(
        WriteError, match=r"model\.pkl could not be written: Disk quota exceeded.* Make room in your part"
    ):
        model.export_original(tmp_path / "model.pkl")
    assert {str(name): content for name, content in contents(tmp_path).items()} == {"model.pkl": b"before"}


def test_uploads_are_transformers_own_matter(tmp_path):
    seen = []
    save_whole(lambda folder, *arguments, **settings: seen.append(folder), tmp_path, push_to_hub=True)
    save_whole(lambda folder, *arguments, **settings: seen.append(folder), tmp_path, True, None, True)
    save_whole(lambda folder, *arguments, **settings: seen.append(folder), tmp_path, push_to_hub=False)
    assert seen[:2] == [tmp_path, tmp_path]
    assert seen[2].parent == tmp_path
    assert not any(tmp_path.iterdir())
