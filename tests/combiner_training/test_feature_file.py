import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from combiner_training.feature_file import (
    FeatureFileError,
    FeatureHeader,
    FeatureKind,
    FeatureWriter,
    header_from_bytes,
    header_to_bytes,
    read_table,
)


def header_of(*names: str, dtype: str = "float32", dimension: int = 3) -> FeatureHeader:
    return FeatureHeader(
        FeatureKind.TEXTS, names, dimension, np.dtype(dtype), "model-a", {"architecture": "x"}
    )


def written(path: Path) -> bytes:
    with FeatureWriter(path, header_of("a", "b")) as writer:
        writer.append(np.array([[1, 2, 3], [4, 5, 6]], np.float32))
        writer.finish()
    return path.read_bytes()


@given(
    st.lists(
        st.text(max_size=6).filter(lambda text: text.isprintable()), min_size=1, max_size=5, unique=True
    ),
    st.sampled_from(["float16", "float32"]),
    st.integers(1, 9),
)
def test_a_header_comes_back(names: list[str], dtype: str, dimension: int) -> None:
    header = header_of(*names, dtype=dtype, dimension=dimension)
    content = header_to_bytes(header)
    assert len(content) % 64 == 0
    assert header_from_bytes(content[8:]) == header
    assert header.row_bytes == dimension * (2 if dtype == "float16" else 4)


def test_a_header_without_rows_is_refused() -> None:
    with pytest.raises(FeatureFileError, match="0 rows of 3 values"):
        header_to_bytes(header_of())


def test_rows_are_read_by_name(tmp_path: Path) -> None:
    written(tmp_path / "t.safetensors")
    table = read_table(tmp_path / "t.safetensors")
    np.testing.assert_array_equal(table.take(table.rows(["b", "a", "b"])), [[4, 5, 6], [1, 2, 3], [4, 5, 6]])
    assert table.take(table.rows(["a"])).dtype == np.float32
    assert isinstance(table.matrix, np.memmap)
    assert ("a" in table, "c" in table) == (True, False)
    assert (table.usable_row("b"), table.usable_row("c")) == (1, -1)
    assert table.rows([]).size == 0
    with pytest.raises(FeatureFileError, match=r"no features of 'c' and 1 more; extract"):
        table.rows(["a", "c", "d"])


@pytest.mark.torch
def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    whole = written(path)
    for length in [*range(0, len(whole), 9), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(FeatureFileError):
            read_table(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(FeatureFileError, match="its header claims"):
        read_table(path)


def test_a_file_with_a_flipped_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    whole = written(path)
    for at in range(len(whole)):
        for bits in (1, 3, 32, 128):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :])
            with pytest.raises(FeatureFileError):
                read_table(path)


def test_a_file_from_before_there_were_checksums_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    whole = written(path)
    length = int.from_bytes(whole[:8], "little")
    document = json.loads(whole[8 : 8 + length])
    del document["__metadata__"]["crc32"]
    document["__metadata__"]["cir_format"] = "features/1"
    text = json.dumps(document).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
    assert read_table(path).take(np.array([1])).tolist() == [[4, 5, 6]]


@pytest.mark.parametrize(
    "change",
    [
        {"features": {"dtype": "I8", "shape": [2, 3], "data_offsets": [0, 24]}},
        {"features": {"dtype": "F32", "shape": [2], "data_offsets": [0, 24]}},
        {"features": {"dtype": "F32", "shape": [3, 2], "data_offsets": [0, 24]}},
        {"features": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 23]}},
        {"features": {"dtype": "F32", "shape": [-2, -3], "data_offsets": [0, 24]}},
        {"features": 7},
        {"__metadata__": {}},
    ],
)
def test_a_crafted_header_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "t.safetensors"
    whole = written(path)
    length = int.from_bytes(whole[:8], "little")
    text = json.dumps(json.loads(whole[8 : 8 + length]) | change).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
    with pytest.raises(FeatureFileError):
        read_table(path)


@pytest.mark.parametrize(
    "metadata",
    [
        {"cir_format": "features/9"},
        {"names": "[]"},
        {"names": '["a", "a"]'},
        {"kind": "sounds"},
        {"model": "[]"},
        {"names": "{"},
    ],
)
def test_crafted_metadata_are_refused(metadata: dict[str, str]) -> None:
    content = header_to_bytes(header_of("a", "b"))
    document = json.loads(content[8:])
    document["__metadata__"] |= metadata
    with pytest.raises(FeatureFileError):
        header_from_bytes(json.dumps(document).encode())


def test_a_row_that_is_partly_nan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    whole = bytearray(written(path))
    whole[-4:] = np.array([np.nan], "<f4").tobytes()
    path.write_bytes(whole)
    with pytest.raises(FeatureFileError, match="features of 'b' have values that are not finite"):
        read_table(path)


def test_a_file_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(FeatureFileError, match="does not exist; make it with: cir features extract"):
        read_table(tmp_path / "t.safetensors")


def test_a_writer_takes_rows_of_its_own_kind_alone(tmp_path: Path) -> None:
    with FeatureWriter(tmp_path / "t.safetensors", header_of("a", "b")) as writer:
        with pytest.raises(FeatureFileError, match="expected rows of 3 values"):
            writer.append(np.zeros((1, 4), np.float32))
        with pytest.raises(FeatureFileError, match="more rows than names"):
            writer.append(np.zeros((3, 3), np.float32))
        with pytest.raises(FeatureFileError, match="0 of 2 rows are written"):
            writer.finish()
    assert not (tmp_path / "t.safetensors").exists()
