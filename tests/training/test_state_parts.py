# SPDX-License-Identifier: Apache-2.0
"""Parts of a state that FSDP2 and DeepSpeed would unpickle. Real ones are read in test_several_processes.py."""

import pickle
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.distributed.checkpoint as dist_cp
from accelerate import DistributedType

from tests.training.tiny_state import hostile
from unisegment.runs.settings import RecipeError
from unisegment.training import state_parts
from unisegment.training.state_parts import is_in_parts, load_parts

FSDP = SimpleNamespace(distributed_type=DistributedType.FSDP, state=SimpleNamespace(fsdp_plugin=None))
DEEPSPEED = SimpleNamespace(distributed_type=DistributedType.DEEPSPEED)


@pytest.fixture
def fsdp2_state(tmp_path, monkeypatch):
    """Return a folder as FSDP2 writes it, and let its loader be the one of PyTorch that accelerate calls."""
    written = {"weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(7), "rate": 0.5}
    with pytest.warns(UserWarning, match="single process"):
        dist_cp.save(written, checkpoint_id=tmp_path / "pytorch_model_fsdp_0")
    found = {"weight": torch.zeros(2, 3), "count": torch.tensor(0), "rate": 0.0}

    def load(plugin, accelerator, model, folder):
        dist_cp.load(found, checkpoint_id=f"{folder}/pytorch_model_fsdp_0", no_dist=True)

    monkeypatch.setattr(state_parts, "load_fsdp_model", load)
    monkeypatch.setattr(state_parts, "load_fsdp_optimizer", lambda *arguments: None)
    return tmp_path, found


def load_fsdp2(folder):
    with pytest.warns(UserWarning, match="single process"):
        load_parts(FSDP, None, None, folder)


def test_what_fsdp2_writes_is_read(fsdp2_state, monkeypatch):
    folder, found = fsdp2_state
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    load_fsdp2(folder)
    assert found["weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (found["count"], found["rate"]) == (7, 0.5)
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in state_parts.os.environ


@pytest.mark.parametrize("content", ["hostile", "truncated", "empty", "grows"])
def test_a_list_that_is_damaged_or_hostile_is_not_executed(fsdp2_state, content):
    folder, _ = fsdp2_state
    file, mark = folder / "pytorch_model_fsdp_0" / ".metadata", folder / "EXECUTED"
    whole = file.read_bytes()
    contents = {"hostile": hostile(mark), "truncated": whole[:-9], "empty": b"", "grows": b"Nr\xff\xff\xff\x0f."}
    file.write_bytes(contents[content])
    with pytest.raises(RecipeError, match=r"cannot be read: .*Use the settings of accelerate that it"):
        load_parts(FSDP, None, None, folder)
    assert not mark.exists()


def test_a_value_beside_the_tensors_is_not_executed(fsdp2_state):
    folder, _ = fsdp2_state
    mark = folder / "EXECUTED"
    (data,) = (folder / "pytorch_model_fsdp_0").glob("*.distcp")
    metadata = pickle.loads((folder / "pytorch_model_fsdp_0" / ".metadata").read_bytes())
    (place,) = [place for index, place in metadata.storage_data.items() if index.fqn == "rate"]
    place.offset, place.length = data.stat().st_size, len(hostile(mark))
    data.write_bytes(data.read_bytes() + hostile(mark))
    (folder / "pytorch_model_fsdp_0" / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.warns(UserWarning, match="single process"), pytest.raises(RecipeError, match="cannot be read"):
        load_parts(FSDP, None, None, folder)
    assert not mark.exists()


class LossScaler:
    scale = 1.0


def deepspeed_engine(file):
    loaded = []

    def load_checkpoint(folder, tag):
        loaded.append(torch.load(file, weights_only=False))  # as DeepSpeed does

    return SimpleNamespace(load_checkpoint=load_checkpoint, loaded=loaded)


def test_deepspeed_reads_its_numbers_and_executes_nothing(tmp_path, monkeypatch):
    for name in state_parts._DEEPSPEED_CLASSES:
        for end in range(1, len(name.split(".")) + 1):
            part = ".".join(name.split(".")[:end])
            monkeypatch.setitem(sys.modules, part, ModuleType(part))
    monkeypatch.setattr(LossScaler, "__module__", "deepspeed.runtime.fp16.loss_scaler")
    sys.modules["deepspeed.runtime.fp16.loss_scaler"].LossScaler = LossScaler
    scaler = LossScaler()
    scaler.scale = 7.0
    engine = deepspeed_engine(tmp_path / "states.pt")
    torch.save({"weight": torch.ones(3), "scaler": scaler}, tmp_path / "states.pt")
    load_parts(DEEPSPEED, engine, None, tmp_path)
    assert engine.loaded[0]["scaler"].scale == 7
    (tmp_path / "states.pt").write_bytes(hostile(tmp_path / "EXECUTED"))
    with pytest.raises(RecipeError, match="cannot be read"):
        load_parts(DEEPSPEED, engine, None, tmp_path)
    assert not (tmp_path / "EXECUTED").exists()


def test_parts_are_those_of_two_kinds():
    kinds = [DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.FSDP, DistributedType.DEEPSPEED]
    assert [is_in_parts(SimpleNamespace(distributed_type=kind)) for kind in kinds] == [False, False, True, True]
