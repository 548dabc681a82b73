"""What is found about an installation and its services: facts, and checks that passed or failed."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from cir.access import Access
from cir.call import Call
from cir.client import Client
from cir.combiner.v1 import combiner_pb2
from cir.embedder.v1 import embedder_pb2
from cir.errors import CirError
from cir.extras import DISTRIBUTION
from cir.health import is_serving
from cir.search_info import ModelInfo, SearchInfo

_PACKAGES = (
    DISTRIBUTION, "grpcio", "protobuf", "numpy", "pillow",
    "pydantic", "torch", "torchvision", "open_clip_torch", "qdrant-client", "qdrant-edge-py", "pyarrow",
)  # fmt: skip
_SEARCH, _EMBEDDER, _COMBINER = (
    "cir.search.v1.SearchService",
    "cir.embedder.v1.EmbedderService",
    "cir.combiner.v1.CombinerService",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """`ok` is None for a mere fact."""

    name: str
    text: str
    ok: bool | None = None


def installed() -> list[Finding]:
    """Python, the machine, and the packages that matter here."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    findings = [Finding("python", f"{platform.python_version()} on {platform.platform()}, {cores} cores")]
    for package in _PACKAGES:
        try:
            findings.append(Finding(package, version(package)))
        except PackageNotFoundError:
            findings.append(Finding(package, "not installed"))
    return findings


def services(
    server: str,
    *,
    embedder: str,
    combiner: str,
    access: Access = Access(),
    neighbours: Access = Access(),
    timeout: float,
) -> list[Finding]:
    """Reach the services and compare their fingerprints. Never raises `CirError`: that is a finding.

    `access` is for the search service, `neighbours` for embedder and combiner.
    """
    findings: list[Finding] = []
    model: ModelInfo | None = None
    if embedder:
        model = _embedder(embedder, neighbours, timeout, findings)
    if combiner:
        _combiner(combiner, neighbours, timeout, findings)
    with access.client(server, timeout=timeout) as client:
        try:
            info = client.info()
        except CirError as error:
            return [*findings, Finding("search", error.message, ok=False)]
        healthy = is_serving(server, _SEARCH, timeout=timeout, tls=access.tls)
        text = f"{server}, version {info.version}" + ("" if healthy else ", not serving")
        findings.append(Finding("search", text, ok=healthy))
        findings += _dependencies(info)
        if model is not None and info.model is not None:
            same = model.fingerprint == info.model.fingerprint
            text = "the search service uses this embedder's model" if same else (
                f"the search service uses model {info.model.fingerprint}, the embedder at {embedder} has "
                f"{model.fingerprint}"
            )  # fmt: skip
            findings.append(Finding("model", text, ok=same))
        return findings + _catalogs(client, info.model or model)


def _embedder(address: str, access: Access, timeout: float, findings: list[Finding]) -> ModelInfo | None:
    def read(response: embedder_pb2.GetEmbedderInfoResponse) -> ModelInfo:
        return ModelInfo.read(response.model)

    call = Call(
        f"/{_EMBEDDER}/GetEmbedderInfo",
        embedder_pb2.GetEmbedderInfoRequest(),
        embedder_pb2.GetEmbedderInfoResponse,
        read,
    )
    try:
        with access.client(address, timeout=timeout) as client:
            model = client.run(call)
    except CirError as error:
        findings.append(Finding("embedder", error.message, ok=False))
        return None
    text = (
        f"{address}, {model.architecture}/{model.pretrained} on {model.device} in {model.dtype} "
        f"(cosine to float32 {model.dtype_cosine:.6f}), {model.preprocessing}, {model.image_size} px, "
        f"fingerprint {model.fingerprint}"
    )
    findings.append(
        Finding("embedder", text, ok=is_serving(address, _EMBEDDER, timeout=timeout, tls=access.tls))
    )
    return model


def _combiner(address: str, access: Access, timeout: float, findings: list[Finding]) -> None:
    def read(response: combiner_pb2.ListCombinersResponse) -> list[combiner_pb2.Combiner]:
        return list(response.combiners)

    call = Call(
        f"/{_COMBINER}/ListCombiners",
        combiner_pb2.ListCombinersRequest(page_size=1000),
        combiner_pb2.ListCombinersResponse,
        read,
    )
    try:
        with access.client(address, timeout=timeout) as client:
            combiners = client.run(call)
    except CirError as error:
        findings.append(Finding("combiner", error.message, ok=False))
        return
    usable = ", ".join(combiner.name for combiner in combiners if not combiner.problem)
    serving = is_serving(address, _COMBINER, timeout=timeout, tls=access.tls)
    findings.append(Finding("combiner", f"{address}: {usable}", ok=serving))
    findings += [
        Finding(combiner.name, combiner.problem, ok=False) for combiner in combiners if combiner.problem
    ]


def _dependencies(info: SearchInfo) -> list[Finding]:
    facts = " ".join(f"{name}={value}" for name, value in sorted(info.store.items()))
    return [
        Finding(f"search -> {name}", state if name != "store" else f"{state} {facts}", ok=state == "ok")
        for name, state in sorted(info.dependencies.items())
    ]


def _catalogs(client: Client, model: ModelInfo | None) -> list[Finding]:
    """Every published version must come from the model that queries are embedded with."""
    try:
        catalogs = client.catalogs()
    except CirError as error:
        return [Finding("catalogs", error.message, ok=False)]
    findings: list[Finding] = []
    for catalog in catalogs:
        name = f"catalog {catalog.name}"
        published = catalog.published
        if published is None:
            findings.append(Finding(name, "nothing is published in it yet"))
        elif model is None:
            findings.append(Finding(name, f"version {published.name}, {published.item_count} items"))
        else:
            same = published.model_fingerprint == model.fingerprint
            text = f"version {published.name}, {published.item_count} items, " + (
                "of the embedder's model" if same else
                f"of model {published.model_fingerprint}, not the embedder's {model.fingerprint}; index "
                "it again with the current model, or start the embedder with the old one"
            )  # fmt: skip
            findings.append(Finding(name, text, ok=same))
    return findings
