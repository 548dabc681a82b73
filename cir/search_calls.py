"""Searching, as calls: the arguments of both clients' `search` and `info`."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from cir.call import Call
from cir.errors import InvalidArgument
from cir.features import Features
from cir.filters import Where, to_filter
from cir.images import ImageSource
from cir.names import catalog_name, version_name
from cir.search.v1 import search_pb2 as pb
from cir.search_answer import SearchAnswer
from cir.search_info import SearchInfo
from cir.turn import Turn

_SERVICE = "/cir.search.v1.SearchService"
_FEEDBACK = {"": pb.FEEDBACK_METHOD_UNSPECIFIED, "rocchio": pb.ROCCHIO, "recommend": pb.RECOMMEND}


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
    limit: int = 10,
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
    timeout: float | None = None,
) -> Call[SearchAnswer]:
    """Find the items of a catalog that look like a reference with the change that a text describes.

    The arguments from `image` to `text_weight` are those of `cir.Turn` and describe one turn; `turns`
    are the turns before it, oldest first. The rest:

        combiner: one of the server's, such as "sum" or "combiner/<checkpoint>"; empty: its default.
        where: only items that pass; a dict or the classes of `cir.filters`.
        limit, page_token: results in a page, and `next_page_token` of the page before.
        exact: compare with every vector. ef: breadth of the index search, 0 lets the engine choose.
        score_threshold: leave results with a lower cosine out.
        exclude_references, exclude_disliked, exclude: items that are left out.
        diversity: 0 ranks by similarity alone, towards 1 results differ from each other.
        group_by, group_size: at most so many results for each value of a payload field.
        with_features, with_query_vector: answer with the raw features of results, the composed query.
        version: search this version in place of the published one.
        feedback: how liked and disliked items move the query, "rocchio" (the default) or "recommend".
        timeout: seconds; the client's own by default.

    Raises `InvalidArgument`, `NotFound`, `FailedPrecondition`, `Unavailable`, `Overloaded`,
    `DeadlineExceeded`.
    """
    if feedback not in _FEEDBACK:
        raise InvalidArgument(
            f"feedback is {feedback!r}; it is rocchio or recommend", reason="FIELD_INVALID", field="feedback"
        )
    last = Turn(image, item, features, text, liked, disliked, text_weight).message()
    earlier = [turn.message() for turn in turns]
    request = pb.SearchRequest(
        catalog=catalog_name(catalog),
        turns=[*earlier, last] if last != pb.Turn() else earlier,
        combiner=combiner,
        limit=limit,
        page_token=page_token,
        exclude_references=exclude_references,
        exclude_disliked=exclude_disliked,
        exclude_item_ids=exclude,
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
    )
    if where is not None:
        request.filter.CopyFrom(to_filter(where))
    return Call(f"{_SERVICE}/Search", request, pb.SearchResponse, SearchAnswer.read, timeout)


def info(*, timeout: float | None = None) -> Call[SearchInfo]:
    """The services behind the search service, and the limits that are enforced."""
    return Call(
        f"{_SERVICE}/GetSearchInfo",
        pb.GetSearchInfoRequest(),
        pb.GetSearchInfoResponse,
        SearchInfo.read,
        timeout,
    )
