"""Typed settings of a process: command line over environment over file over defaults.

One class per service; `--help`, the environment variables and the documentation are generated from it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from cir.address import Address, Host, Listener, UnixSocket, parse_listener, parse_target
from cir.extras import SERVICES
from service_runtime.errors import StartupError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def _read_host(text: str) -> str:
    listener = parse_listener(text, 0)
    return str(listener) if isinstance(listener, UnixSocket) else listener.host.bare


ListenHost = Annotated[str, AfterValidator(_read_host)]
"""A setting that names where to listen, in any spelling that `cir.address` reads; kept in one of them."""
CalledAddress = Annotated[str, AfterValidator(lambda text: str(parse_target(text)))]
"""A setting that names another service, likewise."""


class ProgramSettings(BaseSettings):
    """Settings that every process has. Subclasses set `program` and the environment prefix."""

    model_config = SettingsConfigDict(extra="forbid", env_ignore_empty=True, allow_inf_nan=False)

    program: ClassVar[str] = "service"
    config_file: ClassVar[Path | None] = None
    #: Names that follow the prefix in variables that `cir` reads, as it reaches the service.
    of_clients: ClassVar[frozenset[str]] = frozenset()

    host: ListenHost = Field(
        "127.0.0.1",
        description="Name or IP address to listen on; 0.0.0.0 or :: for every interface; unix:/path for a "
        "Unix socket, which has no port.",
    )
    port: int = Field(0, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged."
    )
    log_format: Literal["json", "console"] = Field("json", description="JSON lines, or readable text.")
    metrics_port: int = Field(
        0, ge=0, le=65535, description="Port of the Prometheus metrics, on the same host; 0 serves none."
    )
    shutdown_grace_seconds: float = Field(
        30.0, ge=0, description="Seconds that running calls and requests get to finish after SIGTERM."
    )
    shutdown_linger_seconds: float = Field(
        0.5,
        ge=0,
        description="Seconds after SIGTERM in which new calls and requests are still taken while health says "
        "NOT_SERVING (/healthz 503, and answers close their connections), so that clients turn to other "
        "replicas before this one hangs up.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources by precedence: command line and arguments, environment, file."""
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        if cls.config_file is not None:
            sources += (TomlConfigSettingsSource(settings_cls, toml_file=cls.config_file),)
        return sources

    @classmethod
    def load(cls, arguments: list[str]) -> Self:
        """Read the settings for a process started with `arguments`; --help exits with 0.

        Raises:
            StartupError: one line that names the setting at fault.
        """
        prefix = cls.model_config.get("env_prefix", "")
        finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        finder.add_argument("--config", default=os.environ.get(f"{prefix}CONFIG", ""))
        found, rest = finder.parse_known_args(arguments)
        if found.config and not Path(found.config).is_file():
            raise StartupError(f"settings file {found.config} does not exist")

        class FromFile(cls):  # type: ignore[valid-type,misc]
            config_file: ClassVar[Path | None] = Path(found.config) if found.config else None

        parser = argparse.ArgumentParser(
            prog=f"python -m {cls.program}",
            description=cls.__doc__,
            epilog=f"Every setting is also an environment variable ({prefix}PORT, ...) and a key of the TOML "
            f"file that --config or {prefix}CONFIG names.",
            allow_abbrev=False,
        )
        parser.add_argument("--config", metavar="FILE", help="TOML file with settings")
        FromFile.__name__, FromFile.__qualname__ = cls.__name__, cls.__qualname__
        try:
            source = CliSettingsSource[argparse.ArgumentParser](
                FromFile,
                root_parser=parser,
                cli_parse_args=rest,
                cli_kebab_case=True,
                cli_hide_none_type=True,
            )
            values = source()
            return cls.model_validate(FromFile(**values).model_dump())
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise StartupError(
                f"setting {name}: {first['msg'].removeprefix('Value error, ')}{cls._got(first)}"
            ) from None
        except (SettingsError, OSError, ValueError) as error:
            raise StartupError(f"settings: {error}") from error

    @classmethod
    def unknown_variables(cls, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of `environment` that begin as settings of this class and are none.

        Each with the setting that is spelled most alike; an empty text where none is. Variables with an empty
        value set nothing and are left out.
        """
        prefix = cls.model_config.get("env_prefix", "")
        if not prefix:
            return {}
        known = [f"{prefix}{name.upper()}" for name in (*cls.model_fields, "config")]
        read = {*known, *(f"{prefix}{name.upper()}" for name in cls.of_clients)}
        unknown = [
            name
            for name, value in environment.items()
            if value and name.upper().startswith(prefix) and name.upper() not in read
        ]
        if not unknown:
            return {}
        # Only here: most processes have no such variable.
        from difflib import get_close_matches

        nearest = {name: get_close_matches(name.upper(), known, n=1, cutoff=0.8) for name in unknown}
        return {name: "".join(near) for name, near in nearest.items()}

    @classmethod
    def _got(cls, error: ErrorDetails) -> str:
        """Return the value at fault, unless it is or holds a secret."""
        name = str(error["loc"][0]) if error["loc"] else ""
        if name not in cls.model_fields or cls.model_fields[name].annotation is SecretStr:
            return ""
        return f" (got {error.get('input')!r})"

    @property
    def listener(self) -> Listener:
        """The place to listen at."""
        return parse_listener(self.host, self.port)

    @property
    def address(self) -> str:
        """The place to listen at, as "host:port" or "unix:/path"."""
        return str(self.listener)

    @property
    def metrics_address(self) -> Address:
        """The place of the metrics: on the host of the service, or with a Unix socket on loopback."""
        listener = self.listener
        host = listener.host if isinstance(listener, Address) else Host("127.0.0.1")
        return Address(host, self.metrics_port)


class HttpSettings(ProgramSettings):
    """Settings that every HTTP server has (`service_runtime.http_server`)."""

    proxies: list[str] = Field(
        default_factory=lambda: ["127.0.0.1", "::1"],
        description="Addresses or networks of proxies in front, as JSON, whose X-Forwarded-For is believed.",
    )
    max_connections: int = Field(
        512,
        ge=1,
        description="Connections at the same time. Beyond them the one that has been idle longest gives way "
        "to a new one, of the address that has most; where none is idle, the new one is closed at once.",
    )
    max_requests: int = Field(
        128, ge=1, description="Requests that are answered at the same time; more get 503."
    )
    request_head_seconds: float = Field(
        10.0,
        gt=0,
        description="Seconds that a connection gets to send the rest of a request's head, or to take a part "
        "of an answer.",
    )
    keep_alive_seconds: float = Field(
        75.0,
        gt=0,
        description="Seconds that an idle connection is kept while its place is not needed. Longer than "
        "proxies in front keep theirs, so that none sends a request just as this end hangs up: nginx and AWS "
        "keep them 60 s, Google Cloud 600 s (set 620).",
    )


class ServiceSettings(ProgramSettings):
    """Settings that every gRPC service has."""

    max_message_bytes: int = Field(
        64 * 1024 * 1024, ge=4096, description="Bytes of one request or answer message."
    )
    max_concurrent_calls: int = Field(
        256, ge=1, description="Calls worked on at the same time; more are refused with RESOURCE_EXHAUSTED."
    )
    max_connection_age_seconds: float = Field(
        300.0, gt=0, description="Age at which a client is asked to reconnect, so that new replicas get load."
    )
    max_connection_age_grace_seconds: float = Field(
        600.0, gt=0, description="Seconds that calls get on a connection that has reached its age."
    )

    tls_certificate: Path | None = Field(
        None,
        description="PEM file of the server's certificate and its chain, for TLS. Read again on change.",
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key.")
    tls_client_ca: Path | None = Field(
        None,
        description="PEM file of the authority whose client certificates are let in (mutual TLS); without it "
        "clients need none.",
    )
    api_keys_file: Path | None = Field(
        None,
        description="TOML or JSON file of API keys, as `cir keys new` prints its entries. Read again on "
        "change. Without keys every call is let in.",
    )
    api_keys: SecretStr = Field(
        SecretStr(""),
        description="API keys as name:scope:key, separated by commas, with the scope read or write. Set it "
        "through the environment: a command line can be read by others.",
    )
    rate_limit_per_second: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="Calls a second of one API key's name (of one address, without keys); 0 sets no limit.",
    )
    rate_limit_burst: int = Field(
        20, ge=1, description="Calls at once that the rate limit lets through after a pause."
    )
    max_connections: int = Field(
        512, ge=1, description="Connections at the same time; more are closed at once."
    )
    max_streams_per_connection: int = Field(
        128, ge=1, description="Calls under way on one connection; a client holds further ones back."
    )
    handshake_timeout_seconds: float = Field(
        10.0, ge=0.1, description="Seconds that a new connection gets for its TLS and HTTP/2 handshake."
    )
    max_metadata_bytes: int = Field(
        16 * 1024,
        ge=1024,
        description="Bytes of one call's metadata; more is refused with RESOURCE_EXHAUSTED.",
    )
    max_metadata_entries: int = Field(
        100,
        ge=16,
        description="Entries of one call's metadata; more is refused with INVALID_ARGUMENT. After four times "
        "as many, further calls on that connection are refused for a second.",
    )

    max_message_parts: int = Field(
        100_000,
        ge=1000,
        description="Fields and elements of one request message in all, at any depth; more is refused before "
        "it is parsed.",
    )
    max_caller_bytes: int = Field(
        1024 * 1024 * 1024,
        ge=1024,
        description="Bytes of messages of one API key (of one address, without keys) that are worked on at "
        "the same time; more is refused with RESOURCE_EXHAUSTED.",
    )
    receive_timeout_seconds: float = Field(
        60.0, gt=0, description="Seconds in which a call's message must have come in whole."
    )
    stream_idle_seconds: float = Field(
        300.0, gt=0, description="Seconds that a stream may send no message before it is ended."
    )
    max_open_calls_per_connection: int = Field(
        16,
        ge=1,
        description="Calls of health and reflection, which need no key, under way on one connection.",
    )

    watchdog_seconds: float = Field(
        120.0,
        ge=0,
        description="Without progress for this long while work waits, health turns NOT_SERVING and the "
        "process exits with 70 for its supervisor to start again. Longer than any one forward pass; 0 never "
        "does.",
    )
    tracing_endpoint: str = Field(
        "",
        description="OpenTelemetry collector (OTLP over gRPC, such as http://collector:4317); empty traces "
        "nothing. Needs the extra [tracing].",
    )
    tracing_sample_ratio: float = Field(
        1.0, ge=0, le=1, description="Share of calls that are traced where their caller has not decided."
    )


def startup_warnings(settings: ServiceSettings) -> list[str]:
    """Return a line for each protection that is off while the service listens beyond this machine."""
    if settings.listener.is_loopback:
        return []
    lines = []
    if settings.tls_certificate is None:
        lines.append(
            f"listening on {settings.host} without TLS: calls and keys can be read on the way; set "
            "tls_certificate and tls_key, or leave TLS to a proxy in front"
        )
    keys = settings.api_keys_file is not None or bool(settings.api_keys.get_secret_value())
    if not keys and settings.tls_client_ca is None:
        lines.append(
            f"listening on {settings.host} without API keys or client certificates: anybody who reaches "
            "the port may call; set api_keys_file or tls_client_ca, or keep others from the port"
        )
    return lines


def software_version() -> str:
    """Return the installed distribution's version, "unknown" for a source tree that is not installed."""
    try:
        return version(SERVICES)
    except PackageNotFoundError:
        return "unknown"
