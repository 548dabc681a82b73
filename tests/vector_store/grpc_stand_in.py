"""A gRPC server with the client's local mode behind it, to exercise the path to a server without one.

It answers the calls that the store makes, through the client's own converters, with the status codes of a
real server. How a real server searches and indexes is not its business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from qdrant_client import AsyncQdrantClient, models
from qdrant_client import grpc as api
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from vector_store.qdrant.catalogs import GIVEN_OUT


class _Refuses:
    """Turns the local mode's errors into status codes.

    What `applies_twice` answers a call again whose first answer was lost on its way.
    """

    def __init__(self, client: AsyncQdrantClient, api_key: str, applies_twice: bool) -> None:
        self.client = client
        self.api_key = api_key
        self.applies_twice = applies_twice

    async def answer(
        self,
        context: grpc.aio.ServicerContext[Any, Any],
        call: Callable[[Any, Any], Awaitable[Any]],
        request: Any,
    ) -> Any:
        sent = dict(context.invocation_metadata() or ())
        try:
            if self.api_key and sent.get("api-key") != self.api_key:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "Invalid API key or JWT")
            if self.applies_twice:
                await call(self, request)
            return await call(self, request)
        except ValueError as error:
            missing = "not found" in str(error)
            code = grpc.StatusCode.NOT_FOUND if missing else grpc.StatusCode.INVALID_ARGUMENT
            await context.abort(code, str(error))


def _serve(call: Callable[[Any, Any], Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def method(self: _Refuses, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        return await self.answer(context, call, request)

    return method


class Root(_Refuses, api.QdrantServicer):
    @_serve
    async def HealthCheck(self, request: Any) -> Any:
        return api.HealthCheckReply(title="stand-in", version="0.0.0")


class Collections(_Refuses, api.CollectionsServicer):
    created: list[Any]

    @_serve
    async def Get(self, request: Any) -> Any:
        info = await self.client.get_collection(request.collection_name)
        return api.GetCollectionInfoResponse(result=RestToGrpc.convert_collection_info(info))

    @_serve
    async def List(self, request: Any) -> Any:
        names = [c.name for c in (await self.client.get_collections()).collections]
        return api.ListCollectionsResponse(collections=[api.CollectionDescription(name=n) for n in names])

    @_serve
    async def Create(self, request: Any) -> Any:
        assert request.HasField("hnsw_config")
        assert request.optimizers_config.indexing_threshold == 0
        if request.collection_name != GIVEN_OUT:
            self.created.append(request)
        await self.client.create_collection(
            request.collection_name,
            vectors_config=GrpcToRest.convert_vectors_config(request.vectors_config),
            metadata=GrpcToRest.convert_payload(request.metadata),
        )
        return api.CollectionOperationResponse(result=True)

    @_serve
    async def Update(self, request: Any) -> Any:
        if request.metadata:
            metadata = GrpcToRest.convert_payload(request.metadata)
            await self.client.update_collection(request.collection_name, metadata=metadata)
        return api.CollectionOperationResponse(result=True)

    @_serve
    async def Delete(self, request: Any) -> Any:
        return api.CollectionOperationResponse(
            result=await self.client.delete_collection(request.collection_name)
        )

    @_serve
    async def UpdateAliases(self, request: Any) -> Any:
        actions = [GrpcToRest.convert_alias_operations(action) for action in request.actions]
        await self.client.update_collection_aliases(change_aliases_operations=actions)
        return api.CollectionOperationResponse(result=True)

    @_serve
    async def ListAliases(self, request: Any) -> Any:
        aliases = (await self.client.get_aliases()).aliases
        return api.ListAliasesResponse(aliases=[RestToGrpc.convert_alias_description(a) for a in aliases])


class Points(_Refuses, api.PointsServicer):
    def __init__(self, client: AsyncQdrantClient, api_key: str, applies_twice: bool) -> None:
        super().__init__(client, api_key, applies_twice)
        self.indexed: list[str] = []

    @_serve
    async def Upsert(self, request: Any) -> Any:
        points = [GrpcToRest.convert_point_struct(point) for point in request.points]
        await self.client.upsert(request.collection_name, points=points)
        return _done()

    @_serve
    async def Delete(self, request: Any) -> Any:
        selector = GrpcToRest.convert_points_selector(request.points)
        await self.client.delete(request.collection_name, points_selector=selector)
        return _done()

    @_serve
    async def UpdateBatch(self, request: Any) -> Any:
        operations = [GrpcToRest.convert_points_update_operation(o) for o in request.operations]
        await self.client.batch_update_points(request.collection_name, update_operations=operations)
        return api.UpdateBatchResponse(result=[_done().result for _ in operations])

    @_serve
    async def Get(self, request: Any) -> Any:
        records = await self.client.retrieve(
            request.collection_name,
            ids=[GrpcToRest.convert_point_id(point_id) for point_id in request.ids],
            with_payload=GrpcToRest.convert_with_payload_interface(request.with_payload),
            with_vectors=GrpcToRest.convert_with_vectors_selector(request.with_vectors),
        )
        return api.GetResponse(result=[RestToGrpc.convert_record(record) for record in records])

    @_serve
    async def Scroll(self, request: Any) -> Any:
        records, following = await self.client.scroll(
            request.collection_name,
            scroll_filter=_filter(request),
            limit=request.limit,
            offset=GrpcToRest.convert_point_id(request.offset) if request.HasField("offset") else None,
            with_payload=GrpcToRest.convert_with_payload_interface(request.with_payload),
            with_vectors=GrpcToRest.convert_with_vectors_selector(request.with_vectors),
        )
        answer = api.ScrollResponse(result=[RestToGrpc.convert_record(record) for record in records])
        if following is not None:
            answer.next_page_offset.CopyFrom(RestToGrpc.convert_extended_point_id(str(following)))
        return answer

    @_serve
    async def Count(self, request: Any) -> Any:
        assert request.exact
        answer = await self.client.count(request.collection_name, count_filter=_filter(request))
        return api.CountResponse(result=RestToGrpc.convert_count_result(answer))

    @_serve
    async def Query(self, request: Any) -> Any:
        query = GrpcToRest.convert_query_points(request)
        assert isinstance(query.query, models.NearestQuery)
        assert query.params is not None
        assert query.params.hnsw_ef
        answer = await self.client.query_points(
            request.collection_name,
            query=query.query,
            query_filter=query.filter,
            limit=query.limit or 10,
            with_payload=query.with_payload or False,
            with_vectors=query.with_vector or False,
        )
        return api.QueryResponse(result=[RestToGrpc.convert_scored_point(point) for point in answer.points])

    @_serve
    async def Facet(self, request: Any) -> Any:
        assert request.exact
        answer = await self.client.facet(
            request.collection_name, request.key, facet_filter=_filter(request), limit=request.limit
        )
        return api.FacetResponse(hits=[RestToGrpc.convert_facet_value_hit(hit) for hit in answer.hits])

    @_serve
    async def CreateFieldIndex(self, request: Any) -> Any:
        self.indexed.append(request.field_name)
        return _done()


def _filter(request: Any) -> models.Filter | None:
    return GrpcToRest.convert_filter(request.filter) if request.HasField("filter") else None


def _done() -> Any:
    return api.PointsOperationResponse(
        result=api.UpdateResult(operation_id=0, status=api.UpdateStatus.Completed)
    )


class StandIn:
    """The running server: `port` for the store, `indexed` the paths of the payload indexes made so far.

    One that `applies_twice` does with every call what a caller does that tries again.
    """

    def __init__(
        self, api_key: str = "", *, tls: grpc.ServerCredentials | None = None, applies_twice: bool = False
    ) -> None:
        self._tls = tls
        self._applies_twice = applies_twice
        self._api_key = api_key
        self._client = AsyncQdrantClient(location=":memory:")
        self.created: list[Any] = []
        self._serve()

    def _serve(self) -> None:
        api_key = self._api_key
        self._server = grpc.aio.server()
        points = Points(self._client, api_key, self._applies_twice)
        root = Root(self._client, api_key, self._applies_twice)
        api.add_QdrantServicer_to_server(root, self._server)  # type: ignore[no-untyped-call]
        collections = Collections(self._client, api_key, self._applies_twice)
        collections.created = self.created
        api.add_CollectionsServicer_to_server(collections, self._server)  # type: ignore[no-untyped-call]
        api.add_PointsServicer_to_server(points, self._server)  # type: ignore[no-untyped-call]
        self.indexed = points.indexed

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> None:
        address = f"{host}:{port}"
        if self._tls is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, self._tls)
        await self._server.start()

    async def restart(self, away_s: float) -> None:
        """Go away for some seconds and come back."""
        await self.go_away()
        await asyncio.sleep(away_s)
        await self.come_back()

    async def go_away(self) -> None:
        """Break every connection; what was applied stays, whether it was answered for or not."""
        await self._server.stop(None)

    async def come_back(self) -> None:
        """Serve again, at the same port and with the same data."""
        self._serve()
        await self.start(self.port)

    async def stop(self) -> None:
        await self._server.stop(None)
        await self._client.close()
