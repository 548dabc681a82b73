"""`cir doctor` and `cir_cli.doctor` against services on loopback."""

from __future__ import annotations

import json
import os
from pathlib import Path

import grpc
import pytest

from cir.combiner.v1 import combiner_pb2
from cir.common.v1.model_pb2 import ModelInfo
from cir.embedder.v1 import embedder_pb2
from cir.search.v1 import catalog_pb2, search_pb2
from cir_cli import doctor
from cir_cli.doctor import Finding, services
from cir_cli.local import up_file
from cir_cli.local.up_file import UpFile
from cir_cli.main import run
from tests.cir import messages
from tests.cir.fake_search import FakeSearch, refuse

pytestmark = pytest.mark.service


@pytest.fixture(autouse=True)
def answers(search_service: FakeSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    # The stand-in has no health service.
    monkeypatch.setattr("cir_cli.doctor.is_serving", lambda *_, **__: True)
    model = ModelInfo(fingerprint="clip-1", architecture="ViT-B-32", device="cpu", dtype="bfloat16")
    search_service.answers.update(
        GetSearchInfo=search_pb2.GetSearchInfoResponse(
            combiners=["sum", "joint/garments"],
            model=model,
            dependencies={"embedder": "ok", "store": "ok"},
            store={"engine": "qdrant-edge"},
        ),
        GetEmbedderInfo=embedder_pb2.GetEmbedderInfoResponse(model=model),
        ListCombiners=combiner_pb2.ListCombinersResponse(combiners=[combiner_pb2.Combiner(name="sum")]),
        ListCatalogs=catalog_pb2.ListCatalogsResponse(
            catalogs=[messages.catalog(), catalog_pb2.Catalog(name="catalogs/new")]
        ),
    )


def findings(fake: FakeSearch) -> dict[str, Finding]:
    found = services(fake.address, embedder=fake.address, combiner=fake.address, timeout=10)
    return {finding.name: finding for finding in found}


def test_all_is_well(search_service: FakeSearch) -> None:
    found = findings(search_service)
    assert all(finding.ok is not False for finding in found.values())
    assert "cpu in bfloat16" in found["embedder"].text
    assert found["model"].ok
    assert found["catalog shop"].ok
    assert found["catalog new"].ok is None
    assert "sum" in found["combiner"].text
    assert "joint/garments" in found["combiners"].text


def test_a_catalog_of_another_model_is_wrong(search_service: FakeSearch) -> None:
    other = messages.catalog()
    other.published.model_fingerprint = "clip-2"
    search_service.answers["ListCatalogs"] = catalog_pb2.ListCatalogsResponse(catalogs=[other])
    finding = findings(search_service)["catalog shop"]
    assert finding.ok is False
    assert "clip-2" in finding.text
    assert "clip-1" in finding.text


def test_a_catalog_of_other_pixels_is_told_with_what_differs_and_what_to_do(
    search_service: FakeSearch,
) -> None:
    catalog = messages.catalog()
    catalog.published.model_fingerprint = "clip-2"
    catalog.published.model.clear()
    catalog.published.model.update(
        {"architecture": "PE-Core-T-16-384", "mean": "0.5, 0.5, 0.5", "dtype": "float32"}
    )
    model = ModelInfo(
        fingerprint="clip-1", architecture="PE-Core-T-16-384", mean=[0.5] * 3, std=[0.5] * 3,
        dtype="bfloat16", interpolation="bilinear", resize_mode="squash", image_size=384,
    )  # fmt: skip
    search_service.answers["ListCatalogs"] = catalog_pb2.ListCatalogsResponse(catalogs=[catalog])
    search_service.answers["GetEmbedderInfo"] = embedder_pb2.GetEmbedderInfoResponse(model=model)
    search_service.answers["GetSearchInfo"] = search_pb2.GetSearchInfoResponse(model=model)
    found = findings(search_service)
    text = found["catalog shop"].text
    assert "resize mode shortest instead of squash, interpolation bicubic instead of bilinear" in text
    assert "cir index shop SOURCE" in text
    assert "float32" not in text
    assert "squash, bilinear, mean 0.5,0.5,0.5, std 0.5,0.5,0.5" in found["images"].text


def test_search_with_another_embedder_is_wrong(search_service: FakeSearch) -> None:
    search_service.answers["GetEmbedderInfo"] = embedder_pb2.GetEmbedderInfoResponse(
        model=ModelInfo(fingerprint="clip-3")
    )
    assert findings(search_service)["model"].ok is False


def test_what_is_away_or_unusable_is_wrong(search_service: FakeSearch) -> None:
    search_service.answers["GetEmbedderInfo"] = refuse(
        grpc.StatusCode.UNAVAILABLE, "starting", reason="NOT_READY"
    )
    search_service.answers["GetSearchInfo"] = search_pb2.GetSearchInfoResponse(
        dependencies={"embedder": "cannot be reached"}
    )
    search_service.answers["ListCombiners"] = combiner_pb2.ListCombinersResponse(
        combiners=[combiner_pb2.Combiner(name="combiner/x", problem="damaged")]
    )
    found = findings(search_service)
    assert found["embedder"] == Finding("embedder", "starting", ok=False)
    assert found["search -> embedder"].ok is False
    assert found["combiner/x"].ok is False
    assert found["catalog shop"].ok is None


def test_the_command_fails_when_something_is_wrong(
    search_service: FakeSearch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", "--server", search_service.address, "--data", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "python" in printed
    assert "ok    search" in printed
    assert run(["doctor", "--server", "127.0.0.1:1", "--data", str(tmp_path), "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["findings"][-1]["ok"] is False
    assert "checks failed: search" in captured.err


@pytest.mark.parametrize(
    ("server", "same"),
    [
        ("127.0.0.1:1", True),
        ("dns:127.0.0.1:1", True),
        ("localhost:1", True),
        ("127.0.0.1:2", False),
        ("[::1]:1", False),
        ("search:1", False),
        ("unix:/run/cir.sock", False),
    ],
)
def test_the_services_that_are_up_are_known_in_any_spelling(tmp_path: Path, server: str, same: bool) -> None:
    up = UpFile(os.getpid(), "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "edge:///x", "RN50", "openai")
    with up_file.claim(tmp_path):
        up_file.write(tmp_path, up)
        assert doctor._local(tmp_path, server) == (up if same else None)
