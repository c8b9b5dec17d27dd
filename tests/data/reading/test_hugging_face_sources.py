# SPDX-License-Identifier: Apache-2.0
"""The same rows are found wherever they are, and whatever is missing is named."""

import errno
from pathlib import Path

import datasets
import fsspec
import pytest

from tests.data.rows import save, semantic_rows
from unisegment.data.reading import hugging_face_sources
from unisegment.data.reading.hugging_face_sources import open_source, open_split
from unisegment.data.reading.parquet_rows import ParquetRows
from unisegment.files import WriteError


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path):
    save(tmp_path, semantic_rows())
    return tmp_path


def names(rows):
    """Return the name of the image in each row."""
    if not isinstance(rows, ParquetRows):
        rows = rows.with_format("arrow")
    return [rows[index]["image"].to_pylist()[0]["path"] for index in range(len(rows))]


TRAIN, VALIDATION = [f"{number}.png" for number in range(7)], [f"{number}.png" for number in range(3)]


@pytest.mark.parametrize(
    ("root", "streaming"),
    [
        ("saved", False),
        ("saved", True),
        ("parquet", False),
        ("parquet", True),
        ("parquet/data/{split}-*.parquet", False),
    ],
)
def test_splits_of_every_source(folder, root, streaming):
    source = open_source(f"{folder}/{root}", streaming)
    assert names(open_split(source, "train")) == TRAIN
    assert names(open_split(source, "val")) == names(open_split(source, "validation")) == VALIDATION
    assert isinstance(open_split(source, "train"), ParquetRows) == (root != "saved" and (streaming or "*" in root))


def test_parquet_files_elsewhere(folder):
    fsspec.filesystem("memory").put(f"{folder}/parquet/data/", f"{folder.name}/", recursive=True)
    source = open_source(f"memory://{folder.name}/{{split}}-*.parquet")
    assert list(source.splits) == ["train", "validation"]
    assert names(open_split(source, "train")) == TRAIN
    with pytest.raises(
        ValueError, match=r"^s3://cows/mine names no Parquet files: write s3://cows/mine/\{split\}-\*\.par"
    ):
        open_source("s3://cows/mine")
    source = open_source(f"memory://{folder.name}/train-00001-of-00002.parquet")
    assert names(open_split(source, "train")) == TRAIN[4:]


def test_rows_that_were_saved_without_splits(tmp_path):
    semantic_rows().save_to_disk(tmp_path)
    assert names(open_split(open_source(str(tmp_path)), "train")) == TRAIN


@pytest.mark.parametrize("split", ["val", "validation", "train+test"])
def test_splits_that_are_missing(tmp_path, split):
    semantic_rows().save_to_disk(tmp_path)
    with pytest.raises(ValueError, match=r"no split .*, only train\. .*data\.splits=\{train: 'train\[:90%\]', val: "):
        open_split(open_source(str(tmp_path)), split)


def test_files_beside_the_rows(folder):
    find_file = open_source(str(folder / "saved")).find_file
    assert find_file("id2label.json") == folder / "saved/id2label.json"
    assert find_file("categories.json") is None


@pytest.mark.parametrize(
    ("root", "wanted"),
    [
        ("cows", ("cows", None, None)),
        ("me/cows", ("me/cows", None, None)),
        ("me/cows:big", ("me/cows", "big", None)),
        ("me/cows@v1.0", ("me/cows", None, "v1.0")),
        ("hf://datasets/me/cows:big@refs/convert/parquet", ("me/cows", "big", "refs/convert/parquet")),
    ],
)
def test_data_sets_on_the_hub(tmp_path, monkeypatch, root, wanted):
    asked = []

    def load_dataset(name, config, revision):
        asked.append((name, config, revision))
        return {"train": semantic_rows()}

    def download(name, file, *, repo_type, revision):
        asked.append((name, file, repo_type, revision))
        return str(tmp_path / file)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hugging_face_sources, "hf_hub_download", download)
    source = open_source(root)
    assert names(open_split(source, "train")) == TRAIN
    assert source.find_file("id2label.json") == tmp_path / "id2label.json"
    assert asked == [wanted, (wanted[0], "id2label.json", "dataset", wanted[2])]


