"""Calls as data: what is sent where and how its answer is read. Both clients only carry them out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, ParamSpec, Self, TypeVar

from google.protobuf.message import Message
from numpy.typing import ArrayLike

from cir.channel import MAX_MESSAGE_BYTES
from cir.errors import InvalidArgument
from cir.filters import Where, to_filter
from cir.image_source import ImageSource
from cir.items import ItemUpdate, ItemWrite
from cir.models import (
    Catalog,
    FacetCount,
    Item,
    ItemError,
    Items,
    SearchAnswer,
    SearchInfo,
    Updated,
    Version,
    Written,
    catalog_name,
    item_name,
    read_facets,
    read_item_error,
    version_name,
)
from cir.payload import texts
from cir.search.v1 import catalog_pb2, search_pb2
from cir.turns import Turn
from cir.update_mask import payload_path
from cir.vectors import Features

P = ParamSpec("P")
Answer = TypeVar("Answer", covariant=True)
Entry = TypeVar("Entry", covariant=True)


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """A unary call. `timeout` None takes the client's own."""

    method: str
    request: Message
    response: type[Message]
    read: Callable[[Any], Answer]
    timeout: float | None = None

    @property
    def service(self) -> str:
        """The service that answers: "search", "embedder" or "combiner"."""
        return self.method.split(".")[1]

    def encode(self) -> bytes:
        """The request on the wire.

        Raises:
            InvalidArgument: one that no server would take.
        """
        size = self.request.ByteSize()
        if size > MAX_MESSAGE_BYTES:
            raise InvalidArgument(
                f"the request has {size} bytes, a message at most {MAX_MESSAGE_BYTES}; "
                "send smaller images or fewer items",
                reason="OUT_OF_RANGE",
            )
        return self.request.SerializeToString()

    def decode(self, content: bytes) -> Answer:
        """The answer, read."""
        return self.read(self.response.FromString(content))

    def next_page(self, token: str) -> Self:
        """The same call for the page that `token` names."""
        request: Any = type(self.request)()
        request.CopyFrom(self.request)
        request.page_token = token
        return replace(self, request=request)


def build_call(build: Callable[P, Call[Answer]], *args: P.args, **kwargs: P.kwargs) -> Call[Answer]:
    """Build a call by one of the functions below.

    Raises:
        InvalidArgument: no message can hold the arguments, such as text that is no Unicode or an integer that
            is too large; `TypeError` remains for a value of the wrong type.
    """
    try:
        return build(*args, **kwargs)
    except InvalidArgument:
        raise
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            f"the text {error.object!a:.200} is no valid Unicode and cannot be sent",
            reason="FIELD_INVALID",
        ) from error
    except ValueError as error:
        raise InvalidArgument(f"the request cannot be sent: {error}", reason="FIELD_INVALID") from error


@dataclass(frozen=True, slots=True)
class Page(Generic[Entry]):
    """Part of a long list; `next_page_token` is empty on the last page."""

    entries: Sequence[Entry]
    next_page_token: str = ""


_SERVICE = "/cir.search.v1.SearchService"
_FEEDBACK = {
    "": search_pb2.FEEDBACK_METHOD_UNSPECIFIED,
    "rocchio": search_pb2.FEEDBACK_METHOD_ROCCHIO,
    "recommend": search_pb2.FEEDBACK_METHOD_RECOMMEND,
}


