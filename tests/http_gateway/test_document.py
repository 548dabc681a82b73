"""The calls of docs/http.md, made by curl as they stand there."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import pytest
from PIL import Image

from cir_cli.local.readiness import free_ports
from http_gateway.app import Gateway
from http_gateway.settings import GatewaySettings
from tests.search_service.conftest import Stack
from tests.service_runtime.test_http_server import served
from tests.service_runtime.test_observability import scrape

DOCUMENT = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
CALLS = re.findall(r"^curl (?:[^\n]*\{\n.*?^\}'|[^\n]*)$", DOCUMENT, re.MULTILINE | re.DOTALL)


@pytest.mark.service
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_calls_of_the_document_are_answered(stack: Stack, tmp_path: Path) -> None:
    assert len(CALLS) == DOCUMENT.count("curl ") > 4
    Image.new("RGB", (20, 30), "red").save(tmp_path / "dress.jpg")

    def curl(call: str) -> Any:
        command = f"set -e; {call} --silent --show-error --fail-with-body --noproxy '*'"
        done = subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 0, (call, done.stdout, done.stderr)
        return json.loads(done.stdout)

    async with (
        grpc.aio.insecure_channel(stack.address) as search,
        grpc.aio.insecure_channel(stack.embedder_address) as embedder,
    ):
        application = Gateway(GatewaySettings(), search, embedder).application()
        metrics = free_ports(1)[0]
        async with (
            served(application, metrics_port=metrics) as (port, _),
            httpx.AsyncClient(trust_env=False) as web,
        ):
            at = f"localhost:{port}"
            dress = {"item": {"id": "dress-17", "payload": {"price": 40}}, "content": "aGVsbG8="}
            url = f"http://127.0.0.1:{port}/v1/catalogs/shop/items:batchUpsert"
            (await web.post(url, json={"items": [dress]})).raise_for_status()
            answers = [await asyncio.to_thread(curl, call.replace("localhost:8081", at)) for call in CALLS]
            counted = await asyncio.to_thread(scrape, metrics)
    assert [next(iter(answer)) for answer in answers] == ["results", "results", "written", "id", "object"]
    assert len(answers[0]["results"]) == 10
    for call, number in (("/cir.search.v1.SearchService/Search", 2), ("embeddings", 1)):
        assert counted[("cir_http_requests_total", (("route", call), ("status", "200")))] == number
