"""Public names of the client, which `cir` has as its own."""

from cir.answer_html import show_images_below
from cir.async_client import AsyncClient
from cir.channel import TlsFiles
from cir.client import Client
from cir.create import IndexSettings
from cir.errors import (
    Aborted,
    AlreadyExists,
    CirError,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Overloaded,
    PermissionDenied,
    RateLimited,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from cir.feature_calls import Combined, Combiner, Embedded, EmbedderInfo, TextCut
from cir.filters import Exists, Filter, GeoRadius, HasId, MatchAny, MatchText, Range
from cir.imports import Imported
from cir.items import ItemUpdate, ItemWrite
from cir.models import (
    Catalog,
    Explanation,
    FacetCount,
    Item,
    ItemError,
    Items,
    ModelInfo,
    Result,
    SearchAnswer,
    SearchInfo,
    Timings,
    TurnExplanation,
    Updated,
    Version,
    Written,
)
from cir.payload import GeoPoint
from cir.requests import Page
from cir.requests import search as query
from cir.tables.frames import FrameItems
from cir.tables.results import to_arrow, to_pandas, to_polars
from cir.turns import Turn
from cir.uploads import Uploaded
from cir.vectors import Features

__all__ = [
    "Aborted",
    "AlreadyExists",
    "AsyncClient",
    "Catalog",
    "CirError",
    "Client",
    "Combined",
    "Combiner",
    "DeadlineExceeded",
    "Embedded",
    "EmbedderInfo",
    "Exists",
    "Explanation",
    "FacetCount",
    "FailedPrecondition",
    "Features",
    "Filter",
    "FrameItems",
    "GeoPoint",
    "GeoRadius",
    "HasId",
    "Imported",
    "IndexSettings",
    "InvalidArgument",
    "Item",
    "ItemError",
    "ItemUpdate",
    "ItemWrite",
    "Items",
    "MatchAny",
    "MatchText",
    "ModelInfo",
    "NotFound",
    "Overloaded",
    "Page",
    "PermissionDenied",
    "Range",
    "RateLimited",
    "ResourceExhausted",
    "Result",
    "SearchAnswer",
    "SearchInfo",
    "TextCut",
    "Timings",
    "TlsFiles",
    "Turn",
    "TurnExplanation",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Updated",
    "Uploaded",
    "Version",
    "Written",
    "query",
    "show_images_below",
    "to_arrow",
    "to_pandas",
    "to_polars",
]
