"""One composed query from request to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import grpc.aio
import numpy as np

from cir.common.v1 import errors_pb2
from cir.composers import JOINT_PREFIX
from cir.search.v1 import search_pb2 as pb
from cir.vectors import normalize, pack
from search_service.adapted_combiners import AdaptedCombiners
from search_service.convert import item_message
from search_service.embeddings import Embeddings, SharedEmbeddings
from search_service.explanations import (
    NEUTRAL_TEXT,
    Contribution,
    Neutral,
    begins_with_text,
    compare_payloads,
    contribution,
    rows,
    similarity,
)
from search_service.metrics import StageTimer
from search_service.names import version_name
from search_service.pages import page_bytes, result_messages
from search_service.query import (
    FEEDBACK,
    ComposedQuery,
    FeedbackMethod,
    Pair,
    TextCut,
    TurnFeatures,
    TurnKind,
    Vector,
    answered,
    fold,
)
from search_service.request import ImageReference, SearchQuery, parse_search
from search_service.settings import SearchSettings
from search_service.store import (
    UnindexedItems,
    check_filter_fits,
    check_group_fits,
    open_version,
    version_token,
)
from search_service.turn_features import LookedUp, look_up_turns, run_side_by_side
from search_service.typical_images import TypicalImages
from search_service.upstreams import Combination, CombinerClient, ImageWords
from service_runtime.auth import current_caller
from service_runtime.errors import ServiceError
from service_runtime.fair_room import FairRoom
from service_runtime.interceptor import downstream_timeout
from service_runtime.receive import parse_aside
from vector_store.base import CatalogVersion, VectorStore
from vector_store.types import Item, ScoredItem, VersionSpec

_KINDS = {kind: pb.TurnKind.Value(f"TURN_KIND_{kind.name}") for kind in TurnKind}
_FEEDBACK = {method: pb.FeedbackMethod.Value(f"FEEDBACK_METHOD_{method.name}") for method in FeedbackMethod}

#: Queries that are with the store, or whose answers are built, at a time: more would be no faster. Answers
#: are built one at a time: large ones take milliseconds, and the event loop does other things between two.
ROOM = 16

Context = grpc.aio.ServicerContext[pb.SearchRequest, pb.SearchResponse]


@dataclass(frozen=True, slots=True)
class _Effect:
    """Answer of the combiner about a turn besides the query; `cut` where a sentence was not read whole."""

    network_lambda: float | None
    contribution: Contribution | None
    cut: TextCut | None


@dataclass(frozen=True, slots=True, eq=False)
class _Composed:
    """The composed query and what it came from; `effects` by number of turn, for those that were combined."""

    query: ComposedQuery
    looked_up: LookedUp
    effects: Mapping[int, _Effect]


class SearchHandler:
    """Handler of search requests, over a store, embeddings and a combiner."""

    def __init__(
        self,
        store: VectorStore,
        embeddings: SharedEmbeddings,
        combiner: CombinerClient,
        unindexed: UnindexedItems,
        settings: SearchSettings,
    ) -> None:
        self._store = store
        self._embeddings = embeddings
        self._unindexed = unindexed
        self._combiner = combiner
        self._settings = settings
        self._typical = TypicalImages()
        self._adapted = AdaptedCombiners(combiner)
        self._room = FairRoom(ROOM)
        self._building = FairRoom(1)

    async def handle(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:
        """Answer a request.

        Raises:
            ServiceError: The request cannot be served.
            StoreError: The catalog or version does not exist, or the store cannot be used.
        """
        timer = StageTimer()
        query = await parse_aside(parse_search, request, self._settings)
        return await self.answer(query, context, timer, self._embeddings, page_bytes(self._settings))

    async def close(self) -> None:
        """End what no call waits for."""
        await self._adapted.close()

    async def count_unindexed(self, version: CatalogVersion) -> None:
        """Have the count ready that answers from a version name."""
        await self._unindexed.count(version)

    async def answer(
        self,
        query: SearchQuery,
        context: grpc.aio.ServicerContext[Any, Any],
        timer: StageTimer,
        embeddings: Embeddings,
        max_bytes: int,
    ) -> pb.SearchResponse:
        """Answer a query with results of at most `max_bytes`. Raises as `handle` does."""
        async with open_version(self._store, query.catalog, query.version, created=query.created) as version:
            check_filter_fits(query.where, version.info.spec)
            check_group_fits(query.options.group_by, version.info.spec)
            own = await self._adapted_to(query, version)
            try:
                adapted, query = own, replace(query, combiner=own or query.combiner)
                composed = await self._compose_query(query, version, timer, context, embeddings)
            except ServiceError as error:
                if not own or query.created or error.reason != errors_pb2.COMBINER_NOT_FOUND:
                    raise
                # Taken away since it was listed.
                self._adapted.forget(own)
                adapted, query = "", replace(query, combiner=self._settings.default_combiner)
                composed = await self._compose_query(query, version, timer, context, embeddings)
            async with self._room.hold(current_caller()):
                with timer.stage("store"):
                    # One more than the page holds tells whether there is another page.
                    found = await version.query(
                        composed.query.vector,
                        limit=query.page_size + 1,
                        offset=query.offset,
                        where=query.where,
                        options=query.options,
                    )
                    unindexed = await self._unindexed.count(version)
                async with self._building.hold(current_caller()):
                    response = self._build_response(
                        query, version, composed, found, unindexed, adapted, max_bytes
                    )
        response.timings.CopyFrom(timer.timings())
        return response

    async def _adapted_to(self, query: SearchQuery, version: CatalogVersion) -> str:
        """Return the combiner that was made for the catalog, for a query that names none; "" without one."""
        if query.names_combiner or not query.uses_combiner or not self._settings.adapted_combiners:
            return ""
        if query.created:
            return query.adapted
        return await self._adapted.of(version.info.catalog, version.info.spec.model_fingerprint)

    async def _compose_query(
        self,
        query: SearchQuery,
        version: CatalogVersion,
        timer: StageTimer,
        context: grpc.aio.ServicerContext[Any, Any],
        embeddings: Embeddings,
    ) -> _Composed:
        """Look up what the turns name, and fold them into one query vector."""
        longest = self._settings.call_timeout_seconds
        looked_up = await look_up_turns(
            query.turns,
            version=version,
            embeddings=embeddings,
            timer=timer,
            timeout=downstream_timeout(context, longest),
            neutral_text=query.explains_turns,
        )
        image_length, neutral = None, None
        if query.goes_on_from_text:
            image_length = await self._typical.length(version)
        if looked_up.neutral_text is not None:
            image = await self._typical.of(version)
            neutral = None if image is None else Neutral(image, looked_up.neutral_text)
        effects: dict[int, _Effect] = {}
        spec = version.info.spec

        async def combine(pair: Pair) -> Vector:
            if query.combiner.startswith(JOINT_PREFIX):
                turn = query.turns[pair.turn]
                assert isinstance(turn.reference, ImageReference)  # noqa: S101  # checked in the request
                with timer.stage("combine"):
                    joint = await embeddings.query(
                        query.combiner,
                        turn.reference.content,
                        turn.text,
                        fingerprint=spec.model_fingerprint,
                        dimension=spec.dimension,
                        timeout=downstream_timeout(context, longest),
                    )
                effects[pair.turn] = _Effect(None, None, None)
                return normalize(joint)
            images, texts = rows(pair, neutral)
            with timer.stage("combine"):
                answer = await self._combiner.combine(
                    images,
                    texts,
                    combiner=query.combiner,
                    text_weight=pair.text_weight,
                    fingerprint=spec.model_fingerprint,
                    timeout=downstream_timeout(context, longest),
                )
            cut = None
            if isinstance(answer, ImageWords):
                said = looked_up.turns[pair.turn].words
                sentences = [said] if neutral is None else [said, NEUTRAL_TEXT, said]
                with timer.stage("embed_texts"):
                    answer, cut = await _read(
                        answer,
                        sentences,
                        spec,
                        embeddings,
                        timeout=downstream_timeout(context, longest),
                    )
            gave = contribution(answer.vectors) if neutral is not None else None
            effects[pair.turn] = _Effect(answer.network_lambda, gave, cut)
            vector: Vector = answer.vectors[0]
            return vector

        folding = fold(looked_up.start, looked_up.turns, FEEDBACK[query.feedback], image_length=image_length)
        return _Composed(await answered(folding, combine), looked_up, effects)

    def _build_response(
        self,
        query: SearchQuery,
        version: CatalogVersion,
        composed: _Composed,
        found: list[ScoredItem],
        unindexed: int | None,
        adapted: str,
        max_bytes: int,
    ) -> pb.SearchResponse:
        """Build the answer but its timings. Each field of a `SearchResponse` is filled in here alone."""
        info = version.info
        reference = composed.looked_up.reference if query.explain_results else None
        told = None if reference is None else item_message(replace(reference, features=None), info.spec)

        def explain(item: Item) -> pb.ResultExplanation:
            return _result_explanation(item, composed.query, reference, info.spec)

        response = pb.SearchResponse(
            results=result_messages(
                found[: query.page_size],
                info.spec,
                max_bytes - (told.ByteSize() if told else 0),
                first_rank=query.offset + 1,
                explain=explain if query.explain_results else None,
                with_features=query.with_features,
            ),
            explanation=pb.SearchExplanation(
                turns=_turn_explanations(composed),
                combiner=query.combiner if query.uses_combiner else "",
                version=version_name(info.catalog, info.version),
                model_fingerprint=info.spec.model_fingerprint,
                exact=query.options.exact or (unindexed is not None and unindexed >= info.points),
                unindexed_items=unindexed,
                feedback=_FEEDBACK[query.feedback] if query.has_feedback else pb.FEEDBACK_METHOD_UNSPECIFIED,
            ),
        )
        if told is not None:
            response.explanation.reference.CopyFrom(told)
        end = query.offset + len(response.results)
        if len(found) > len(response.results) and end < self._settings.max_result_window:
            # Further pages are of the same ranking, whatever is adapted meanwhile.
            cursor = f"{end} {adapted}" if adapted else str(end)
            response.next_page_token = version_token(info, cursor).encode(query.digest)
        if query.with_query_vector:
            response.query_vector.CopyFrom(
                pack(composed.query.vector[None, :], fingerprint=info.spec.model_fingerprint)
            )
        return response


def _turn_explanations(composed: _Composed) -> list[pb.TurnExplanation]:
    turns = composed.looked_up.turns
    kinds = [turn.kind for turn in turns]
    return [
        _turn_explanation(turn, composed.effects.get(number), from_text=begins_with_text(kinds, number))
        for number, turn in enumerate(turns)
    ]


def _turn_explanation(turn: TurnFeatures, effect: _Effect | None, *, from_text: bool) -> pb.TurnExplanation:
    cut = (effect.cut if effect else None) or turn.cut
    message = pb.TurnExplanation(
        kind=_KINDS[turn.kind],
        network_lambda=effect.network_lambda if effect else None,
        text_tokens=cut.tokens if cut else 0,
        read_tokens=cut.read_tokens if cut else 0,
    )
    if effect is not None and (gave := effect.contribution) is not None:
        message.contribution.CopyFrom(
            pb.TurnContribution(
                text_moved=gave.text_moved,
                image_moved=gave.image_moved,
                text_share=gave.text_share,
                text_moved_little=gave.text_moved_little and not from_text,
            )
        )
    return message


def _result_explanation(
    item: Item, query: ComposedQuery, reference: Item | None, spec: VersionSpec
) -> pb.ResultExplanation:
    def near(part: Vector | None) -> float | None:
        return None if part is None or item.features is None else similarity(item.features, part)

    changed, kept = (
        ([], []) if reference is None else compare_payloads(item.payload, reference.payload, spec.schema)
    )
    return pb.ResultExplanation(
        text_similarity=near(query.text),
        image_similarity=near(query.image),
        changed_fields=changed,
        kept_fields=kept,
    )


async def _read(
    answer: ImageWords, said: Sequence[str], spec: VersionSpec, embeddings: Embeddings, *, timeout: float
) -> tuple[Combination, TextCut | None]:
    """Let the text tower read the words of an inversion, each in a sentence with its text.

    Returns the queries, and where the first sentence was cut.
    """
    read = await run_side_by_side(
        *(
            embeddings.sentence(
                answer.template,
                text,
                word,
                fingerprint=spec.model_fingerprint,
                dimension=spec.dimension,
                timeout=timeout,
            )
            for text, word in zip(said, answer.words, strict=True)
        )
    )
    return Combination(normalize(np.stack([sentence for sentence, _ in read])), None), read[0][1]
