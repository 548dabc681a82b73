"""Variables of the environment that look like settings of services and change nothing, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cir_cli.local.plan import ServiceSpec

if TYPE_CHECKING:
    from service_runtime.settings import ProgramSettings, ServiceSettings


def unused_variables(specs: Sequence[ServiceSpec], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the plan sets otherwise, and those that no service of it reads.

    The values say why, for a sentence that begins with the name.
    """
    unused = {
        name: "is not used: cir up decides it itself, or an option does"
        for spec in specs
        for name, value in spec.environment.items()
        if environment.get(name, value) not in ("", value)
    }
    for spec in specs:
        for name, near in _settings_class(spec.module).unknown_variables(environment).items():
            unused[name] = f"is no setting of {spec.module}" + (f"; did you mean {near}?" if near else "")
    return unused


def service_settings_class(module: str) -> type[ServiceSettings]:
    """Return the settings class of a gRPC service, by its package."""
    # Only here, and only the one that is asked for.
    if module == "embedder_service":
        from embedder_service.settings import EmbedderSettings

        return EmbedderSettings
    if module == "combiner_service":
        from combiner_service.settings import CombinerSettings

        return CombinerSettings
    from search_service.settings import SearchSettings

    return SearchSettings


def _settings_class(module: str) -> type[ProgramSettings]:
    if module == "web_demo":
        from web_demo.settings import DemoSettings

        return DemoSettings
    if module == "http_gateway":
        from http_gateway.settings import GatewaySettings

        return GatewaySettings
    return service_settings_class(module)
