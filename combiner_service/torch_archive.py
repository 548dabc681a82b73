"""Reading the published formats: dictionaries {epoch, Combiner} or {epoch, Phi} written by torch.save.

Read without torch, by an unpickler that builds dense tensors and plain containers and refuses all else, so
that a checkpoint from a stranger can neither run code nor take more memory than its own size. Both layouts of
torch.save are read: the archive of today, and the sequence of pickles from before torch 1.6.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from combiner_service.combiner import Float32
from combiner_service.errors import InvalidCheckpointError
from combiner_service.network_spec import Shape

#: Names of the networks in the published dictionaries: CLIP4Cir's, and SEARLE's and LinCIR's.
_NETWORKS = ("Combiner", "Phi")
_EXPECTED = "expected the published dictionary {'epoch': int, 'Combiner' (or 'Phi'): state dict}"
# A state dict's pickle has some hundred bytes for each tensor.
_MAX_PICKLE_BYTES = 1 << 20
# The first pickles of the older layout.
_OLD_MAGIC = 0x1950A86A20F9469CFC6C
_OLD_PROTOCOL = 1001
# Type and bytes of a number in each class of storage, as numpy names floats; the type of others is empty.
# "bfloat16" is none of numpy's, and widened by hand.
_STORAGES = {
    "DoubleStorage": ("f8", 8),
    "FloatStorage": ("f4", 4),
    "HalfStorage": ("f2", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "LongStorage": ("", 8),
    "IntStorage": ("", 4),
    "ShortStorage": ("", 2),
    "CharStorage": ("", 1),
    "ByteStorage": ("", 1),
    "BoolStorage": ("", 1),
}

Read = Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class _Storage:
    """Numbers of one type, stored under `key`. The type is empty where they are not floats."""

    key: str
    dtype: str
    width: int
    count: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage, whose numbers are not read yet."""

    storage: _Storage
    offset: int
    shape: Shape
    stride: Shape

    @property
    def is_dense(self) -> bool:
        """Return true for contiguous floats that lie within their storage.

        Contiguous also means that the tensor is no larger than the numbers in the file: a view with stride 0
        could ask for any amount of memory.
        """
        strides = [math.prod(self.shape[place + 1 :]) for place in range(len(self.shape))]
        same = all(a == b for n, a, b in zip(self.shape, self.stride, strides, strict=True) if n != 1)
        return bool(self.storage.dtype) and same and self.offset + math.prod(self.shape) <= self.storage.count


@dataclass(frozen=True, slots=True)
class _File:
    """A file of torch.save: what was saved, and the numbers of a storage by its key."""

    content: object
    read: Read
    order: str = "<"


def inspect_archive(path: Path) -> tuple[dict[str, Shape], int | None]:
    """Return the shapes by tensor name, and the epoch, without the weights.

    Raises:
        InvalidCheckpointError: The file is not a checkpoint that can be used.
        OSError: The file cannot be read.
    """
    with path.open("rb") as stream:
        content = _parse(stream).content
    return {name: tensor.shape for name, tensor in _state_dict(content).items()}, _epoch(content)


def read_archive(path: Path) -> tuple[dict[str, Float32], int | None]:
    """Return the tensors by name as float32, and the epoch.

    Raises:
        InvalidCheckpointError: The file is not a checkpoint that can be used.
        OSError: The file cannot be read.
    """
    with path.open("rb") as stream:
        file = _parse(stream)
        tensors = _state_dict(file.content)
        with _damage():
            arrays = {name: _numbers(tensor, file) for name, tensor in tensors.items()}
    return arrays, _epoch(file.content)


def widen(content: bytes | bytearray, dtype: str, order: str = "<") -> Float32:
    """Return the numbers of a type (`f8`, `f4`, `f2` or `bfloat16`) as float32, in memory of their own."""
    if dtype == "bfloat16":
        upper = np.frombuffer(content, f"{order}u2").astype(np.uint32)
        return (upper << np.uint32(16)).view(np.float32)
    with np.errstate(over="ignore"):
        return np.frombuffer(content, f"{order}{dtype}").astype(np.float32)


