"""A reader of pickles that runs nothing: arrays, tensors and plain containers, or a refusal that tells the name.

A pickle is a program: it names functions, and reading it calls them. Here every name is looked up in a short list, and
what the list gives is a function of this module that makes arrays out of bytes, never NumPy's or torch's own (theirs
trust what they are given: a forged dtype makes NumPy take bytes for addresses). A tensor, as `pickle` writes it, has a
torch file of the oldest layout inside, whose pickles are read in the same way; torch is not imported. What a file can
make this module allocate is bounded by a few times the file's size.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

AMPLIFIED = 4
"""Bytes that may be made of each byte of a file: text of protocol 2 becomes bytes, and these hold a torch file."""
LONGEST = 20_000
"""Instructions of a pickle; maps of eighty classes take three thousand. Deep nesting would end the whole process."""
KINDS = re.compile(r"[<>|=]?(b1|\?|[iu][1248]|f[248]|O[48]?)")
STORAGES = {
    "Double": "<f8", "Float": "<f4", "Half": "<f2", "Long": "<i8", "Int": "<i4", "Short": "<i2", "Char": "i1",
    "Byte": "u1", "Bool": "?",
}  # fmt: skip
"""torch's storages that NumPy has a type for, by the beginning of their names."""
TORCH_MAGIC, TORCH_LAYOUT = 0x1950A86A20F9469CFC6C, 1001
"""What the oldest layout of torch's files begins with: two pickled numbers."""


class Alien(pickle.UnpicklingError):
    """A name that no file of arrays needs."""


class _Name:
    """A permitted name: it can be called or handed on, and nothing in it can be set by a file."""

    __slots__ = ("call", "path")
    call: Callable[..., Any]
    path: str

    def __init__(self, path: str, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "call", call)

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError(f"a file that sets {name} of {self.path}")


class _Kind:
    """A dtype of plain numbers, or the mark of an array of objects."""

    __slots__ = ("code",)

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or not KINDS.fullmatch(code):
            raise pickle.UnpicklingError(f"an array of {code!r}, which are no plain numbers")
        self.code = code

    def __setstate__(self, state: Any) -> None:
        _, order, *parts = state
        if order not in ("<", ">", "|", "=") or any(part is not None for part in parts[:3]):
            raise pickle.UnpicklingError("an array of records")
        self.code = order + self.code.lstrip("<>|=")

    def of(self, data: Any) -> np.ndarray:
        """Numbers from bytes."""
        dtype = np.dtype(self.code)
        if dtype.hasobject:
            raise pickle.UnpicklingError("an array of objects within the dictionary")
        if not isinstance(data, bytes | bytearray):  # Python 2 wrote texts
            raise pickle.UnpicklingError(f"numbers as {type(data).__name__} instead of bytes")
        return np.frombuffer(data, dtype)


class Array:
    """An array as a pickle makes it: first empty, then filled."""

    __slots__ = ("value",)

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __setstate__(self, state: Any) -> None:
        shape, kind, fortran, data = state[-4:]  # a version stands before them
        if isinstance(data, list):
            if shape != () or len(data) != 1 or self.value is not None:
                raise pickle.UnpicklingError("an array of objects")
            self.value = data[0]
        else:
            self.value = kind.of(data).reshape(shape, order="F" if fortran else "C")


