"""A search service that answers what a test tells it to, over real gRPC on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from cir.combiner.v1 import combiner_pb2_grpc
from cir.embedder.v1 import embedder_pb2_grpc
from cir.search.v1 import catalog_pb2_grpc, search_pb2_grpc

Answer = Message | Callable[[Any, grpc.ServicerContext], Message]


@dataclass
class FakeSearch:
    """`answers` by method name; `requests` and `metadata` are what came in, oldest first."""

    address: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, str | bytes]] = field(default_factory=list)

    def answer(self, method: str, request: Any, context: grpc.ServicerContext) -> Message:
        """Note the request and answer it."""
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if method not in self.answers:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the test has no answer for {method}")
        answer = self.answers[method]
        return answer(request, context) if callable(answer) else answer


@contextmanager
def fake_search(port: int = 0) -> Iterator[FakeSearch]:
    """Serve until the block ends; all services of the contract answer from one table."""
    fake = FakeSearch()
    server = grpc.server(ThreadPoolExecutor(4))
    search_pb2_grpc.add_SearchServiceServicer_to_server(
        _servicer(fake, search_pb2_grpc.SearchServiceServicer), server
    )
    catalog_pb2_grpc.add_CatalogServiceServicer_to_server(
        _servicer(fake, catalog_pb2_grpc.CatalogServiceServicer), server
    )
    embedder_pb2_grpc.add_EmbedderServiceServicer_to_server(
        _servicer(fake, embedder_pb2_grpc.EmbedderServiceServicer), server
    )
    combiner_pb2_grpc.add_CombinerServiceServicer_to_server(
        _servicer(fake, combiner_pb2_grpc.CombinerServiceServicer), server
    )
    fake.address = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    server.start()
    try:
        yield fake
    finally:
        server.stop(None).wait()


def refuse(
    code: grpc.StatusCode,
    message: str,
    *,
    reason: str = "",
    field: str = "",
    retry_after: float | None = None,
    domain: str = "cir",
) -> Callable[[Any, grpc.ServicerContext], Message]:
    """An answer that ends the call with google.rpc details."""
    details: list[Message] = []
    if reason:
        details.append(error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata={"limit": "3"}))
    if field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=message)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(retry_after * 1e9))
        details.append(retry)
    status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)

    def answer(_request: Any, context: grpc.ServicerContext) -> Message:
        trailing = rpc_status.to_status(status).trailing_metadata
        context.set_trailing_metadata((*trailing, ("x-request-id", "r-1")))
        context.abort(code, message)
        raise AssertionError("abort raises")

    return answer


def _servicer(fake: FakeSearch, base: type) -> Any:
    """A servicer all of whose methods ask the fake."""

    def bind(name: str) -> Callable[..., Message]:
        def method(_self: object, request: Any, context: grpc.ServicerContext) -> Message:
            return fake.answer(name, request, context)

        return method

    names = [name for name in vars(base) if not name.startswith("_")]
    return type("Fake", (base,), {name: bind(name) for name in names})()
