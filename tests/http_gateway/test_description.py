"""The description is true: requests drawn from it are answered as it says, and wrong ones are refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from http_gateway import reference
from tests.http_gateway.conftest import gateway
from tests.search_service.conftest import running_stack

pytestmark = [pytest.mark.service, pytest.mark.slow]

DESCRIPTION: Any = schemathesis.openapi.from_dict(json.loads(reference.openapi_text()))
OPERATIONS = {
    f"{one.method} {one.path}": one for one in (found.ok() for found in DESCRIPTION.get_all_operations())
}
# Of filters, which hold filters, bodies that are wrong take seconds to draw; test_codec.py has some.
DEEP = ("Search", "BatchSearch", "ListItemsByFilter", "FacetItems", "BatchDeleteItems")
CHECKS = (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)
EXAMPLES = int(os.environ.get("CIR_DESCRIPTION_EXAMPLES", "5"))
Ask = Callable[[Any], httpx.Response]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Ask a gateway over a catalog "shop", from a thread of its own."""

    @asynccontextmanager
    async def running() -> Any:
        async with running_stack(Path(tmp_path_factory.mktemp("shop"))) as stack, AsyncExitStack() as cleanup:
            embedder = stack.embedder_address
            yield await gateway(cleanup, stack.address, embedder, max_body_bytes=200_000)

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(running()) as web:

        def send(case: Any) -> httpx.Response:
            sent = case.as_transport_kwargs(base_url="http://gateway")
            if isinstance(sent.get("data"), str | bytes):
                sent["content"] = sent.pop("data")
            names = ("method", "url", "headers", "params", "json", "content", "data", "files")
            known = {name: sent[name] for name in names if sent.get(name) is not None}
            request = web.build_request(**known)
            try:
                request.read()
            except AttributeError:  # a file that is a number, which no form can hold
                reject()
            answer: httpx.Response = portal.call(web.send, request)
            return answer

        yield send


@pytest.mark.parametrize("name", OPERATIONS)
def test_answers_are_those_that_are_described(ask: Ask, name: str) -> None:
    operation = OPERATIONS[name]
    modes = [GenerationMode.POSITIVE]
    if operation.body and not operation.definition.raw["operationId"].startswith(DEEP):
        modes.append(GenerationMode.NEGATIVE)
    drawn = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes))

    @settings(
        max_examples=EXAMPLES,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn, st.booleans())
    def check(case: Any, shop: bool) -> None:
        if shop and case.path_parameters and operation.method != "delete":
            case.path_parameters["catalog"] = "shop"
        answer = ask(case)
        if answer.status_code >= 500:
            assert answer.status_code in (503, 504), answer.text
            assert answer.json()["details"][0]["reason"], answer.text
        case.validate_response(answer, checks=CHECKS)

    check()


def test_the_service_lives_on(ask: Ask) -> None:
    case = OPERATIONS["get /v1/catalogs/{catalog}"].Case(path_parameters={"catalog": "shop"})
    assert ask(case).status_code == 200
