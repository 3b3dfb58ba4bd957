"""The reader of old .npy files: it takes what their writers wrote, and runs nothing that a forged one asks for."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matlabel_bench.errors import DataError
from matlabel_cams import foreign
from matlabel_cams.foreign import read_arrays, read_dictionary

MAPS = np.random.default_rng(0).random((2, 5, 7)).astype(np.float32)


def irn() -> dict[str, Any]:
    """What IRN writes: a LongTensor, a tensor that is a part of a larger one, and an array."""
    return {"keys": torch.tensor([3, 14]), "cam": torch.from_numpy(MAPS)[:, ::2, 1:5], "high_res": MAPS}


def header() -> bytes:
    """Of an .npy file with one Python object."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
    return stream.getvalue()


def wrapped(content: Any, protocol: int = 4) -> bytes:
    """A file as np.save writes one, in a protocol of choice."""
    array = np.empty((), object)
    array[()] = content
    return header() + pickle.dumps(array, protocol=protocol)


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], dict[Any, Any]]:
    def call(data: bytes) -> dict[Any, Any]:
        (tmp_path / "a.npy").write_bytes(data)
        return read_dictionary(tmp_path / "a.npy")

    return call


class Runs:
    """Unpickled anywhere else, this runs a command that leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.mark}'",)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_irn_writes_comes_back(protocol: int, read: Callable[[bytes], dict[Any, Any]]) -> None:
    got = read(wrapped(irn(), protocol))
    assert list(got) == ["keys", "cam", "high_res"]
    for name, value in irn().items():
        np.testing.assert_array_equal(got[name], np.asarray(value))
        assert got[name].dtype == np.asarray(value).dtype


@pytest.mark.parametrize("names", [(b"numpy._core.", b"numpy.core."), (b"numpy.core.", b"numpy._core.")])
def test_old_and_new_names_of_numpys_modules(
    names: tuple[bytes, bytes], read: Callable[[bytes], dict[Any, Any]]
) -> None:
    """Protocol 2 writes names as lines of text, so that one may stand for the other."""
    data = wrapped({0: MAPS, 1: np.float64(2.5)}, protocol=2).replace(*names)
    got = read(data)
    np.testing.assert_array_equal(got[0], MAPS)
    assert got[1] == 2.5


@pytest.mark.parametrize("protocol", [2, 4])
def test_an_image_without_any_class(protocol: int, read: Callable[[bytes], dict[Any, Any]]) -> None:
    content = {"keys": torch.zeros(0, dtype=torch.int64), "cam": torch.zeros(0, 3, 4), "high_res": np.zeros((0, 9, 9))}
    got = read(wrapped(content, protocol))
    assert [got[name].shape for name in content] == [(0,), (0, 3, 4), (0, 9, 9)]


def test_np_save_and_every_type(tmp_path: Path) -> None:
    numbers = [np.arange(6).reshape(2, 3).astype(t) for t in ("?", "i1", "u2", ">i4", "<u8", "f2", ">f4", "f8")]
    tensors = [torch.arange(3).to(t) for t in (torch.bool, torch.uint8, torch.int16, torch.float16, torch.float64)]
    more = [np.asfortranarray(MAPS[0]), np.empty((0, 4)), torch.empty(0, 3), torch.tensor(7), torch.zeros(2).numpy()]
    content = dict(enumerate([*numbers, *tensors, *more])) | {"text": "a", "list": [1, 2], "od": OrderedDict()}
    np.save(tmp_path / "a.npy", content)
    got = read_dictionary(tmp_path / "a.npy")
    for key, value in content.items():
        if isinstance(key, int):
            np.testing.assert_array_equal(got[key], np.asarray(value))
            assert got[key].dtype == np.asarray(value).dtype and got[key].shape == np.asarray(value).shape
    assert (got["text"], got["list"], got["od"]) == ("a", [1, 2], {})


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_command_is_refused_by_name_and_does_not_run(
    protocol: int, tmp_path: Path, read: Callable[[bytes], dict[Any, Any]]
) -> None:
    mark = tmp_path / "ran"
    data = wrapped({"keys": torch.tensor([1]), "high_res": Runs(mark)}, protocol)
    with pytest.raises(DataError, match=rf"(?s)a file of arrays.*asks for `{os.name}\.system`.*do not use this file"):
        read(data)
    assert not mark.exists()
    function, arguments = Runs(mark).__reduce__()
    function(*arguments)
    assert mark.exists()  # it would have left its mark


def test_a_command_within_a_tensor_is_refused(tmp_path: Path, read: Callable[[bytes], dict[Any, Any]]) -> None:
    """The torch file inside is read in the same way."""
    mark, inner = tmp_path / "ran", io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, Runs(mark), ["0"]):
        pickle.dump(part, inner, protocol=2)
    with pytest.raises(DataError, match=rf"asks for `{os.name}\.system`"):
        read(wrapped({"keys": Loads(inner.getvalue())}))
    assert not mark.exists()


class Loads:
    """Pickled as torch pickles a storage: bytes to be loaded."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return torch.storage._load_from_bytes, (self.data,)


