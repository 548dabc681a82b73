"""Settings of the search service."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from cir.limits import DEFAULT_COMBINER
from service_runtime.settings import CalledAddress, ServiceSettings
from vector_store.edge import EdgeOptions
from vector_store.versions import QUANTIZE_ABOVE_BYTES


class SearchSettings(ServiceSettings):
    """The search service: composed, turn-based, filtered search over a vector store."""

    model_config = SettingsConfigDict(env_prefix="CIR_SEARCH_", extra="forbid", env_ignore_empty=True)
    program: ClassVar[str] = "search_service"

    port: int = Field(50050, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    embedder: CalledAddress = Field("127.0.0.1:50051", description="host:port of the embedder.")
    combiner: CalledAddress = Field("127.0.0.1:50052", description="host:port of the combiner service.")
    store: str = Field(
        "edge:///var/lib/cir/store",
        description="Vector store: edge:///FOLDER (embedded) or qdrant://HOST:PORT (server or cluster).",
    )
    store_api_key: SecretStr = Field(SecretStr(""), description="API key of a Qdrant server.")
    store_ca_file: Path | None = Field(
        None, description="Authorities (PEM) to trust for qdrants://; the system's when absent."
    )
    store_timeout_seconds: float = Field(
        10.0, gt=0, description="Longest time of one call to a Qdrant server, retries included."
    )
    store_publish_timeout_seconds: float = Field(
        60.0, gt=0, description="Longest wait for a version on a Qdrant server to be green when publishing."
    )
    store_index_above_items: int = Field(
        EdgeOptions().index_above_items,
        ge=0,
        description="Embedded store: items written online that queries may compare one by one; more are "
        "indexed in the background. 0 never does that.",
    )
    store_quantize_above_bytes: int = Field(
        QUANTIZE_ABOVE_BYTES,
        ge=0,
        description="Embedded store: size of a version's full vectors above which that compresses them to 8 "
        "bits, where cir index left it to the store.",
    )
    store_min_free_bytes: int = Field(
        EdgeOptions().min_free_bytes,
        ge=0,
        description="Embedded store: bytes of the disk that writes leave free; they are refused below that.",
    )
    store_verify_open_seconds: float = Field(
        EdgeOptions().verify_open_s,
        ge=0,
        description="Embedded store: seconds for comparing a version's large files with their checksums when "
        "it is opened; what is left is compared afterwards.",
    )
    store_verify_bytes_per_second: int = Field(
        EdgeOptions().verify_bytes_per_s,
        ge=0,
        description="Embedded store: bytes a second that are compared while a version is open; 0 for none.",
    )
    upstream_tls: bool = Field(False, description="Connect to embedder and combiner with TLS.")
    upstream_ca: Path | None = Field(
        None,
        description="PEM file of the authority of their certificates; without it the usual authorities.",
    )
    upstream_certificate: Path | None = Field(
        None, description="PEM file of this service's client certificate, for mutual TLS."
    )
    upstream_key: Path | None = Field(None, description="PEM file of the client certificate's private key.")
    upstream_api_key: SecretStr = Field(
        SecretStr(""), description="API key, where embedder and combiner ask for one; read scope is enough."
    )
    default_combiner: str = Field(DEFAULT_COMBINER, description="Combiner for requests that name none.")
    adapted_combiners: bool = Field(
        True,
        description="Let the Combiner that cir adapt made for a catalog, where the combiner service has it, "
        "answer searches there that name none.",
    )
    query_log: Path | None = Field(
        None,
        description="File that gets a line of JSON for each search: its request id, its items and texts, and "
        "the ids that were shown; no images. Unset: none is written. See docs/adapt.md.",
    )
    query_log_bytes: int = Field(
        64 * 1024 * 1024,
        ge=1024,
        description="Bytes after which query_log is renamed to end in .1, replacing the one before.",
    )
    call_timeout_seconds: float = Field(
        10.0, gt=0, description="Longest time for one request, and for one call to another service."
    )
    remembered_texts: int = Field(
        4096, ge=0, description="Texts whose features are kept for searches to come; 0 keeps none."
    )
    max_turns: int = Field(16, ge=1, description="Turns in one request.")
    max_text_characters: int = Field(1000, ge=1, description="Characters of one text.")
    max_image_bytes: int = Field(16 * 1024 * 1024, ge=1, description="Bytes of one encoded image.")
    max_results: int = Field(200, ge=1, description="Results in one page.")
    max_result_window: int = Field(10_000, ge=1, description="Results that can be reached by paging.")
    max_filter_conditions: int = Field(
        64, ge=1, description="Conditions of one filter, nested ones included."
    )
    max_feedback_items: int = Field(100, ge=0, description="Liked plus disliked items over all turns.")
    max_write_items: int = Field(
        256, ge=1, description="Items of one BatchUpsertItems call, or of one message of ImportItems."
    )
    max_batch_queries: int = Field(64, ge=1, description="Queries of one BatchSearch call.")
    max_imports: int = Field(8, ge=1, description="ImportItems streams at the same time.")
    max_page_bytes: int = Field(
        8 * 1024 * 1024,
        ge=1,
        description="Bytes of the items or values in one answer; a page that holds as much ends early.",
    )
