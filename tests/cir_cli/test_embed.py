"""`cir embed` and `cir combine`: vectors as .npy and JSON, and the way from one to the other to a search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from cir.combiner.v1 import combiner_pb2
from cir.common.v1 import errors_pb2
from cir.embedder.v1 import embedder_pb2
from cir.vectors import pack, unpack
from cir_cli.errors import Failure
from cir_cli.feature_files import read_features, read_vector
from cir_cli.main import run
from tests.cir import messages
from tests.cir.fake_search import FakeSearch, refuse


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    return path


@pytest.fixture
def services(search_service: FakeSearch, monkeypatch: pytest.MonkeyPatch) -> FakeSearch:
    """Embedder and combiner with answers that tell the rows apart; two inputs fit into a call."""
    monkeypatch.setenv("CIR_EMBEDDER", search_service.address)
    monkeypatch.setenv("CIR_COMBINER_SERVICE", search_service.address)
    monkeypatch.setenv("CIR_SERVER", search_service.address)

    def images(request: Any, _context: Any) -> embedder_pb2.EmbedImagesResponse:
        rows = np.array([[1, len(each.content)] for each in request.images], np.float32)
        return embedder_pb2.EmbedImagesResponse(features=pack(rows, fingerprint="clip-1"))

    def texts(request: Any, _context: Any) -> embedder_pb2.EmbedTextsResponse:
        rows = np.array([[2, len(each)] for each in request.texts], np.float32)
        cuts = [
            embedder_pb2.TextCut(index=index, tokens=90, read_tokens=77)
            for index, each in enumerate(request.texts)
            if each == "long"
        ]
        return embedder_pb2.EmbedTextsResponse(features=pack(rows, fingerprint="clip-1"), cuts=cuts)

    def combine(request: Any, _context: Any) -> combiner_pb2.CombineResponse:
        rows = unpack(request.image_features) + unpack(request.text_features)
        return combiner_pb2.CombineResponse(
            query_vectors=pack(rows, fingerprint=request.image_features.model_fingerprint),
            text_weights=[0.5] * len(rows),
            lambdas=[float("nan")] * len(rows),
            combiner=request.combiner or "sum",
        )

    limits = embedder_pb2.EmbedderLimits(max_batch_items=2)
    search_service.answers.update(
        GetEmbedderInfo=embedder_pb2.GetEmbedderInfoResponse(limits=limits),
        EmbedImages=images,
        EmbedTexts=texts,
        Combine=combine,
        ListCombiners=combiner_pb2.ListCombinersResponse(combiners=[combiner_pb2.Combiner(name="slerp")]),
        Search=messages.search_response(messages.item("a")),
    )
    return search_service


@pytest.mark.service
def test_more_inputs_than_fit_into_a_call_are_embedded_in_order(
    services: FakeSearch, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "v.npy"
    words = ["-t", "a", "-t", "bb", "-t", "long", "-t", "dddd", "-t", "eeeee"]
    assert run(["embed", *["-i", str(image)] * 3, *words, "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    size = float(image.stat().st_size)
    assert document["vectors"] == [[1.0, size]] * 3 + [[2.0, length] for length in (1, 2, 4, 4, 5)]
    assert document["model_fingerprint"] == "clip-1"
    assert document["inputs"][2:4] == [{"image": str(image)}, {"text": "a"}]
    assert document["cut_texts"] == [{"text": "long", "tokens": 90, "read_tokens": 77}]
    assert np.load(out).tolist() == document["vectors"]
    assert np.load(out).dtype == np.float32
    assert run(["embed", "-t", "long"]) == 0
    shown = capsys.readouterr().out
    assert "2.000 4.000" in shown
    assert "'long' has 90 tokens, and the model reads 77" in shown


@pytest.mark.service
def test_one_input_that_fails_leaves_no_file(
    services: FakeSearch, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = errors_pb2.ItemError(index=0, message="the image is broken", code=3)
    rows = pack(np.full((1, 2), np.nan, np.float32), fingerprint="clip-1")
    services.answers["EmbedImages"] = embedder_pb2.EmbedImagesResponse(features=rows, errors=[error])
    out = tmp_path / "v.npy"
    assert run(["embed", "-i", str(image), "-t", "x", "--out", str(out)]) == 1
    assert capsys.readouterr().err == f"cir: {image}: the image is broken\n"
    assert not out.exists()
    assert run(["embed"]) == 2
    assert run(["embed", "-t", "x", "--out", str(tmp_path / "none" / "v.npy")]) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.service
def test_features_are_combined_and_searched_for(
    services: FakeSearch, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_images, of_texts = tmp_path / "i.json", tmp_path / "t.npy"
    assert run(["embed", "-i", str(image), "--json"]) == 0
    of_images.write_text(capsys.readouterr().out)
    assert run(["embed", "-t", "red", "--out", str(of_texts)]) == 0
    query = tmp_path / "q.npy"
    command = ["combine", "--image-features", str(of_images), "--text-features", str(of_texts)]
    capsys.readouterr()
    assert run([*command, "--text-weight", "0.5", "--out", str(query), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["combiner"], document["model_fingerprint"]) == ("sum", "clip-1")
    assert (document["text_weights"], document["lambdas"]) == ([0.5], [None])
    assert document["vectors"] == [[3.0, image.stat().st_size + 3.0]]
    assert services.requests[-1].text_weight == 0.5
    assert run([*command]) == 0
    assert "by sum" in capsys.readouterr().out
    assert run(["search", "shop", "--features", str(query), "--text", "longer"]) == 0
    [turn] = services.requests[-1].turns
    assert unpack(turn.reference.features).tolist() == document["vectors"]


@pytest.mark.service
def test_combiners_that_are_not_there_or_answer_with_words(
    services: FakeSearch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "f.npy"
    np.save(path, np.ones((1, 2), np.float32))
    command = ["combine", "--image-features", str(path), "--text-features", str(path)]
    services.answers["Combine"] = combiner_pb2.CombineResponse(
        word_embeddings=pack(np.ones((1, 3), np.float32)), template="a photo of $", combiner="inversion/x"
    )
    assert run(command) == 1
    assert "inversion/x answers with words" in capsys.readouterr().err
    missing = refuse(grpc.StatusCode.NOT_FOUND, "no combiner 'slrp'", reason="COMBINER_NOT_FOUND")
    services.answers["Combine"] = missing
    assert run([*command, "--combiner", "slrp"]) == 1
    assert capsys.readouterr().err == "cir: no combiner 'slrp'; did you mean 'slerp'?\n"


def test_without_an_address_or_services_that_are_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CIR_EMBEDDER", raising=False)
    assert run(["embed", "-t", "x", "--data", str(tmp_path)]) == 1
    assert f"nothing is up on {tmp_path}; " in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    for command in (["embed", "-t", "x"], ["index", "shop", "."], ["catalogs", "verify", "shop"]):
        assert run([*command, "--data", "here"]) == 1
        said = capsys.readouterr().err
        assert f"nothing is up on {tmp_path / 'here'}; " in said
        assert "--data FOLDER (or CIR_DATA)" in said


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"", "holds no features"),
        ("a.npy", b"\x93NUMPY", "holds no features"),
        ("a.npy", b"PK\x03\x04", "holds no features"),
        ("a.json", b"[1, 2]", "holds no features"),
        ("a.json", b'{"vectors": [[1, 2]]}', "holds no features: 'model_fingerprint'"),
        ("a.json", b'{"model_fingerprint": 3, "vectors": [[1]]}', "no text"),
        ("a.json", b'{"model_fingerprint": "", "vectors": [["a"]]}', "not numbers"),
        ("a.json", b'{"model_fingerprint": "", "vectors": [[1], [1, 2]]}', "holds no features"),
        ("a.json", b'{"model_fingerprint": "", "vectors": []}', "not numbers|has the shape"),
        ("a.json", b'{"model_fingerprint": "", "vectors": [[[1]]]}', "has the shape"),
        ("a.json", b"[" * 100_000, "holds no features"),
        ("a.json", b"\xff", "holds no features"),
    ],
)
def test_files_that_hold_no_features(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(Failure, match=message):
        read_features(path)


def test_a_search_starts_from_one_row(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.ones(3))
    assert read_vector(path).values.tolist() == [1, 1, 1]
    np.save(path, np.ones((2, 3)))
    with pytest.raises(Failure, match="has 2 rows; expected one"):
        read_vector(path)
    with pytest.raises(Failure, match="cannot be read: No such file"):
        read_vector(tmp_path / "none.npy")