class _Pickle(pickle.Unpickler):
    """One pickle, whose names and storages its file gives."""

    def __init__(self, data: bytes, file: Pickles) -> None:
        super().__init__(io.BytesIO(data))
        self.file = file

    def find_class(self, module: str, name: str) -> _Name:
        return self.file.name(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> tuple[str, str, int]:
        """torch's reference to a storage: its type, its key in the file and its length."""
        word, kind, key, _, length, view = pid
        if word != "storage" or view is not None:
            raise pickle.UnpicklingError("a part of a storage")
        return kind.path, key, length


class Pickles:
    """The pickles of one file, and the functions that they may call.

    Args:
        size: of the file, bytes; the pickles may make AMPLIFIED times as many.
    """

    def __init__(self, size: int) -> None:
        self.left = AMPLIFIED * size
        numpy: dict[str, Callable[..., Any]] = {
            "multiarray._reconstruct": self._empty,
            "multiarray.scalar": lambda kind, data: kind.of(data)[0].item(),
            "numeric._frombuffer": lambda data, kind, shape, order, *_: kind.of(data).reshape(shape, order=order),
        }
        self.names: dict[str, Callable[..., Any]] = {
            **{f"numpy.{core}.{name}": call for core in ("core", "_core") for name, call in numpy.items()},
            "numpy.dtype": lambda code, *_: _Kind(code),
            "numpy.ndarray": self._not_called,
            "_codecs.encode": self._encode,
            "__builtin__.bytes": lambda: b"",  # protocol 2, of nothing
            "collections.OrderedDict": dict,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch.storage._load_from_bytes": self._storage,
        }
        self.names |= {f"torch.{kind}Storage": self._not_called for kind in STORAGES}

    def name(self, path: str) -> _Name:
        plain = path.replace("torch.cuda.", "torch.", 1)
        if plain not in self.names:
            raise Alien(path)
        return _Name(plain, self.names[plain])

    def load(self, stream: io.BytesIO) -> Any:
        """The object of the pickle at the stream's position, which moves behind it.

        The instructions are gone through first: all they announce must be there, because reading allocates it.
        """
        data, start = stream.getbuffer(), stream.tell()
        for count, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
            if count > LONGEST:
                raise pickle.UnpicklingError(f"more than {LONGEST} instructions, which no file of maps needs")
            if instruction.name.startswith("EXT"):
                raise Alien(f"extension {argument}")
            if "PUT" in instruction.name and int(argument or 0) > len(data):
                raise pickle.UnpicklingError("a memory larger than the file")
        return _Pickle(bytes(data[start : stream.tell()]), self).load()

    def _spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise pickle.UnpicklingError("far more data than the file is large")

    def _empty(self, cls: Any, shape: Any, code: Any) -> Array:
        if not isinstance(cls, _Name) or cls.path != "numpy.ndarray" or shape != (0,):
            raise pickle.UnpicklingError("an array that is not filled from the file")
        return Array()

    def _not_called(self, *args: Any) -> None:
        raise pickle.UnpicklingError("a type that is called")

    def _encode(self, text: str, coding: str) -> bytes:
        """How protocol 2 writes bytes."""
        self._spend(len(text))
        if coding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError(f"bytes in {coding}")
        return text.encode("latin1")

    def _storage(self, data: bytes) -> np.ndarray:
        """The numbers of a torch file with one storage: magic, layout, system, object, keys, length, numbers."""
        self._spend(len(data))
        stream = io.BytesIO(data)
        if data[:2] == b"PK" or (self.load(stream), self.load(stream)) != (TORCH_MAGIC, TORCH_LAYOUT):
            raise pickle.UnpicklingError("a tensor in an unknown layout")
        if not self.load(stream).get("little_endian"):
            raise pickle.UnpicklingError("a tensor from a big-endian machine")
        path, key, length = self.load(stream)
        if self.load(stream) != [key] or int.from_bytes(stream.read(8), "little") != length:
            raise pickle.UnpicklingError("a tensor that does not fit its description")
        numbers = np.frombuffer(stream.read(), STORAGES[path.removeprefix("torch.").removesuffix("Storage")])
        if len(numbers) != length:
            raise pickle.UnpicklingError(f"a tensor of {len(numbers)} numbers instead of {length}")
        return numbers

    def _tensor(self, storage: np.ndarray, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> Any:
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if (
            min((offset, *size, *stride), default=0) < 0
            or math.prod(size) > len(storage)
            or last >= max(len(storage), 1)
        ):
            raise pickle.UnpicklingError("a tensor that is larger than its storage")
        steps = [step * storage.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)