def test_a_file_that_the_hub_does_not_have(monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: {"train": semantic_rows()})
    assert open_source("me/cows").find_file("id2label.json") is None  # the tests are offline


@pytest.mark.parametrize("streaming", [True, False])
def test_what_is_not_there(tmp_path, streaming):
    with pytest.raises(FileNotFoundError, match=r"/none is neither a folder with data nor a data set on the Hub"):
        open_source(f"{tmp_path}/none", streaming)
    with pytest.raises(FileNotFoundError, match=r"is neither a folder with data nor"):
        open_source(str(tmp_path), streaming)
    with pytest.raises(FileNotFoundError, match=r"none\*\.parquet: there are no such files"):
        open_source(f"{tmp_path}/none*.parquet", streaming)
    with pytest.raises(ConnectionError, match=r"[Oo]ffline"):
        open_source("me/cows", streaming)


def test_only_parquet_files_are_read_where_they_lie(tmp_path):
    (tmp_path / "train.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"only Parquet files .* has .*train\.csv: set data\.streaming=false"):
        open_source(str(tmp_path), streaming=True)


def test_a_configuration_must_be_chosen(tmp_path):
    for name in ("big", "small"):
        (tmp_path / name).mkdir()
        Path(tmp_path / name / "train.csv").write_text("a,b\n1,2\n")
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/*.csv\n" for name in ("big", "small"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    with pytest.raises(ValueError, match=r"(?s)'big', 'small'.*:CONFIG"):
        open_source(str(tmp_path))
    rows = open_split(open_source(f"{tmp_path}:small"), "train")
    assert list(rows.features) == ["a", "b"]


@pytest.mark.parametrize(
    "place", ["https://example.com/a.parquet", "hf://datasets/a/b/c.parquet", "/etc/a.parquet", "../a.csv"]
)
@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_names_no_files_elsewhere(tmp_path, monkeypatch, place, streaming):
    for name in ("load_dataset", "load_dataset_builder"):
        monkeypatch.setattr(datasets, name, None)
    card = "---\nconfigs:\n- config_name: a\n  data_files:\n  - split: train\n    path: [" + place + "]\n---\n"
    (tmp_path / "README.md").write_text(card)
    (tmp_path / ".huggingface.yaml").write_text(card.strip("-\n"))
    with pytest.raises(ValueError, match=r"README\.md: configs names .* nothing outside the folder is read because"):
        open_source(str(tmp_path), streaming)
    (tmp_path / "README.md").unlink()
    with pytest.raises(ValueError, match=r"\.huggingface\.yaml: configs names"):
        open_source(str(tmp_path), streaming)


def test_a_folder_names_its_own_files(tmp_path):
    for split, rows in zip(("a", "b"), ([1, 2], [3]), strict=True):
        datasets.Dataset.from_dict({"number": rows}).to_parquet(tmp_path / "data" / f"{split}.parquet")
    card = "---\nconfigs:\n- config_name: x\n  data_files:\n  - split: train\n    path: data/b.parquet\n---\n"
    (tmp_path / "README.md").write_text(card)
    assert list(open_source(str(tmp_path)).splits) == ["train"]


def test_an_address_that_needs_a_package_names_it(monkeypatch):
    def refuse(pattern):
        raise ImportError("HTTPFileSystem requires aiohttp")

    monkeypatch.setattr(hugging_face_sources, "url_to_fs", refuse)
    with pytest.raises(ValueError, match=r"http://a/x\.parquet cannot be reached: HTTPFileSystem requires aioh"):
        open_source("http://a/x.parquet")


@pytest.mark.parametrize("error", [OSError(errno.EROFS, "Read-only"), OSError("Not enough disk space. Needed: 1 MB")])
def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch, error):
    def load_dataset(name, config, revision):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    (tmp_path / "rows").mkdir()
    with pytest.raises(WriteError, match=f"^{tmp_path / 'cache'} could not be written"):
        open_source(str(tmp_path / "rows"))