def search(
    catalog: str,
    *,
    image: ImageSource | None = None,
    item: str = "",
    features: Features | ArrayLike | None = None,
    text: str = "",
    liked: Sequence[str] = (),
    disliked: Sequence[str] = (),
    text_weight: float | None = None,
    turns: Sequence[Turn] = (),
    combiner: str = "",
    where: Where = None,
    page_size: int = 10,
    page_token: str = "",
    exact: bool = False,
    ef: int = 0,
    score_threshold: float | None = None,
    exclude_references: bool = True,
    exclude_disliked: bool = True,
    exclude: Sequence[str] = (),
    diversity: float = 0.0,
    group_by: str = "",
    group_size: int = 0,
    with_features: bool = False,
    with_query_vector: bool = False,
    version: str = "",
    feedback: str = "",
    explain_turns: bool = False,
    explain_results: bool = False,
    timeout: float | None = None,
) -> Call[SearchAnswer]:
    """Find the items of a catalog that look like a reference with the change that a text describes.

    The arguments from `image` to `text_weight` are those of `cir.Turn` and describe one turn; `turns`
    are the turns before it, oldest first. The rest:

        combiner: one of the server's, such as "sum" or "combiner/<checkpoint>"; empty: its default.
        where: only items that pass; a dict or the classes of `cir.filters`.
        page_size, page_token: results in a page, and `next_page_token` of the page before.
        exact: compare with every vector. ef: breadth of the index search, 0 lets the engine choose.
        score_threshold: leave results with a lower cosine out.
        exclude_references, exclude_disliked, exclude: items that are left out.
        diversity: 0 ranks by similarity alone, towards 1 results differ from each other.
        group_by, group_size: at most this number of results for each value of a payload field.
        with_features, with_query_vector: answer with the raw features of results, the composed query.
        version: search this version in place of the published one.
        feedback: how liked and disliked items move the query, "rocchio" (the default) or "recommend".
        explain_turns, explain_results: say what image and text gave to each turn, and where each result fits.
        timeout: seconds; the client's own by default.

    Raises:
        InvalidArgument: no server would take the request.
        NotFound: the catalog, or an item that the turns name, does not exist.
        FailedPrecondition: the catalog cannot be searched as it is.
        Unavailable: a service cannot be reached.
        Overloaded: a service has more to do than it can.
        DeadlineExceeded: `timeout` is over.
    """
    if feedback not in _FEEDBACK:
        raise InvalidArgument(
            f"feedback is {feedback!r}; it is rocchio or recommend", reason="FIELD_INVALID", field="feedback"
        )
    last = Turn(image, item, features, text, liked, disliked, text_weight).message()
    earlier = [turn.message() for turn in turns]
    request = search_pb2.SearchRequest(
        parent=catalog_name(catalog),
        turns=[*earlier, last] if last != search_pb2.Turn() else earlier,
        combiner=combiner,
        page_size=page_size,
        page_token=page_token,
        exclude_references=exclude_references,
        exclude_disliked=exclude_disliked,
        exclude_item_ids=texts(exclude, field="exclude"),
        score_threshold=score_threshold,
        exact=exact,
        ef=ef,
        diversity=diversity,
        group_by=group_by,
        group_size=group_size,
        with_features=with_features,
        with_query_vector=with_query_vector,
        pinned_version=version_name(catalog, version) if version else "",
        feedback=_FEEDBACK[feedback],
        explain_turns=explain_turns,
        explain_results=explain_results,
    )
    if where is not None:
        request.filter.CopyFrom(to_filter(where))
    return Call(f"{_SERVICE}/Search", request, search_pb2.SearchResponse, SearchAnswer.read, timeout)


def batch_search(
    queries: Sequence[Call[SearchAnswer]], *, timeout: float | None = None
) -> Call[list[SearchAnswer | ItemError]]:
    """Ask several queries at once, each made by `cir.query` with the arguments of `search`.

    Their texts and images are embedded together. The answers come in the order of the queries; one that
    cannot be answered fails alone, with an `ItemError` in its place.

    Raises:
        InvalidArgument: there are none, or more than the service takes.
    """

    def read(response: search_pb2.BatchSearchResponse) -> list[SearchAnswer | ItemError]:
        return [
            SearchAnswer.read(outcome.response)
            if outcome.HasField("response")
            else read_item_error(outcome.error)
            for outcome in response.outcomes
        ]

    request = search_pb2.BatchSearchRequest()
    for query in queries:
        if not isinstance(query.request, search_pb2.SearchRequest):
            raise InvalidArgument("a query is made by cir.query", reason="FIELD_INVALID", field="queries")
        request.requests.append(query.request)
    return Call(f"{_SERVICE}/BatchSearch", request, search_pb2.BatchSearchResponse, read, timeout)


def info(*, timeout: float | None = None) -> Call[SearchInfo]:
    """The services behind the search service, and the limits that are enforced."""
    return Call(
        f"{_SERVICE}/GetSearchInfo",
        search_pb2.GetSearchInfoRequest(),
        search_pb2.GetSearchInfoResponse,
        SearchInfo.read,
        timeout,
    )


