# SPDX-License-Identifier: Apache-2.0
import collections
import os
import pickle
import subprocess

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from unisegment.ops.weight_files import read_weight_file, weights_in


def arrays():
    state_dict = collections.OrderedDict(
        conv=np.arange(30, dtype=np.float32).reshape(2, 5, 3),
        column_major=np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        big_endian=np.array([1.5, -2], dtype=">f4"),
        half=np.array([0.25], dtype=np.float16),
        count=np.array(5),
        scalar=np.float32(3),
        flags=np.array([True, False]),
        nothing=np.zeros((0, 4), dtype=np.float32),
    )
    state_dict._metadata = {"": {"version": 1}}
    return state_dict


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_numpy_arrays(tmp_path, protocol):
    path = tmp_path / "model_final.pkl"
    content = {"model": arrays(), "__author__": "somebody", "iteration": 7, "sizes": [1, (2, 3)], "no": None}
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    read = read_weight_file(path)
    assert read["__author__"] == "somebody"
    assert read["iteration"] == 7
    assert read["sizes"] == [1, [2, 3]]
    weights = weights_in(read, path)
    for name, array in arrays().items():
        expected = torch.from_numpy(np.array(array, dtype=np.asarray(array).dtype.newbyteorder("=")))
        assert weights[name].dtype == expected.dtype, name
        assert torch.equal(weights[name], expected), name
        weights[name].zero_()  # its own, writable memory


def test_a_pickle_of_python_2(tmp_path):
    # Texts and bytes were one there: array values arrive as text.
    path = tmp_path / "old.pkl"
    path.write_bytes(
        b"(dp0\nS'w'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\ntp6\nRp7\n"
        b"(I1\n(I2\ntp8\ncnumpy\ndtype\np9\n(S'f4'\np10\nI0\nI1\ntp11\nRp12\n(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\n"
        b"S'\\x00\\x00\\x80?\\x00\\x00 \\xc0'\np15\ntp16\nbs."
    )
    assert read_weight_file(path)["w"].tolist() == [1.0, -2.5]


@pytest.mark.parametrize("zip_file", [True, False])
def test_what_torch_saves(tmp_path, zip_file):
    path = tmp_path / "model.pth"
    state_dict = {"w": torch.randn(3, 2), "b": torch.randn(2).bfloat16()}
    torch.save({"state_dict": state_dict, "epoch": 3}, path, _use_new_zipfile_serialization=zip_file)
    weights = weights_in(read_weight_file(path), path)
    assert all(torch.equal(weights[name], tensor) for name, tensor in state_dict.items())


def test_safetensors_whatever_the_name(tmp_path):
    path = tmp_path / "model.bin"
    save_file({"w": torch.arange(6.0).reshape(3, 2)}, path)
    assert weights_in(read_weight_file(path), path)["w"].tolist() == [[0, 1], [2, 3], [4, 5]]


class Command:
    def __init__(self, *callable_and_arguments):
        self.reduced = callable_and_arguments[0], callable_and_arguments[1:]

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("kind", ["os.system", "subprocess", "eval", "getattr", "nested"])
def test_a_hostile_pickle_is_refused_before_it_runs(tmp_path, protocol, kind):
    mark = tmp_path / "ran"
    command = {
        "os.system": Command(os.system, f"touch {mark}"),
        "subprocess": Command(subprocess.check_call, ["touch", str(mark)]),
        "eval": Command(eval, f"open({str(mark)!r}, 'w')"),
        "getattr": Command(getattr, np.ndarray, "tofile"),
        "nested": [{"deep": (Command(os.mkdir, str(mark)),)}],
    }[kind]
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"model": arrays(), "extra": command}, protocol=protocol))
    with pytest.raises(ValueError, match=r"it asks for \w+\..* Nothing of it was executed"):
        read_weight_file(path)
    assert not mark.exists()


def test_arrays_of_objects_are_refused(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"w": np.array([{}, None], dtype=object)}))
    with pytest.raises(ValueError, match="it holds values of type 'O8', not numbers"):
        read_weight_file(path)


def test_a_hostile_torch_file_is_refused_without_advice_to_run_it(tmp_path):
    mark, path = tmp_path / "ran", tmp_path / "model.pth"
    torch.save({"model": {"w": torch.ones(2)}, "extra": Command(os.system, f"touch {mark}")}, path)
    with pytest.raises(ValueError, match=r"it asks for (posix|nt)\.system\.") as raised:
        read_weight_file(path)
    assert "weights_only" not in str(raised.value)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["pkl", "pth", "old pth", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98])
def test_a_truncated_file_is_named(tmp_path, kind, share):
    path = tmp_path / "model"
    if kind == "pkl":
        path.write_bytes(pickle.dumps({"model": arrays()}))
    elif kind == "safetensors":
        save_file({"w": torch.zeros(50)}, path)
    else:
        torch.save({"model": {"w": torch.zeros(50)}}, path, _use_new_zipfile_serialization=kind == "pth")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"model' cannot be read as a file of weights: .* damaged"):
        read_weight_file(path)


def test_an_array_whose_bytes_do_not_fit_its_shape_is_named(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"w": np.zeros((2, 3), dtype=np.float32)}).replace(b"K\x02K\x03", b"K\x02K\x04"))
    with pytest.raises(ValueError, match=r"an array of shape \(2, 4\) has 24 bytes"):
        read_weight_file(path)


@pytest.mark.parametrize("content", [b"", b"hello", b'{"json": 1}', b"\x89PNG\r\n\x1a\n" + bytes(20)])
def test_other_files_are_named(tmp_path, content):
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as a file of weights"):
        read_weight_file(path)


def test_content_that_is_no_state_dict_is_named(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ValueError, match="holds a list instead of weights under names"):
        read_weight_file(path)
    with pytest.raises(ValueError, match=r"holds no weights: 'lr' is a float\. Expected .* under one of model, "):
        weights_in({"lr": 0.1, "w": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="holds no weights: 3 is a Tensor"):
        weights_in({3: torch.ones(1)}, path)
    with pytest.raises(ValueError, match="holds no weights: there is nothing in it"):
        weights_in({"model": {}}, path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file '.*nowhere\.pkl'"):
        read_weight_file(tmp_path / "nowhere.pkl")
