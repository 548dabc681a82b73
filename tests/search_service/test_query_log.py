"""The log of queries: its lines, its rotation, and a disk that fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cir.search.v1 import catalog_pb2 as catalog_pb
from cir.search.v1 import search_pb2 as pb
from combiner_training.adapt.clicks import read_clicks
from search_service.query_log import QueryLog
from service_runtime.errors import StartupError

RESPONSE = pb.SearchResponse(
    results=[pb.SearchResult(item=catalog_pb.Item(id=name)) for name in ("b", "c")],
    explanation=pb.SearchExplanation(version="catalogs/shop/versions/v0001", combiner="combiner/shop"),
)


def request(*turns: pb.Turn) -> pb.SearchRequest:
    return pb.SearchRequest(parent="catalogs/shop", turns=turns)


def of_item(item: str = "a", text: str = "in red") -> pb.Turn:
    return pb.Turn(reference=pb.Reference(item_id=item), text=text)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_has_items_texts_and_what_was_shown_and_no_image(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "queries.jsonl"
    log = QueryLog(path, 1 << 20)
    log.write(request(of_item()), RESPONSE)
    log.write(
        request(pb.Turn(reference=pb.Reference(image=b"pixels"), text="红色"), of_item("d", "")), RESPONSE
    )
    log.close()

    first, second = lines(path)
    del first["time"]
    assert first == {
        "request_id": "",
        "version": "catalogs/shop/versions/v0001",
        "combiner": "combiner/shop",
        "turns": [{"item": "a", "text": "in red"}],
        "shown": ["b", "c"],
        "reference": "a",
        "text": "in red",
    }
    assert second["turns"] == [{"image": True, "text": "红色"}, {"item": "d"}]
    assert "reference" not in second
    assert "pixels" not in path.read_text(encoding="utf-8")


def test_a_line_with_a_click_is_what_training_reads(tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    log = QueryLog(path, 1 << 20)
    for _ in range(2):
        log.write(request(of_item()), RESPONSE)
    log.close()
    found = lines(path)
    found[0]["clicked"] = "c"
    path.write_text("".join(json.dumps(line) + "\n" for line in found), encoding="utf-8")

    (query,) = read_clicks(path, ("a", "b", "c"), ()).queries
    assert (query.reference, query.texts, query.targets) == ("a", ("in red",), ("c",))
    assert query.group == ("a", "c", "b")


def test_a_full_log_is_renamed_and_no_line_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    log = QueryLog(path, 1024)
    for number in range(6):
        log.write(request(of_item(text=str(number) * 100)), RESPONSE)
    log.close()

    older = lines(tmp_path / "queries.jsonl.1")
    assert [line["text"][0] for line in (*older, *lines(path))] == list("012345")[
        -len(older) - len(lines(path)) :
    ]
    assert (tmp_path / "queries.jsonl.1").stat().st_size <= 1024


def test_a_disk_that_fails_costs_lines_and_no_search(tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    log = QueryLog(path, 1 << 20)
    path.unlink()
    path.mkdir()
    log.write(request(of_item()), RESPONSE)
    log.close()

    assert log.lost == 1


def test_a_log_that_cannot_be_written_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"query_log .* cannot be written"):
        QueryLog(tmp_path, 1024)
