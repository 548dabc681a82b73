"""Settings of the web demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from cir.address import parse_address
from cir.images.decode import MAX_BYTES, MAX_PIXELS
from service_runtime.image_reader import MIB, DecodeBudget
from service_runtime.settings import CalledAddress, HttpSettings
from service_runtime.web_images import Fetching, UrlRules


def _read_origin(text: str) -> str:
    origin = text.strip().lower().removesuffix("/")
    scheme, _, host = origin.partition("://")
    if scheme not in ("http", "https"):
        raise ValueError(f"origin {text!r} is not http://host or https://host")
    parse_address(host, default_port=80)
    return origin


def _read_root_path(text: str) -> str:
    if text and (not text.startswith("/") or text.startswith("//") or set("?#") & set(text)):
        raise ValueError(f"root path {text!r} is not a path that begins with one slash")
    return text.rstrip("/")


def _check_host(rule: str) -> str:
    UrlRules((rule,))
    return rule


class DemoSettings(HttpSettings):
    """The turn-based web demo in front of a search service."""

    model_config = SettingsConfigDict(env_prefix="CIR_DEMO_", extra="forbid", env_ignore_empty=True)
    program: ClassVar[str] = "web_demo"

    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    origins: list[Annotated[str, AfterValidator(_read_origin)]] = Field(
        default_factory=list,
        description='Origins that this page has for browsers, as JSON, such as ["http://shop.example"]: '
        "uploads from them are taken although a proxy in front changes the Host header.",
    )
    root_path: Annotated[str, AfterValidator(_read_root_path)] = Field(
        "",
        description="Path that this page has behind a proxy that leaves the path on, such as /try; behind "
        "one that takes it away nothing need be set.",
    )
    search: CalledAddress = Field("127.0.0.1:50050", description="host:port of the search service.")
    search_api_key: SecretStr = Field(
        SecretStr(""), description="API key, where the search service asks for one; read scope is enough."
    )
    search_ca: Path | None = Field(None, description="PEM file of its authority; connects with TLS.")
    search_certificate: Path | None = Field(
        None, description="PEM file of this process's client certificate, for mutual TLS."
    )
    search_key: Path | None = Field(None, description="PEM file of the certificate's private key.")
    search_timeout_seconds: float = Field(10.0, gt=0, description="Longest time of one call to it.")
    catalog: str = Field(
        "",
        description="Catalog that the page begins with, where it is published. Default: the one whose "
        "published version is the newest, of those that have items.",
    )
    picture_roots: list[Path] | None = Field(
        None,
        description="Folders that images of items may be read from, as JSON, where they are fewer than those "
        "that the catalogs were indexed from; items whose image lies elsewhere are shown without one.",
    )
    allow_hosts: list[Annotated[str, AfterValidator(_check_host)]] = Field(
        default_factory=list,
        description="Hosts that images of items are fetched from where a catalog names them by http:// or "
        'https:// addresses, as JSON, written as for cir index --allow-host: ["images.example.com"].',
    )
    allow_private_hosts: bool = Field(
        False, description="Fetch images from addresses that are not on the public internet as well."
    )
    fetch_seconds: float = Field(
        5.0, gt=0, le=60, description="Longest time of fetching one image from the web."
    )
    fetches: int = Field(8, ge=1, le=64, description="Images that are fetched from the web at the same time.")
    known_queries: list[Path] = Field(
        default_factory=list,
        description="Triplet manifests (JSON Lines, see docs/datasets.md) next to the images of a catalog: "
        "texts are suggested for their references, and their targets are marked. The training split is left "
        "out where a manifest has others.",
    )
    data: Path = Field(
        Path("cir-web"), description="Folder for thumbnails and uploads; made when it is missing."
    )
    max_upload_bytes: int = Field(MAX_BYTES, ge=1, description="Bytes of one uploaded image.")
    max_upload_pixels: int = Field(MAX_PIXELS, ge=1, description="Width times height of one upload.")
    decode_seconds: float = Field(
        DecodeBudget.SECONDS,
        gt=0,
        le=60,
        description="CPU seconds that one upload or image of an item may take to decode.",
    )
    decode_memory_mib: int = Field(
        DecodeBudget.MEMORY_MIB,
        ge=16,
        description="MiB that one upload or image of an item may take to decode.",
    )
    max_uploads: int = Field(500, ge=1, description="Uploads that are kept; the oldest make room.")
    max_uploads_bytes: int = Field(
        200_000_000, ge=1, description="Bytes of all uploads that are kept; the oldest make room."
    )
    uploads_at_once: int = Field(
        8, ge=1, description="Uploads that are received at the same time, of all visitors together."
    )
    upload_seconds: float = Field(60.0, gt=0, description="Longest time of receiving one upload.")
    decoders: int = Field(
        2, ge=1, description="Uploads that are decoded at the same time, and images of items."
    )
    upload_minutes: float = Field(120.0, gt=0, description="Time after which an upload is deleted.")
    uploads_per_minute: float = Field(20.0, gt=0, description="Uploads of one address; IPv6 by /64.")
    max_thumbnails: int = Field(50_000, ge=1, description="Thumbnails that are kept on disk.")
    web_thumbnail_hours: float = Field(
        24.0, gt=0, description="Time after which the thumbnail of an image from the web is made anew."
    )
    page_size: int = Field(24, ge=1, le=200, description="Results that are shown at a time.")

    @property
    def decode_budget(self) -> DecodeBudget:
        """Budget of decoding one image."""
        return DecodeBudget(self.decode_seconds, self.decode_memory_mib * MIB)

    @property
    def fetching(self) -> Fetching:
        """Bounds of fetching an image of an item; what fails is not tried again for a visitor who waits."""
        rules = UrlRules(tuple(self.allow_hosts), self.allow_private_hosts)
        return Fetching(rules, self.fetch_seconds, attempts=1)
