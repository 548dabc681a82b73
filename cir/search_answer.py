"""What a search answers, as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf import duration_pb2

from cir.features import Features, from_batch
from cir.names import last_part
from cir.search.v1 import search_pb2 as pb
from cir.values import Value, from_payload


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One item found. `score` is the cosine to the query, -1 to 1; `rank` counts from 1 over all pages.

    `image` is where the picture is, as the indexer found it; `features` only where asked for.
    """

    id: str
    score: float
    rank: int
    payload: dict[str, Value]
    image: str = ""
    features: Features | None = None


@dataclass(frozen=True, slots=True)
class TurnExplanation:
    """How a turn was taken: `kind` is "text_only", "reference_only", "composed", "continued" or
    "feedback_only"; `text_weight` lies in [0, 1]."""

    kind: str
    text_weight: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """How an answer came about. `combiner` is empty when none was needed; `exact`: every vector compared.

    `unindexed_items`: about how many items no index holds (yet), None where the store does not say.
    `feedback` is "rocchio" or "recommend", empty when no turn had any.
    """

    turns: tuple[TurnExplanation, ...]
    combiner: str
    version: str
    model_fingerprint: str
    exact: bool
    unindexed_items: int | None = None
    feedback: str = ""


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds in each stage inside the search service; None for a stage that did not happen."""

    embed_texts: float | None
    embed_images: float | None
    lookup: float | None
    combine: float | None
    store: float | None
    total: float | None


@dataclass(frozen=True, slots=True, eq=False)
class SearchAnswer:
    """Results, best first, and how they came about; iterates over the results.

    `query_vector` is the composed query, L2-normalised, only where asked for.
    """

    results: tuple[Result, ...]
    next_page_token: str
    explanation: Explanation
    timings: Timings
    query_vector: Features | None = None

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    @classmethod
    def read(cls, response: pb.SearchResponse) -> SearchAnswer:
        """Read the message."""
        return cls(
            results=tuple(_result(result) for result in response.results),
            next_page_token=response.next_page_token,
            explanation=_explanation(response.explanation),
            timings=_timings(response.timings),
            query_vector=from_batch(response.query_vector),
        )


def _result(result: pb.SearchResult) -> Result:
    item = result.item
    return Result(
        id=item.id,
        score=result.score,
        rank=result.rank,
        payload=from_payload(item.payload),
        image=item.image,
        features=from_batch(item.features),
    )


def _explanation(explanation: pb.SearchExplanation) -> Explanation:
    return Explanation(
        turns=tuple(
            TurnExplanation(pb.TurnKind.Name(turn.kind).lower(), turn.text_weight)
            for turn in explanation.turns
        ),
        combiner=explanation.combiner,
        version=last_part(explanation.version),
        model_fingerprint=explanation.model_fingerprint,
        exact=explanation.exact,
        unindexed_items=explanation.unindexed_items if explanation.HasField("unindexed_items") else None,
        feedback=pb.FeedbackMethod.Name(explanation.feedback).lower() if explanation.feedback else "",
    )


def _timings(timings: pb.SearchTimings) -> Timings:
    def seconds(name: str) -> float | None:
        if not timings.HasField(name):  # type: ignore[arg-type]  # the stub lists the names one by one
            return None
        duration: duration_pb2.Duration = getattr(timings, name)
        return duration.ToNanoseconds() / 1e9

    return Timings(**{name: seconds(name) for name in Timings.__dataclass_fields__})
