"""OpenTelemetry tracing as an option: spans of the calls served and of the calls they make, over OTLP.

The context travels in the W3C `traceparent` metadata, in and out. Without the setting nothing is imported.
Spans leave the process with what the log would say of a call too: `_without_texts`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc.aio

from cir.address import parse_address
from cir.errors import InvalidArgument
from cir.extras import install
from cir.proxy import proxy_options
from service_runtime.errors import StartupError
from service_runtime.settings import software_version

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import SpanContext

# Where collectors listen for OTLP over gRPC.
_OTLP_PORT = 4317
_provider: TracerProvider | None = None


@contextmanager
def tracing(
    service: str, *, endpoint: str, sample_ratio: float, exporter: SpanExporter | None = None
) -> Iterator[None]:
    """Trace while the block lasts: servers and channels opened in it have spans.

    `endpoint` is that of an OTLP collector over gRPC ("http://host:4317"; https encrypts); empty traces
    nothing, unless an `exporter` is given in its place. `sample_ratio` (0 to 1) applies to calls whose
    caller has not decided.

    Raises:
        StartupError: the extra is not installed, or the endpoint names no collector.
    """
    global _provider
    if not endpoint and exporter is None:
        yield
        return
    _provider = _build(service, exporter or _otlp(endpoint), sample_ratio)
    try:
        yield
    finally:
        # Sends what is still held.
        _provider.shutdown()
        _provider = None


def server_interceptors() -> Sequence[grpc.aio.ServerInterceptor]:
    """Return the interceptors that a server puts first; none without tracing."""
    if _provider is None:
        return ()
    from opentelemetry.instrumentation.grpc import aio_server_interceptor, filters

    watched = filters.negate(
        filters.any_of(filters.service_prefix("grpc.health."), filters.service_prefix("grpc.reflection."))
    )
    return (aio_server_interceptor(tracer_provider=_provider, filter_=watched),)


def client_interceptors() -> Sequence[grpc.aio.ClientInterceptor]:
    """Return the interceptors for a channel to another service; none without tracing."""
    if _provider is None:
        return ()
    from opentelemetry.instrumentation.grpc import aio_client_interceptors

    return tuple(aio_client_interceptors(tracer_provider=_provider))


def trace_facts() -> dict[str, Any]:
    """Return the trace id of the call being served, for its log lines; empty without tracing."""
    if _provider is None:
        return {}
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    return {"trace_id": format(context.trace_id, "032x")} if context.is_valid else {}


def _otlp(endpoint: str) -> SpanExporter:
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise _missing(error) from error
    scheme, separator, rest = endpoint.rpartition("://")
    try:
        if scheme not in ("http", "https", "") or (separator and not scheme):
            raise InvalidArgument("expected http:// or https://")
        address = parse_address(rest.partition("/")[0], default_port=_OTLP_PORT)
        options: Any = proxy_options(address)
    except InvalidArgument as error:
        raise StartupError(f"tracing_endpoint {endpoint!r} names no collector: {error.message}") from None
    return OTLPSpanExporter(
        endpoint=f"{scheme or 'http'}://{address}", insecure=scheme != "https", channel_options=options
    )


def _build(service: str, exporter: SpanExporter, sample_ratio: float) -> TracerProvider:
    try:
        import opentelemetry.instrumentation.grpc  # noqa: F401  # missing later would fail each call
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError as error:
        raise _missing(error) from error
    provider = TracerProvider(
        resource=Resource.create({"service.name": service, "service.version": software_version()}),
        sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
        shutdown_on_exit=False,
    )

    class WithoutTexts(BatchSpanProcessor):
        """Hands on what `_without_texts` leaves of each span."""

        def on_end(self, span: ReadableSpan) -> None:
            super().on_end(_without_texts(span))

    provider.add_span_processor(WithoutTexts(exporter))
    return provider


# Attributes that are of the contract, of the outcome, or of the connection.
_ATTRIBUTES = ("rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code", "net.peer.", "server.")


def _without_texts(span: ReadableSpan) -> ReadableSpan:
    """Return a span without messages of errors and refusals, and without texts that a caller chose.

    Those are descriptions of statuses, messages and traces of exceptions, the user agent and the trace state.
    """
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.trace import Status

    def kept(values: Any, names: tuple[str, ...]) -> dict[str, Any]:
        return {name: value for name, value in (values or {}).items() if name.startswith(names)}

    context = span.get_span_context()
    return ReadableSpan(
        name=span.name,
        context=context and _without_state(context),
        parent=span.parent and _without_state(span.parent),
        resource=span.resource,
        attributes=kept(span.attributes, _ATTRIBUTES),
        events=[
            Event(event.name, kept(event.attributes, ("exception.type", "message.")), event.timestamp)
            for event in span.events
        ],
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _without_state(context: SpanContext) -> SpanContext:
    from opentelemetry.trace import SpanContext

    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)


def _missing(error: ImportError) -> StartupError:
    return StartupError(f"tracing_endpoint is set but {error.name} cannot be imported; {install('tracing')}")
