"""Methods of the blocking client, one for each call. Written by scripts/generate_client.py; do not edit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from numpy.typing import ArrayLike

from cir import create, feature_calls, requests
from cir.create import IndexSettings
from cir.feature_calls import Combined, Combiner, Embedded, EmbedderInfo
from cir.filters import Where
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
)
from cir.requests import Call, Page, build_call
from cir.turns import Turn
from cir.vectors import Features

Answer = TypeVar("Answer")
Paged = TypeVar("Paged", bound="Page[Any] | SearchAnswer")


class ClientMethods(ABC):
    """The calls as methods; a client says how one is carried out."""

    @abstractmethod
    def run(self, call: Call[Answer]) -> Answer:
        """Carry a call out."""

    @abstractmethod
    def run_pages(self, call: Call[Paged]) -> Iterator[Paged]:
        """Carry a call out page by page, each when it is asked for."""

    def search(
        self,
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
    ) -> SearchAnswer:
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
        call = build_call(
            requests.search,
            catalog,
            image=image,
            item=item,
            features=features,
            text=text,
            liked=liked,
            disliked=disliked,
            text_weight=text_weight,
            turns=turns,
            combiner=combiner,
            where=where,
            page_size=page_size,
            page_token=page_token,
            exact=exact,
            ef=ef,
            score_threshold=score_threshold,
            exclude_references=exclude_references,
            exclude_disliked=exclude_disliked,
            exclude=exclude,
            diversity=diversity,
            group_by=group_by,
            group_size=group_size,
            with_features=with_features,
            with_query_vector=with_query_vector,
            version=version,
            feedback=feedback,
            explain_turns=explain_turns,
            explain_results=explain_results,
            timeout=timeout,
        )
        return self.run(call)

    def search_pages(
        self,
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
    ) -> Iterator[SearchAnswer]:
        """Search, and go on page by page, each fetched when it is asked for.

        The arguments are those of `search`; `page_size` is the number of results in a page.
        """
        call = build_call(
            requests.search,
            catalog,
            image=image,
            item=item,
            features=features,
            text=text,
            liked=liked,
            disliked=disliked,
            text_weight=text_weight,
            turns=turns,
            combiner=combiner,
            where=where,
            page_size=page_size,
            page_token=page_token,
            exact=exact,
            ef=ef,
            score_threshold=score_threshold,
            exclude_references=exclude_references,
            exclude_disliked=exclude_disliked,
            exclude=exclude,
            diversity=diversity,
            group_by=group_by,
            group_size=group_size,
            with_features=with_features,
            with_query_vector=with_query_vector,
            version=version,
            feedback=feedback,
            explain_turns=explain_turns,
            explain_results=explain_results,
            timeout=timeout,
        )
        return self.run_pages(call)

    def batch_search(
        self, queries: Sequence[Call[SearchAnswer]], *, timeout: float | None = None
    ) -> list[SearchAnswer | ItemError]:
        """Ask several queries at once, each made by `cir.query` with the arguments of `search`.

        Their texts and images are embedded together. The answers come in the order of the queries; one that
        cannot be answered fails alone, with an `ItemError` in its place.

        Raises:
            InvalidArgument: there are none, or more than the service takes.
        """
        call = build_call(requests.batch_search, queries, timeout=timeout)
        return self.run(call)

    def info(self, *, timeout: float | None = None) -> SearchInfo:
        """The services behind the search service, and the limits that are enforced."""
        call = build_call(requests.info, timeout=timeout)
        return self.run(call)

    def catalogs(
        self, *, page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> list[Catalog]:
        """All catalogs, by name; `page_size` are fetched at a time."""
        call = build_call(requests.list_catalogs, page_size=page_size, page_token=page_token, timeout=timeout)
        return [entry for page in self.run_pages(call) for entry in page.entries]

    def catalog(self, name: str, *, timeout: float | None = None) -> Catalog:
        """One catalog.

        Raises:
            NotFound: it does not exist.
        """
        call = build_call(requests.catalog, name, timeout=timeout)
        return self.run(call)

    def versions(
        self, catalog: str, *, page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> list[Version]:
        """All versions of a catalog, newest first; `page_size` are fetched at a time."""
        call = build_call(
            requests.list_versions, catalog, page_size=page_size, page_token=page_token, timeout=timeout
        )
        return [entry for page in self.run_pages(call) for entry in page.entries]

    def create_catalog(
        self,
        name: str,
        *,
        schema: Mapping[str, str] | None = None,
        index: IndexSettings | None = None,
        model_fingerprint: str = "",
        dimension: int = 0,
        timeout: float | None = None,
    ) -> Catalog:
        """Create a catalog that is empty and searched at once.

        `schema` has the payload fields that can be filtered, by name: "keyword", "integer", "float", "bool",
        "datetime", "geo" or "text". The model is the embedder's, unless `model_fingerprint` and `dimension`
        describe that of features of your own.

        Raises:
            AlreadyExists: there is a catalog of this name.
            InvalidArgument: no catalog can be like this.
        """
        call = build_call(
            create.create_catalog,
            name,
            schema=schema,
            index=index,
            model_fingerprint=model_fingerprint,
            dimension=dimension,
            timeout=timeout,
        )
        return self.run(call)

    def create_version(
        self,
        catalog: str,
        *,
        schema: Mapping[str, str] | None = None,
        index: IndexSettings | None = None,
        model_fingerprint: str = "",
        dimension: int = 0,
        timeout: float | None = None,
    ) -> Version:
        """Start a version that nobody searches before it is published, to be filled by `import_items`.

        `schema` and `index` are those of the published version where they are not given.

        Raises:
            NotFound: the catalog does not exist.
            InvalidArgument: no version can be like this.
        """
        call = build_call(
            create.create_version,
            catalog,
            schema=schema,
            index=index,
            model_fingerprint=model_fingerprint,
            dimension=dimension,
            timeout=timeout,
        )
        return self.run(call)

    def finish_version(
        self, catalog: str, version: str, *, expected_items: int | None = None, timeout: float | None = None
    ) -> Version:
        """Build the indexes of a version, so that it can be published; with many items this takes its time.

        Where `timeout` ends first, the service goes on, and the same call waits for it again.

        Raises:
            FailedPrecondition: it does not hold `expected_items` items, or none beside a published version with
                items, unless `expected_items` is 0.
            Aborted: an import is writing it.
        """
        call = build_call(
            create.finish_version, catalog, version, expected_items=expected_items, timeout=timeout
        )
        return self.run(call)

    def abort_version(self, catalog: str, version: str, *, timeout: float | None = None) -> None:
        """Drop a version that is being built, with all its items.

        Raises:
            FailedPrecondition: it is finished.
        """
        call = build_call(create.abort_version, catalog, version, timeout=timeout)
        return self.run(call)

    def add_fields(self, catalog: str, fields: Mapping[str, str], *, timeout: float | None = None) -> Catalog:
        """Make further payload fields of the published version filterable; types are those of `create_catalog`.

        Raises:
            InvalidArgument: a field is there with another type, or an item holds another value.
        """
        call = build_call(create.add_fields, catalog, fields, timeout=timeout)
        return self.run(call)

    def publish(
        self, catalog: str, version: str, *, allow_model_change: bool = False, timeout: float | None = None
    ) -> Catalog:
        """Make a finished version the one that is searched.

        A version whose model is not the embedder's is refused unless `allow_model_change`.

        Raises:
            NotFound: the version does not exist.
            FailedPrecondition: the state of the version does not allow it.
        """
        call = build_call(
            requests.publish, catalog, version, allow_model_change=allow_model_change, timeout=timeout
        )
        return self.run(call)

    def rollback(self, catalog: str, *, timeout: float | None = None) -> Catalog:
        """Publish again what was published before.

        Raises:
            FailedPrecondition: there is nothing to publish again, or it has no items while the published version
                has some; that one is published by its name.
        """
        call = build_call(requests.rollback, catalog, timeout=timeout)
        return self.run(call)

    def delete_version(self, catalog: str, version: str, *, timeout: float | None = None) -> None:
        """Delete a version that is not published.

        Raises:
            NotFound: the version does not exist.
            FailedPrecondition: the state of the version does not allow it.
        """
        call = build_call(requests.delete_version, catalog, version, timeout=timeout)
        return self.run(call)

    def delete_catalog(self, catalog: str, *, timeout: float | None = None) -> None:
        """Delete a catalog with all its versions. There is no way back."""
        call = build_call(requests.delete_catalog, catalog, timeout=timeout)
        return self.run(call)

    def item(
        self, catalog: str, item_id: str, *, with_features: bool = False, timeout: float | None = None
    ) -> Item:
        """One item.

        Raises:
            NotFound: it does not exist.
        """
        call = build_call(requests.item, catalog, item_id, with_features=with_features, timeout=timeout)
        return self.run(call)

    def items(
        self,
        catalog: str,
        item_ids: Sequence[str],
        *,
        with_features: bool = False,
        timeout: float | None = None,
    ) -> Items:
        """Up to 1000 items by id."""
        call = build_call(requests.items, catalog, item_ids, with_features=with_features, timeout=timeout)
        return self.run(call)

    def list_items(
        self,
        catalog: str,
        *,
        where: Where = None,
        page_size: int = 0,
        page_token: str = "",
        with_features: bool = False,
        timeout: float | None = None,
    ) -> Page[Item]:
        """A page of the items that pass a filter, in an order that stays the same within a version."""
        call = build_call(
            requests.list_items,
            catalog,
            where=where,
            page_size=page_size,
            page_token=page_token,
            with_features=with_features,
            timeout=timeout,
        )
        return self.run(call)

    def all_items(
        self,
        catalog: str,
        *,
        where: Where = None,
        page_size: int = 0,
        page_token: str = "",
        with_features: bool = False,
        timeout: float | None = None,
    ) -> Iterator[Item]:
        """Every item that passes a filter, one by one; `page_size` are fetched at a time, when needed."""
        call = build_call(
            requests.list_items,
            catalog,
            where=where,
            page_size=page_size,
            page_token=page_token,
            with_features=with_features,
            timeout=timeout,
        )
        return (entry for page in self.run_pages(call) for entry in page.entries)

    def facets(
        self,
        catalog: str,
        fields: Sequence[str],
        *,
        where: Where = None,
        limit: int = 0,
        timeout: float | None = None,
    ) -> dict[str, list[FacetCount]]:
        """The commonest values of keyword, integer or bool fields among the items that pass a filter."""
        call = build_call(requests.facets, catalog, fields, where=where, limit=limit, timeout=timeout)
        return self.run(call)

    def upsert(self, catalog: str, items: Sequence[ItemWrite], *, timeout: float | None = None) -> Written:
        """Write items into the published version; searches see them at once. Bad items fail alone."""
        call = build_call(requests.upsert, catalog, items, timeout=timeout)
        return self.run(call)

    def update(
        self,
        catalog: str,
        items: Sequence[ItemUpdate],
        *,
        fields: Sequence[str] = (),
        timeout: float | None = None,
    ) -> Updated:
        """Change payloads and image locations in the published version; nothing is embedded.

        With `fields` these payload fields alone are set, and removed where an item's payload lacks them; image
        locations then stay. Without, each payload that is given replaces the stored one. Bad items fail alone.
        """
        call = build_call(requests.update, catalog, items, fields=fields, timeout=timeout)
        return self.run(call)

    def delete(self, catalog: str, item_ids: Sequence[str], *, timeout: float | None = None) -> int:
        """Delete items of the published version; answers how many existed."""
        call = build_call(requests.delete, catalog, item_ids, timeout=timeout)
        return self.run(call)

    def delete_where(
        self, catalog: str, where: Where, *, validate_only: bool = False, timeout: float | None = None
    ) -> int:
        """Delete all items of the published version that pass a filter; answers how many did.

        A filter without conditions is refused (`InvalidArgument`). With `validate_only` nothing is deleted.
        """
        call = build_call(requests.delete_where, catalog, where, validate_only=validate_only, timeout=timeout)
        return self.run(call)

    def embedder_info(self, *, timeout: float | None = None) -> EmbedderInfo:
        """The embedder's model and the limits that it enforces."""
        call = build_call(feature_calls.embedder_info, timeout=timeout)
        return self.run(call)

    def embed_images(
        self,
        images: Sequence[ImageSource],
        *,
        model_fingerprint: str = "",
        priority: str = "interactive",
        timeout: float | None = None,
    ) -> Embedded:
        """Embed images (paths, bytes, file objects, PIL images, arrays) to raw features.

        With `model_fingerprint` the call is refused unless the embedder holds this model. `priority` "bulk" waits
        behind everybody's interactive calls. An image that cannot be read here is an error; one that the embedder
        cannot read fails alone.

        Raises:
            InvalidArgument: more images than the embedder's `max_batch_items`, or one that cannot be sent.
            FailedPrecondition: the embedder holds another model.
            Overloaded: the embedder has more to do than it can.
        """
        call = build_call(
            feature_calls.embed_images,
            images,
            model_fingerprint=model_fingerprint,
            priority=priority,
            timeout=timeout,
        )
        return self.run(call)

    def embed_texts(
        self,
        texts: Sequence[str],
        *,
        model_fingerprint: str = "",
        priority: str = "interactive",
        timeout: float | None = None,
    ) -> Embedded:
        """Embed texts to raw features. Arguments and errors are those of `embed_images`."""
        call = build_call(
            feature_calls.embed_texts,
            texts,
            model_fingerprint=model_fingerprint,
            priority=priority,
            timeout=timeout,
        )
        return self.run(call)

    def embed_prompts(
        self,
        template: str,
        texts: Sequence[str],
        word_embeddings: ArrayLike,
        *,
        model_fingerprint: str = "",
        priority: str = "interactive",
        timeout: float | None = None,
    ) -> Embedded:
        """Embed sentences in which a word stands for an image: `template` and `word_embeddings` of a `Combined`.

        The rest is that of `embed_images`.
        """
        call = build_call(
            feature_calls.embed_prompts,
            template,
            texts,
            word_embeddings,
            model_fingerprint=model_fingerprint,
            priority=priority,
            timeout=timeout,
        )
        return self.run(call)

    def embed_queries(
        self,
        encoder: str,
        images: Sequence[ImageSource],
        texts: Sequence[str],
        *,
        model_fingerprint: str = "",
        priority: str = "interactive",
        timeout: float | None = None,
    ) -> Embedded:
        """Embed pairs of image and text by a joint encoder of `embedder_info`; the rest as in `embed_images`."""
        call = build_call(
            feature_calls.embed_queries,
            encoder,
            images,
            texts,
            model_fingerprint=model_fingerprint,
            priority=priority,
            timeout=timeout,
        )
        return self.run(call)

    def combiners(
        self, *, page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> list[Combiner]:
        """All combiners by name, those included that cannot be used; `page_size` are fetched at a time."""
        call = build_call(
            feature_calls.list_combiners, page_size=page_size, page_token=page_token, timeout=timeout
        )
        return [entry for page in self.run_pages(call) for entry in page.entries]

    def combine(
        self,
        image_features: Embedded | Features | ArrayLike,
        text_features: Embedded | Features | ArrayLike,
        *,
        combiner: str = "",
        text_weight: float | None = None,
        timeout: float | None = None,
    ) -> Combined:
        """Combine raw features of images and texts, (n, d) each, pair by pair to queries.

        `combiner` empty is the service's default. `text_weight` moves the queries between image (0) and text (1).

        Raises:
            InvalidArgument: features of other shapes, or the combiner takes no such weight.
            NotFound: there is no such combiner.
            FailedPrecondition: the features are of another model, or the combiner cannot be used.
        """
        call = build_call(
            feature_calls.combine,
            image_features,
            text_features,
            combiner=combiner,
            text_weight=text_weight,
            timeout=timeout,
        )
        return self.run(call)
