"""Settings of the HTTP gateway."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from service_runtime.settings import CalledAddress, HttpSettings


class GatewaySettings(HttpSettings):
    """HTTP/JSON in front of a search service and an embedder."""

    model_config = SettingsConfigDict(env_prefix="CIR_HTTP_", extra="forbid", env_ignore_empty=True)
    program: ClassVar[str] = "http_gateway"

    port: int = Field(8081, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    search: CalledAddress = Field("127.0.0.1:50050", description="host:port of the search service.")
    embedder: CalledAddress | None = Field(
        None, description="host:port of the embedder, for /v1/embeddings; without it that is not served."
    )
    ca: Path | None = Field(None, description="PEM file of the services' authority; connects with TLS.")
    certificate: Path | None = Field(
        None, description="PEM file of this process's client certificate, for mutual TLS."
    )
    key: Path | None = Field(None, description="PEM file of the certificate's private key.")
    timeout_seconds: float = Field(
        30.0, gt=0, description="Longest time of a call; a request may ask for less (X-Timeout-Seconds)."
    )
    calls_of_a_client: int = Field(
        8,
        ge=1,
        description="Calls of one client (address) that are with the services at the same time; further ones "
        "wait here, and its keys take turns. Enough for one search service; where one client asks for most "
        "of all and there are several replicas, as many times more.",
    )
    max_body_bytes: int = Field(48 * 1024 * 1024, ge=1, description="Bytes of a request's body.")
    body_seconds: float = Field(60.0, gt=0, description="Longest time of receiving a body.")
    cors_origins: list[str] = Field(
        default_factory=list,
        description="Origins whose pages may call this from a browser, as JSON, such as "
        '["https://shop.example"]; none by default, ["*"] for all.',
    )
