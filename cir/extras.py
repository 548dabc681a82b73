"""The parts of the distribution that the base install leaves out."""

from __future__ import annotations

from importlib.util import find_spec

from cir.failure import Failure

DISTRIBUTION = "composed-image-retrieval"
# One module of each requirement that is not in the base install.
_MODULES = {
    "service": ("grpc_health", "grpc_reflection", "pydantic", "pydantic_settings", "structlog"),
    "embedder": ("open_clip", "safetensors", "torch", "torchvision"),
    "combiner": ("safetensors", "torch"),
    "train": ("matplotlib",),
    "search": ("qdrant_client", "qdrant_edge"),
    "indexer": ("pyarrow", "urllib3"),
    "web": ("jinja2", "multipart", "starlette", "uvicorn"),
}
_NEEDS = {
    "embedder": ("service", "embedder"),
    "combiner": ("service", "combiner"),
    "train": ("service", "combiner", "train"),
    "search": ("search",),
    "indexer": ("service", "search", "indexer"),
    "demo": ("service", "embedder", "search", "indexer", "web"),
}


def require(extra: str, *, what: str) -> None:
    """Raise `Failure`, naming the extra to install, unless all that it brings is there."""
    missing = [module for part in _NEEDS[extra] for module in _MODULES[part] if find_spec(module) is None]
    if missing:
        raise Failure(
            f"{what} needs parts that are not installed ({', '.join(missing)}); "
            f'install them with: pip install "{DISTRIBUTION}[{extra}]"'
        )