NAMES = [
    "builtins eval", "builtins getattr", "builtins __import__", "numpy load", "numpy._core.multiarray frombuffer",
    "torch load", "torch.serialization load", "torch.storage UntypedStorage", "numpy.lib.format read_array",
    "functools partial", "matlabel_cams.pickles Pickles", "numpy.core.multiarray _reconstruct.__globals__",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_other_names_are_refused(name: str, read: Callable[[bytes], dict[Any, Any]]) -> None:
    module, attribute = name.split()
    with pytest.raises(DataError, match=rf"asks for `{module}\.{attribute}`"):
        read(header() + f"c{module}\n{attribute}\n.".encode())
    short = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, attribute))
    with pytest.raises(DataError, match=rf"asks for `{module}\.{attribute}`"):
        read(header() + b"\x80\x04" + short + b"\x93.")


class Calls:
    """Pickled as a call of any function with any arguments, and a state."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self.told = (function, args, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.told


STORAGE = torch.zeros(2).__reduce_ex__(2)[1][0]


def tensor(*changes: tuple[bytes, bytes]) -> Any:
    """A tensor of two numbers whose storage's file was changed."""
    data = STORAGE.__reduce__()[1][0]
    for before, after in changes:
        assert before in data
        data = data.replace(before, after)
    return Calls(torch._utils._rebuild_tensor_v2, Loads(data), 0, (2,), (1,), False, {})


def test_a_tensor_that_lay_on_a_gpu(read: Callable[[bytes], dict[Any, Any]]) -> None:
    gpu = tensor((b"ctorch\nFloat", b"ctorch.cuda\nFloat"), (b"\x03\x00\x00\x00cpu", b"\x06\x00\x00\x00cuda:0"))
    assert read(wrapped({"cam": gpu}))["cam"].tolist() == [0, 0]


EMPTY = np._core.multiarray._reconstruct if hasattr(np, "_core") else np.core.multiarray._reconstruct  # type: ignore[attr-defined]
FORGED = [
    (np.zeros(2, object), "array of objects"),
    (np.zeros(2, [("a", "i4")]), "no plain numbers"),
    (np.array(["a"]), "no plain numbers"),
    (Calls(EMPTY, np.ndarray, (1 << 50,), b"b"), "not filled from the file"),
    (Calls(EMPTY, np.dtype, (0,), b"b"), "not filled from the file"),
    (Calls(np.dtype, "V8", state=(3, "|", None, ("a",), {"a": (np.dtype("i4"), 0)}, 8, 1, 0)), "no plain numbers"),
    (Calls(np.dtype, "f8", state=(3, "|", None, ("a",), {"a": (np.dtype("i4"), 0)}, 8, 1, 0)), "array of records"),
    (Calls(np.ndarray, 1 << 50), "a type that is called"),
    (Calls(torch._utils._rebuild_tensor_v2, STORAGE, 0, (1 << 40,), (0,), False, {}), "larger than"),
    (Calls(torch._utils._rebuild_tensor_v2, STORAGE, 1, (2,), (1,), False, {}), "larger than"),
    (Calls(torch._utils._rebuild_tensor_v2, STORAGE, 1, (2,), (-1,), False, {}), "larger than"),
    (torch.zeros(2, dtype=torch.bfloat16), "asks for `torch.BFloat16Storage`"),
    (Loads(b"PK\x03\x04"), "an unknown layout"),
    (tensor((b"M\xe9\x03", b"M\xea\x03")), "an unknown layout"),
    (tensor((b"little_endianq\x02\x88", b"little_endianq\x02\x89")), "big-endian machine"),
    (tensor((b"K\x02N", b"K\x03N")), "does not fit its description"),
    (tensor((b"FloatStorage", b"LongStorage")), "a tensor of 1 numbers instead of 2"),
    ({1: [torch.nn.Linear(1, 1)]}, r"asks for `torch\.nn\.modules\.linear\.Linear`"),
]