def _numbers(tensor: Tensor, file: _File) -> Float32:
    content = file.read(tensor.storage.key)
    width = tensor.storage.width
    count = math.prod(tensor.shape)
    part = content[tensor.offset * width : (tensor.offset + count) * width]
    if len(part) != count * width:
        raise ValueError(f"storage {tensor.storage.key} is cut short")
    return widen(part, tensor.storage.dtype, file.order).reshape(tensor.shape)


def _parse(stream: BinaryIO) -> _File:
    is_archive = zipfile.is_zipfile(stream)
    stream.seek(0)
    with _damage():
        return _parse_archive(stream) if is_archive else _parse_sequence(stream)


@contextmanager
def _damage() -> Iterator[None]:
    """Refuse content whose reading fails, in whatever way it does: zipfile and pickle have many."""
    try:
        yield
    except InvalidCheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise InvalidCheckpointError(
            f"the file holds more than tensors, or is damaged, and was not opened ({_first_line(error)}); "
            + _EXPECTED
        ) from error
    except Exception as error:
        raise InvalidCheckpointError(
            f"not a whole file of torch.save ({type(error).__name__}: {_first_line(error)}); copy it again, "
            "under another name and renamed when complete"
        ) from error


def _parse_archive(stream: BinaryIO) -> _File:
    """Read the archive's pickle; its list of files alone tells a program, or what could fill the memory."""
    archive = zipfile.ZipFile(stream)
    entries = {item.filename: item for item in archive.infolist()}
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in entries):
        raise InvalidCheckpointError(
            "the file is a TorchScript archive, which is a program and is not run; if you trust it, convert "
            "it: torch.save({'epoch': 0, 'Combiner': dict(torch.jit.load(FILE).state_dict())}, 'NAME.pt')"
        )
    if any(item.compress_type != zipfile.ZIP_STORED for item in entries.values()):
        # torch.save compresses nothing, and a few bytes could become any number.
        raise InvalidCheckpointError(
            "the file is a compressed archive, which torch.save does not write; save the weights again: "
            + _EXPECTED
        )
    (pickled,) = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    root = pickled.removesuffix("data.pkl")
    if entries[pickled].file_size > _MAX_PICKLE_BYTES:
        raise InvalidCheckpointError(f"the file's list of tensors is too long; {_EXPECTED}")
    content = _Unpickler(io.BytesIO(archive.read(pickled))).load()
    order = archive.read(f"{root}byteorder") if f"{root}byteorder" in entries else b"little"
    return _File(content, lambda key: archive.read(f"{root}data/{key}"), ">" if order == b"big" else "<")


def _parse_sequence(stream: BinaryIO) -> _File:
    """Read the layout from before torch 1.6: pickles one after another, then the storages."""
    head = io.BytesIO(stream.read(_MAX_PICKLE_BYTES))
    if head.getvalue().startswith(b"PK\x03\x04"):
        raise ValueError("an archive that ends too early")
    if (_Unpickler(head).load(), _Unpickler(head).load()) != (_OLD_MAGIC, _OLD_PROTOCOL):
        raise pickle.UnpicklingError("it does not begin as torch.save does")
    system: Any = _Unpickler(head).load()
    unpickler = _Unpickler(head)
    content = unpickler.load()
    keys: Any = _Unpickler(head).load()
    order = "<" if system["little_endian"] else ">"
    # One after another, each behind its count.
    places: dict[str, tuple[int, int]] = {}
    position = head.tell()
    for key in keys:
        if type(key) is not str:
            raise pickle.UnpicklingError("it lists something else than storages")
        storage = unpickler.storages[key]
        stream.seek(position)
        if int.from_bytes(stream.read(8), "little" if order == "<" else "big") != storage.count:
            raise ValueError(f"storage {key} has another length than the file says")
        length = storage.count * storage.width
        places[key] = (position + 8, length)
        position += 8 + length

    def read(key: str) -> bytes:
        start, length = places[key]
        stream.seek(start)
        return stream.read(length)

    return _File(content, read, order)


# Typed stubs know little of it.
_PurePython: Any = pickle._Unpickler


