"""Composed image retrieval: find what looks like this picture, with the change a text describes.

with cir.Client("127.0.0.1:50050") as client:
    for result in client.search("shop", image="dress.jpg", text="in red"):
        print(result.rank, result.score, result.id)
"""

from cir.async_client import AsyncClient
from cir.call import Page
from cir.catalog_answers import Catalog, FacetCount, Item, ItemError, Items, Updated, Version, Written
from cir.channel import TlsFiles
from cir.client import Client
from cir.errors import (
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
from cir.features import Features
from cir.filters import Exists, Filter, GeoRadius, HasId, MatchAny, MatchText, Range
from cir.item_update import ItemUpdate
from cir.item_write import ItemWrite
from cir.search_answer import Explanation, Result, SearchAnswer, Timings, TurnExplanation
from cir.search_info import ModelInfo, SearchInfo
from cir.turn import Turn
from cir.values import GeoPoint

__all__ = [
    "AsyncClient",
    "Catalog",
    "CirError",
    "Client",
    "DeadlineExceeded",
    "Exists",
    "Explanation",
    "FacetCount",
    "FailedPrecondition",
    "Features",
    "Filter",
    "GeoPoint",
    "GeoRadius",
    "HasId",
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
    "Timings",
    "TlsFiles",
    "Turn",
    "TurnExplanation",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Updated",
    "Version",
    "Written",
]