def list_catalogs(
    *, page_size: int = 0, page_token: str = "", timeout: float | None = None
) -> Call[Page[Catalog]]:
    """A page of the catalogs, by name; `page_size` 0 lets the server choose."""

    def read(response: catalog_pb2.ListCatalogsResponse) -> Page[Catalog]:
        return Page([Catalog.read(catalog) for catalog in response.catalogs], response.next_page_token)

    request = catalog_pb2.ListCatalogsRequest(page_size=page_size, page_token=page_token)
    return _call("ListCatalogs", request, catalog_pb2.ListCatalogsResponse, read, timeout)


def catalog(name: str, *, timeout: float | None = None) -> Call[Catalog]:
    """One catalog.

    Raises:
        NotFound: it does not exist.
    """
    request = catalog_pb2.GetCatalogRequest(name=catalog_name(name))
    return _call("GetCatalog", request, catalog_pb2.Catalog, Catalog.read, timeout)


def list_versions(
    catalog: str, *, page_size: int = 0, page_token: str = "", timeout: float | None = None
) -> Call[Page[Version]]:
    """A page of a catalog's versions, newest first."""

    def read(response: catalog_pb2.ListCatalogVersionsResponse) -> Page[Version]:
        return Page([Version.read(version) for version in response.versions], response.next_page_token)

    request = catalog_pb2.ListCatalogVersionsRequest(
        parent=catalog_name(catalog), page_size=page_size, page_token=page_token
    )
    return _call("ListCatalogVersions", request, catalog_pb2.ListCatalogVersionsResponse, read, timeout)


def publish(
    catalog: str, version: str, *, allow_model_change: bool = False, timeout: float | None = None
) -> Call[Catalog]:
    """Make a finished version the one that is searched.

    A version whose model is not the embedder's is refused unless `allow_model_change`.

    Raises:
        NotFound: the version does not exist.
        FailedPrecondition: the state of the version does not allow it.
    """
    request = catalog_pb2.PublishCatalogVersionRequest(
        name=version_name(catalog, version), allow_model_change=allow_model_change
    )
    return _call("PublishCatalogVersion", request, catalog_pb2.Catalog, Catalog.read, timeout)


def rollback(catalog: str, *, timeout: float | None = None) -> Call[Catalog]:
    """Publish again what was published before.

    Raises:
        FailedPrecondition: there is nothing to publish again, or it has no items while the published version
            has some; that one is published by its name.
    """
    request = catalog_pb2.RollbackCatalogRequest(name=catalog_name(catalog))
    return _call("RollbackCatalog", request, catalog_pb2.Catalog, Catalog.read, timeout)


def delete_version(catalog: str, version: str, *, timeout: float | None = None) -> Call[None]:
    """Delete a version that is not published.

    Raises:
        NotFound: the version does not exist.
        FailedPrecondition: the state of the version does not allow it.
    """
    request = catalog_pb2.DeleteCatalogVersionRequest(name=version_name(catalog, version))
    return _call("DeleteCatalogVersion", request, catalog_pb2.DeleteCatalogVersionResponse, _nothing, timeout)


def delete_catalog(catalog: str, *, timeout: float | None = None) -> Call[None]:
    """Delete a catalog with all its versions. There is no way back."""
    request = catalog_pb2.DeleteCatalogRequest(name=catalog_name(catalog))
    return _call("DeleteCatalog", request, catalog_pb2.DeleteCatalogResponse, _nothing, timeout)


def item(
    catalog: str, item_id: str, *, with_features: bool = False, timeout: float | None = None
) -> Call[Item]:
    """One item.

    Raises:
        NotFound: it does not exist.
    """
    request = catalog_pb2.GetItemRequest(name=item_name(catalog, item_id), with_features=with_features)
    return _call("GetItem", request, catalog_pb2.Item, Item.read, timeout)


