"""Answers of the search service as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc
from google.protobuf import duration_pb2

from cir.common.v1 import errors_pb2, model_pb2
from cir.enum_names import short_name
from cir.payload import Value, from_payload, from_value
from cir.search.v1 import catalog_pb2, search_pb2
from cir.tables import results
from cir.vectors import Features, from_batch


def catalog_name(catalog: str) -> str:
    """`catalogs/{catalog}`."""
    return f"catalogs/{catalog}"


def version_name(catalog: str, version: str) -> str:
    """`catalogs/{catalog}/versions/{version}`."""
    return f"catalogs/{catalog}/versions/{version}"


def item_name(catalog: str, item_id: str) -> str:
    """`catalogs/{catalog}/items/{item}`; the id goes in as it is, slashes included."""
    return f"catalogs/{catalog}/items/{item_id}"


def last_part(name: str) -> str:
    """The short name: what follows the last slash. Not for items, whose ids may have slashes."""
    return name.rpartition("/")[2]


_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a catalog. `state`: "building", "ready", "published" or "retired".

    `schema` maps payload fields to "keyword", "integer", "float", "bool", "datetime", "geo" or "text";
    `model` has facts about the model, for people. `image_folders` are the folders, on the indexer's machine,
    that its images were found in. `image_length` is the mean length of its raw features when it was finished;
    None where it had no items then, or is older than this number.
    """

    name: str
    state: str
    item_count: int
    created: datetime
    model_fingerprint: str
    dimension: int
    schema: dict[str, str]
    model: dict[str, str]
    image_folders: tuple[str, ...] = ()
    image_length: float | None = None

    @classmethod
    def read(cls, message: catalog_pb2.CatalogVersion) -> Version:
        """Read the message."""
        return cls(
            name=last_part(message.name),
            state=short_name(catalog_pb2.VersionState.DESCRIPTOR, message.state),
            item_count=message.item_count,
            created=message.create_time.ToDatetime(tzinfo=UTC),
            model_fingerprint=message.model_fingerprint,
            dimension=message.dimension,
            schema={
                name: short_name(catalog_pb2.FieldType.DESCRIPTOR, message.schema[name])
                for name in sorted(message.schema)
            },
            model={name: message.model[name] for name in sorted(message.model)},
            image_folders=tuple(message.image_folders),
            image_length=message.image_length if message.HasField("image_length") else None,
        )


@dataclass(frozen=True, slots=True)
class Catalog:
    """A named collection of items; `published` is None while nothing was published in it."""

    name: str
    published: Version | None

    @classmethod
    def read(cls, message: catalog_pb2.Catalog) -> Catalog:
        """Read the message."""
        published = Version.read(message.published) if message.HasField("published") else None
        return cls(last_part(message.name), published)


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One item. `image` is where its image is; `features` (raw) only where asked for."""

    id: str
    payload: dict[str, Value]
    image: str = ""
    features: Features | None = None

    @classmethod
    def read(cls, message: catalog_pb2.Item) -> Item:
        """Read the message."""
        return cls(message.id, from_payload(message.payload), message.image, from_batch(message.features))


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """Items by id, in the order asked for, and the ids that do not exist."""

    found: tuple[Item, ...]
    missing: tuple[str, ...]

    @classmethod
    def read(cls, message: catalog_pb2.BatchGetItemsResponse) -> Items:
        """Read the message."""
        return cls(tuple(Item.read(item) for item in message.items), tuple(message.missing_ids))


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one item of a batch failed: its place in the request, and what a call of its own would raise."""

    index: int
    item_id: str
    code: grpc.StatusCode
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Written:
    """The number of items written, and why the others were not."""

    written: int
    errors: tuple[ItemError, ...]

    @classmethod
    def read(cls, message: catalog_pb2.BatchUpsertItemsResponse) -> Written:
        """Read the message."""
        return cls(message.written, tuple(read_item_error(error) for error in message.errors))


@dataclass(frozen=True, slots=True)
class Updated:
    """The number of changes carried out, and why the others were not."""

    updated: int
    errors: tuple[ItemError, ...]

    @classmethod
    def read(cls, message: catalog_pb2.BatchUpdateItemsResponse) -> Updated:
        """Read the message."""
        return cls(message.updated, tuple(read_item_error(error) for error in message.errors))


@dataclass(frozen=True, slots=True)
class FacetCount:
    """One value of a field and how many items have it."""

    value: Value
    count: int


def read_facets(message: catalog_pb2.FacetItemsResponse) -> dict[str, list[FacetCount]]:
    """Values by field, most frequent first."""
    return {
        facet.field: [FacetCount(from_value(entry.value), entry.count) for entry in facet.values]
        for facet in message.facets
    }