@pytest.mark.parametrize(("content", "words"), FORGED)
def test_forged_arrays_and_tensors(content: Any, words: str, read: Callable[[bytes], dict[Any, Any]]) -> None:
    with pytest.raises(DataError, match=words):
        read(wrapped({"keys": content}))


def test_names_cannot_be_changed_by_a_file(read: Callable[[bytes], dict[Any, Any]]) -> None:
    """A pickle may set attributes of what it was given: neither attributes nor a dictionary are there to be set."""
    for state in (b"N}\x8c\x04callK\x01s\x86", b"}\x8c\x04callK\x01s"):
        with pytest.raises(DataError, match=r"sets call of numpy\.ndarray|has no attribute '__dict__'"):
            read(header() + b"\x80\x04cnumpy\nndarray\n" + state + b"b.")
    np.testing.assert_array_equal(read(wrapped({1: MAPS}))[1], MAPS)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (b"]r\xff\xff\xff\xff.", "a memory larger than the file"),
        (b"\x8e" + struct.pack("<Q", 1 << 40) + b".", r"1099511627776 bytes"),
        (b"\x96" + struct.pack("<Q", 1 << 40) + b".", r"1099511627776 bytes"),
        (b"})" + b"\x85" * 1_000_000 + b"Ns.", "more than 20000 instructions"),
        (b"\x82\x01.", "asks for `extension 1`"),
        (b"]", "exhausted before seeing STOP"),
        (b"].", "no array around"),
    ],
)
def test_programs_that_ask_for_memory(program: bytes, words: str, read: Callable[[bytes], dict[Any, Any]]) -> None:
    with pytest.raises(DataError, match=words):
        read(header() + b"\x80\x05" + program)


def test_a_small_file_does_not_become_a_large_one(read: Callable[[bytes], dict[Any, Any]]) -> None:
    """One text made into bytes again and again."""
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000
    call = b"h\x00h\x01X\x06\x00\x00\x00latin1\x86R0"
    program = b"\x80\x02" + b"c_codecs\nencode\nq\x000" + text + b"q\x010" + call * 1000 + b"N."
    assert len(list(pickletools.genops(program))) > 5000
    with pytest.raises(DataError, match="far more data than the file is large"):
        read(header() + program)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "magic string"),
        (b"\x93NUMPY\x01\x00", "array header"),
        (wrapped(irn())[:-40], r"an \.npy file with a dictionary of maps"),
        (wrapped([1, 2]), "with list"),
        (b"PK", "magic string"),
    ],
)
def test_damaged_files(data: bytes, words: str, read: Callable[[bytes], dict[Any, Any]]) -> None:
    with pytest.raises(DataError, match=words):
        read(data)


def test_a_plain_array_is_no_dictionary(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", MAPS)
    with pytest.raises(DataError, match=r"(?s)with a dictionary.*an array of shape \(2, 5, 7\).*another format"):
        read_dictionary(tmp_path / "a.npy")


def test_large_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "LARGEST", 5000)
    np.savez_compressed(tmp_path / "a.npz", cams=np.zeros((9, 100, 100)))
    with pytest.raises(DataError, match=r"(?s)an \.npz file of arrays.*720128 bytes unpacked, at most 5000"):
        read_arrays(tmp_path / "a.npz")
    (tmp_path / "a.npy").write_bytes(b"a" * 5001)
    with pytest.raises(DataError, match=r"at most 5000 bytes"):
        read_dictionary(tmp_path / "a.npy")


def test_arrays_of_npz_files(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", cams=MAPS, size=np.array([5, 7]))
    got = read_arrays(tmp_path / "a.npz")
    np.testing.assert_array_equal(got["cams"], MAPS)
    assert got["size"].tolist() == [5, 7]
    np.savez(tmp_path / "b.npz", cams=np.array([Runs(tmp_path / "ran")]))
    with pytest.raises(DataError, match="Python objects instead of numbers"):
        read_arrays(tmp_path / "b.npz")
    assert not (tmp_path / "ran").exists()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_damage_gives_a_dictionary_or_a_data_error(
    changes: list[tuple[int, int]], read: Callable[[bytes], dict[Any, Any]]
) -> None:
    data = bytearray(wrapped(irn()))
    for at, value in changes:
        data[at % len(data)] = value
    try:
        assert isinstance(read(bytes(data)), dict)
    except DataError as err:
        assert "a.npy" in str(err)