def items(
    catalog: str, item_ids: Sequence[str], *, with_features: bool = False, timeout: float | None = None
) -> Call[Items]:
    """Up to 1000 items by id."""
    request = catalog_pb2.BatchGetItemsRequest(
        parent=catalog_name(catalog), item_ids=texts(item_ids, field="item_ids"), with_features=with_features
    )
    return _call("BatchGetItems", request, catalog_pb2.BatchGetItemsResponse, Items.read, timeout)


def list_items(
    catalog: str,
    *,
    where: Where = None,
    page_size: int = 0,
    page_token: str = "",
    with_features: bool = False,
    timeout: float | None = None,
) -> Call[Page[Item]]:
    """A page of the items that pass a filter, in an order that stays the same within a version."""

    def read(response: catalog_pb2.ListItemsResponse) -> Page[Item]:
        return Page([Item.read(item) for item in response.items], response.next_page_token)

    request = catalog_pb2.ListItemsRequest(
        parent=catalog_name(catalog),
        page_size=page_size,
        page_token=page_token,
        filter=to_filter(where),
        with_features=with_features,
    )
    return _call("ListItems", request, catalog_pb2.ListItemsResponse, read, timeout)


def upsert(catalog: str, items: Sequence[ItemWrite], *, timeout: float | None = None) -> Call[Written]:
    """Write items into the published version; searches see them at once. Bad items fail alone."""
    request = catalog_pb2.BatchUpsertItemsRequest(
        parent=catalog_name(catalog), items=[item.message() for item in items]
    )
    return _call("BatchUpsertItems", request, catalog_pb2.BatchUpsertItemsResponse, Written.read, timeout)


def update(
    catalog: str,
    items: Sequence[ItemUpdate],
    *,
    fields: Sequence[str] = (),
    timeout: float | None = None,
) -> Call[Updated]:
    """Change payloads and image locations in the published version; nothing is embedded.

    With `fields` these payload fields alone are set, and removed where an item's payload lacks them; image
    locations then stay. Without, each payload that is given replaces the stored one. Bad items fail alone.
    """
    request = catalog_pb2.BatchUpdateItemsRequest(
        parent=catalog_name(catalog), items=[item.message() for item in items]
    )
    request.update_mask.paths.extend(payload_path(field) for field in texts(fields, field="fields"))
    return _call("BatchUpdateItems", request, catalog_pb2.BatchUpdateItemsResponse, Updated.read, timeout)


def delete(catalog: str, item_ids: Sequence[str], *, timeout: float | None = None) -> Call[int]:
    """Delete items of the published version; answers how many existed."""
    request = catalog_pb2.BatchDeleteItemsRequest(
        parent=catalog_name(catalog), item_ids=texts(item_ids, field="item_ids")
    )
    return _call("BatchDeleteItems", request, catalog_pb2.BatchDeleteItemsResponse, _deleted, timeout)


def delete_where(
    catalog: str, where: Where, *, validate_only: bool = False, timeout: float | None = None
) -> Call[int]:
    """Delete all items of the published version that pass a filter; answers how many did.

    A filter without conditions is refused (`InvalidArgument`). With `validate_only` nothing is deleted.
    """
    request = catalog_pb2.BatchDeleteItemsRequest(
        parent=catalog_name(catalog), filter=to_filter(where), validate_only=validate_only
    )
    return _call("BatchDeleteItems", request, catalog_pb2.BatchDeleteItemsResponse, _deleted, timeout)


def facets(
    catalog: str, fields: Sequence[str], *, where: Where = None, limit: int = 0, timeout: float | None = None
) -> Call[dict[str, list[FacetCount]]]:
    """The commonest values of keyword, integer or bool fields among the items that pass a filter."""
    request = catalog_pb2.FacetItemsRequest(
        parent=catalog_name(catalog),
        fields=texts(fields, field="fields"),
        limit=limit,
        filter=to_filter(where),
    )
    return _call("FacetItems", request, catalog_pb2.FacetItemsResponse, read_facets, timeout)


def _call(
    method: str, request: Message, response: type[Message], read: Any, timeout: float | None
) -> Call[Answer]:
    return Call(f"/cir.search.v1.CatalogService/{method}", request, response, read, timeout)


def _deleted(response: catalog_pb2.BatchDeleteItemsResponse) -> int:
    return response.deleted


def _nothing(_response: Message) -> None:
    return None