def read_item_error(error: errors_pb2.ItemError) -> ItemError:
    """Read the message."""
    known = error.reason in errors_pb2.ErrorReason.values()
    return ItemError(
        index=error.index,
        item_id=error.item_id,
        code=_CODES.get(error.code, grpc.StatusCode.UNKNOWN),
        reason=errors_pb2.ErrorReason.Name(error.reason) if known else str(int(error.reason)),
        message=error.message,
    )


@dataclass(frozen=True, slots=True)
class ResultExplanation:
    """Fit of a result: its cosines to the text and to the image of the last turn, None where it has none.

    `changed` and `kept` are the payload fields with another value than the reference's and with the same.
    """

    text_similarity: float | None
    image_similarity: float | None
    changed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One item found. `score` is the cosine to the query, -1 to 1; `rank` counts from 1 over all pages.

    `image` is where the image is, as the indexer found it; `features` and `explanation` only where asked for.
    """

    id: str
    score: float
    rank: int
    payload: dict[str, Value]
    image: str = ""
    features: Features | None = None
    explanation: ResultExplanation | None = None


@dataclass(frozen=True, slots=True)
class Contribution:
    """Shares of image and text in the query of a turn: how far, in 1 - cosine, each moved it.

    `text_share` is the text's part of both, 0 to 1; `text_moved_little` says that it is below 0.05.
    """

    text_moved: float
    image_moved: float
    text_share: float
    text_moved_little: bool


@dataclass(frozen=True, slots=True)
class TurnExplanation:
    """The way a turn was taken: `kind` is "text_only", "reference_only", "composed", "continued" or
    "feedback_only".

    `network_lambda` is the network's, where it is a share of text against image, else None. Where the text is
    longer than what the model reads, `text_tokens` is its length and `read_tokens` that of the beginning that
    was read; else both are 0. `contribution` is there where it was asked for, for turns that were combined.
    """

    kind: str
    network_lambda: float | None = None
    text_tokens: int = 0
    read_tokens: int = 0
    contribution: Contribution | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The way an answer came about. `combiner` is empty when none was needed; `exact`: every vector compared.

    `unindexed_items`: about how many items no index holds (yet), None where the store does not say.
    `feedback` is "rocchio" or "recommend", empty when no turn had any. `reference` is the item that explained
    results are compared with, None where there is none or it was not asked for.
    """

    turns: tuple[TurnExplanation, ...]
    combiner: str
    version: str
    model_fingerprint: str
    exact: bool
    unindexed_items: int | None = None
    feedback: str = ""
    reference: Item | None = None


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

    def _repr_html_(self) -> str:
        """Return the contact sheet that notebooks show, with the images below `cir.show_images_below`."""
        from cir.answer_html import answer_html  # only where it is shown: it needs Pillow

        return answer_html(self)

    def to_arrow(self, *, fields: Sequence[str] | None = None) -> Any:
        """Return the results as a `pyarrow.Table`: `id`, `rank`, `score`, `image`, the payload, features.

        `fields` are the payload's fields that become columns, by default all.

        Raises:
            InvalidArgument: a field has values that no column can hold together; the message names the rows.
        """
        return results.to_arrow(self, fields=fields)

    def to_pandas(self, *, fields: Sequence[str] | None = None) -> Any:
        """Return the results as a pandas `DataFrame`; columns and errors are those of `to_arrow`."""
        return results.to_pandas(self, fields=fields)

    def to_polars(self, *, fields: Sequence[str] | None = None) -> Any:
        """Return the results as a polars `DataFrame`; columns and errors are those of `to_arrow`."""
        return results.to_polars(self, fields=fields)

    @classmethod
    def read(cls, response: search_pb2.SearchResponse) -> SearchAnswer:
        """Read the message."""
        return cls(
            results=tuple(_result(result) for result in response.results),
            next_page_token=response.next_page_token,
            explanation=_explanation(response.explanation),
            timings=_timings(response.timings),
            query_vector=from_batch(response.query_vector),
        )


def _result(result: search_pb2.SearchResult) -> Result:
    item = result.item
    return Result(
        id=item.id,
        score=result.score,
        rank=result.rank,
        payload=from_payload(item.payload),
        image=item.image,
        features=from_batch(item.features),
        explanation=_result_explanation(result.explanation) if result.HasField("explanation") else None,
    )


def _result_explanation(message: search_pb2.ResultExplanation) -> ResultExplanation:
    return ResultExplanation(
        message.text_similarity if message.HasField("text_similarity") else None,
        message.image_similarity if message.HasField("image_similarity") else None,
        tuple(message.changed_fields),
        tuple(message.kept_fields),
    )


def _turn_explanation(turn: search_pb2.TurnExplanation) -> TurnExplanation:
    contribution = None
    if turn.HasField("contribution"):
        contribution = Contribution(
            turn.contribution.text_moved,
            turn.contribution.image_moved,
            turn.contribution.text_share,
            turn.contribution.text_moved_little,
        )
    return TurnExplanation(
        short_name(search_pb2.TurnKind.DESCRIPTOR, turn.kind),
        turn.network_lambda if turn.HasField("network_lambda") else None,
        turn.text_tokens,
        turn.read_tokens,
        contribution,
    )