class _Unpickler(_PurePython):  # type: ignore[misc]
    """Builder of tensors and plain containers.

    The one in Python rather than the one in C, whose memory of values a few bytes of a crafted file can make
    as large as they like. Sets are left out, and keys are texts and numbers alone: hashing what is deeply
    nested would end the process.
    """

    dispatch: ClassVar = dict(_PurePython.dispatch)
    for _code in (pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.INST, pickle.OBJ):
        del dispatch[_code[0]]
    for _code in (pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEWOBJ_EX, pickle.BUILD, pickle.NEWOBJ):
        del dispatch[_code[0]]
    del _code

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def load(self) -> object:
        """Return what was pickled."""
        try:
            loaded: object = super().load()
            return loaded
        except KeyError as error:
            raise pickle.UnpicklingError(f"unexpected content {error}") from error

    def find_class(self, module: str, name: str) -> object:
        """Return the stand-in for a name that torch.save writes of tensors; there are no others."""
        known: dict[tuple[str, str], object] = {
            ("collections", "OrderedDict"): _ordered_dict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
        }
        if (module, name) in known:
            return known[module, name]
        if module == "torch" and name in _STORAGES:
            return name
        raise pickle.UnpicklingError(f"it names {module[:60]}.{name[:60]}")

    def persistent_load(self, identity: Any) -> _Storage:
        """Return the storage of a tensor."""
        kind, name, key, _, count, *view = identity
        # The class is a text from `find_class`: what is deeply nested must not be hashed (see above).
        if kind != "storage" or any(view) or type(name) is not str or type(count) is not int or count < 0:
            raise pickle.UnpicklingError("it refers to something else than a storage")
        storage = _Storage(str(key), *_STORAGES[name], count)
        return self.storages.setdefault(storage.key, storage)

    def _checked_items(self) -> None:
        """Refuse keys that are neither texts nor numbers; called with the items on top of the stack."""
        if not all(type(key) in (str, int) for key in self.stack[::2]):
            raise pickle.UnpicklingError("a dictionary has other keys than texts and numbers")

    def _load_setitems(self) -> None:
        self._checked_items()
        _PurePython.load_setitems(self)

    def _load_dict(self) -> None:
        self._checked_items()
        _PurePython.load_dict(self)

    def _load_setitem(self) -> None:
        if type(self.stack[-2]) not in (str, int):
            raise pickle.UnpicklingError("a dictionary has other keys than texts and numbers")
        _PurePython.load_setitem(self)

    dispatch[pickle.SETITEMS[0]] = _load_setitems
    dispatch[pickle.DICT[0]] = _load_dict
    dispatch[pickle.SETITEM[0]] = _load_setitem


def _ordered_dict() -> dict[str, object]:
    return {}


def _tensor(
    storage: _Storage, offset: int, shape: Iterable[int], stride: Iterable[int], *_: object
) -> Tensor:
    tensor = Tensor(storage, offset, tuple(shape), tuple(stride))
    numbers = (tensor.offset, *tensor.shape, *tensor.stride)
    if not isinstance(storage, _Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise pickle.UnpicklingError("a tensor of no sound shape")
    return tensor


def _parameter(tensor: Tensor, *_: object) -> Tensor:
    return tensor


def _state_dict(content: object) -> Mapping[str, Tensor]:
    if not isinstance(content, dict):
        raise InvalidCheckpointError(f"the file holds a {type(content).__name__}; {_EXPECTED}")
    found = [name for name in _NETWORKS if name in content]
    if len(found) != 1:
        hint = "; a fine-tuned CLIP belongs to the embedder" if "CLIP" in content else ""
        keys = ", ".join(str(key)[:60] for key in list(content)[:6])
        raise InvalidCheckpointError(
            f"the file has no 'Combiner' but: {keys or 'nothing'}; {_EXPECTED}{hint}"
        )
    state = content[found[0]]
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise InvalidCheckpointError(f"{found[0]!r} is not a state dict; {_EXPECTED}")
    for name, tensor in state.items():
        if not (isinstance(tensor, Tensor) and tensor.is_dense):
            raise InvalidCheckpointError(f"{name[:60]} is not a dense tensor of floating-point numbers")
    return state


def _epoch(content: object) -> int | None:
    epoch = content.get("epoch") if isinstance(content, dict) else None
    # A crafted file may hold a number of any length, which could not even be printed.
    return epoch if type(epoch) is int and 0 <= epoch < 2**63 else None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no details"])[0][:200]
