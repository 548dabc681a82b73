"""Whether a version that is to be published fits the embedder that its searches will ask."""

from __future__ import annotations

from cir.common.v1 import errors_pb2 as errors
from search_service.embedder_client import EmbedderClient
from service_runtime.errors import ServiceError
from vector_store.contract import VectorStore

_LONGEST_SECONDS = 2.0


async def check_model(
    store: VectorStore, embedder: EmbedderClient, catalog: str, version: str, *, timeout: float
) -> None:
    """Raise `ServiceError` (FINGERPRINT_MISMATCH) when the embedder serves another model than the version's.

    An embedder that is away proves nothing and stops nothing; nor does a version that is not there, which
    publishing itself refuses. Raises `CatalogNotFound`.
    """
    found = [info for info in await store.list_versions(catalog) if info.version == version]
    if not found:
        return
    try:
        model = await embedder.info(timeout=min(timeout, _LONGEST_SECONDS))
    except ServiceError:
        return
    expected = found[0].spec.model_fingerprint
    if model.fingerprint != expected:
        raise ServiceError(
            errors.FINGERPRINT_MISMATCH,
            f"the vectors of version {version} come from model {expected}, the embedder serves model "
            f"{model.fingerprint}: texts and pictures could not be searched by. Start an embedder of the "
            "version's model, index again with the embedder's, or set allow_model_change",
            field="name",
            metadata={"expected": expected, "actual": model.fingerprint},
        )