def _explanation(explanation: search_pb2.SearchExplanation) -> Explanation:
    return Explanation(
        turns=tuple(_turn_explanation(turn) for turn in explanation.turns),
        combiner=explanation.combiner,
        version=last_part(explanation.version),
        model_fingerprint=explanation.model_fingerprint,
        exact=explanation.exact,
        unindexed_items=explanation.unindexed_items if explanation.HasField("unindexed_items") else None,
        feedback=short_name(search_pb2.FeedbackMethod.DESCRIPTOR, explanation.feedback)
        if explanation.feedback
        else "",
        reference=Item.read(explanation.reference) if explanation.HasField("reference") else None,
    )


def _timings(timings: search_pb2.SearchTimings) -> Timings:
    def seconds(name: str) -> float | None:
        if not timings.HasField(name):  # type: ignore[arg-type]  # the stub lists the names one by one
            return None
        duration: duration_pb2.Duration = getattr(timings, name)
        return duration.ToNanoseconds() / 1e9

    return Timings(**{name: seconds(name) for name in Timings.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """An embedding model and what it runs on; `fingerprint` is its identity.

    `mean`, `std`, `interpolation`, `resize_mode` and `fill` are those of its pixels, `tokenizer`,
    `text_cleaning` and `context_length` (in tokens) those of its texts, as in `cir.common.v1.ModelInfo`;
    `token_width` is the length of an inversion's words, 0 where the text tower takes none.
    """

    fingerprint: str
    architecture: str
    pretrained: str
    dimension: int
    image_size: int
    preprocessing: str
    target_ratio: float
    device: str
    dtype: str
    dtype_cosine: float
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    interpolation: str = ""
    resize_mode: str = ""
    fill: int = 0
    activation: str = ""
    tokenizer: str = ""
    text_cleaning: str = ""
    context_length: int = 0
    token_width: int = 0

    @classmethod
    def read(cls, message: model_pb2.ModelInfo) -> ModelInfo:
        """Read the message."""
        values = {name: getattr(message, name) for name in cls.__dataclass_fields__}
        return cls(**values | {"mean": tuple(message.mean), "std": tuple(message.std)})


def model_facts(model: model_pb2.ModelInfo | ModelInfo) -> dict[str, str]:
    """Return the facts about a model that are kept with what was made by it, for people to compare.

    Features depend on all of them but the dtype. Facts that an older embedder does not state are left out.
    """
    facts = {
        "architecture": model.architecture,
        "pretrained": model.pretrained,
        "preprocessing": model.preprocessing,
        "target_ratio": f"{model.target_ratio:g}",
        "image_size": str(model.image_size),
        "resize_mode": model.resize_mode,
        "interpolation": model.interpolation,
        "mean": ", ".join(f"{value:g}" for value in model.mean),
        "std": ", ".join(f"{value:g}" for value in model.std),
        "activation": model.activation,
        "tokenizer": model.tokenizer,
        "dtype": model.dtype,
    }
    return {name: value for name, value in facts.items() if value}


@dataclass(frozen=True, slots=True)
class SearchInfo:
    """The search service. `model` is None while the embedder is away.

    `weighted_combiners` are those of `combiners` that take a text weight. `catalog_combiners` are those that
    answer searches of a catalog that name none, by catalog, where that is not `default_combiner`.
    `limits` has the limits by name, as in `cir.search.v1.SearchLimits`; `dependencies` maps "embedder",
    "combiner" and "store" to "ok" or to what is wrong; `store` has facts about the vector store.
    """

    limits: dict[str, int]
    model: ModelInfo | None
    combiners: tuple[str, ...]
    default_combiner: str
    dependencies: dict[str, str]
    store: dict[str, str]
    version: str
    weighted_combiners: tuple[str, ...] = ()
    catalog_combiners: dict[str, str] = field(default_factory=dict)

    def default_combiner_of(self, catalog: str) -> str:
        """Return the combiner that answers searches of a catalog that name none."""
        return self.catalog_combiners.get(catalog, self.default_combiner)

    @classmethod
    def read(cls, message: search_pb2.GetSearchInfoResponse) -> SearchInfo:
        """Read the message."""
        return cls(
            limits={
                limit.name: getattr(message.limits, limit.name)
                for limit in search_pb2.SearchLimits.DESCRIPTOR.fields
            },
            model=ModelInfo.read(message.model) if message.HasField("model") else None,
            combiners=tuple(message.combiners),
            default_combiner=message.default_combiner,
            dependencies=dict(message.dependencies),
            store=dict(message.store),
            version=message.version,
            weighted_combiners=tuple(message.weighted_combiners),
            catalog_combiners=dict(message.catalog_combiners),
        )
