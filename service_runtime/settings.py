"""Typed settings of a service: command line over environment over file over defaults.

One class per service; `--help`, the environment variables and the documentation are generated from it.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from service_runtime.startup import StartupError


class ServiceSettings(BaseSettings):
    """Settings that every service has. Subclasses set `program` and the environment prefix."""

    model_config = SettingsConfigDict(extra="forbid", env_ignore_empty=True)

    program: ClassVar[str] = "service"
    config_file: ClassVar[Path | None] = None

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 or [::] for every interface.")
    port: int = Field(0, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged."
    )
    log_format: Literal["json", "console"] = Field("json", description="JSON lines, or text for people.")
    max_message_bytes: int = Field(
        64 * 1024 * 1024, ge=4096, description="Bytes of one request or answer message."
    )
    max_concurrent_calls: int = Field(
        256, ge=1, description="Calls worked on at the same time; more are refused with RESOURCE_EXHAUSTED."
    )
    shutdown_grace_seconds: float = Field(
        30.0, ge=0, description="Seconds that running calls get to finish after SIGTERM."
    )
    max_connection_age_seconds: float = Field(
        300.0, gt=0, description="Age at which a client is asked to reconnect, so that new replicas get load."
    )
    max_connection_age_grace_seconds: float = Field(
        600.0, gt=0, description="Seconds that calls get on a connection that has reached its age."
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
        """Order of precedence: command line and arguments, environment, file."""
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        if cls.config_file is not None:
            sources += (TomlConfigSettingsSource(settings_cls, toml_file=cls.config_file),)
        return sources

    @classmethod
    def load(cls, arguments: list[str]) -> Self:
        """Read the settings for a process started with `arguments`.

        Raises `StartupError` with one line that names the setting at fault; --help exits with 0.
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
            raise StartupError(f"setting {name}: {first['msg']} (got {first.get('input')!r})") from error
        except (SettingsError, OSError, ValueError) as error:
            raise StartupError(f"settings: {error}") from error

    @property
    def address(self) -> str:
        """host:port to bind."""
        return f"{self.host}:{self.port}"
