"""`cir doctor`: what works and what does not, with the next step for each."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from cir.address import Address, parse_target
from cir.channel import is_serving
from cir.client import Client
from cir.errors import CirError
from cir.extras import SERVICES
from cir.models import ModelInfo, SearchInfo, model_facts
from cir_cli.errors import Failure
from cir_cli.local import up_file
from cir_cli.options import (
    CONNECTION,
    DEFAULT_DATA,
    DEFAULT_SERVER,
    Access,
    ApiKey,
    CaFile,
    CertFile,
    Data,
    EmbedderAddress,
    EmbedderApiKey,
    EmbedderCaFile,
    EmbedderCertFile,
    EmbedderKeyFile,
    Json,
    KeyFile,
    Server,
    Timeout,
    access,
    in_groups,
)
from cir_cli.output import print_json
from service_runtime.counted import counted

_PACKAGES = (
    SERVICES, "grpcio", "protobuf", "numpy", "pillow",
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
        if info.combiners:
            findings.append(Finding("combiners", f"of searches: {', '.join(info.combiners)}"))
        if model is not None and info.model is not None:
            same = model.fingerprint == info.model.fingerprint
            text = "the search service uses this embedder's model" if same else (
                f"the search service uses model {info.model.fingerprint}, the embedder at {embedder} has "
                f"{model.fingerprint}"
            )  # fmt: skip
            findings.append(Finding("model", text, ok=same))
        return findings + _catalogs(client, info.model or model)


def _embedder(address: str, access: Access, timeout: float, findings: list[Finding]) -> ModelInfo | None:
    try:
        with access.client(address, timeout=timeout) as client:
            model = client.embedder_info().model
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
    findings += _weights(model)
    return model


def _weights(model: ModelInfo) -> list[Finding]:
    """Return what the model does to images and texts, which its weights must have been trained with."""
    if not model.mean:
        return []  # an older embedder
    mean, std = (",".join(f"{value:g}" for value in values) for values in (model.mean, model.std))
    filled = f" filled up with {model.fill}" if model.resize_mode == "longest" else ""
    pixels = (
        f"{model.preprocessing}, {model.resize_mode}{filled}, {model.interpolation}, mean {mean}, std {std}"
    )
    taken = f"words of {model.token_width} values" if model.token_width else "no words"
    read = f"tokenizer {model.tokenizer} ({model.text_cleaning}), {model.context_length} tokens"
    words = f"{read}, takes {taken} of inversions"
    return [Finding("images", f"{pixels}, {model.activation}"), Finding("texts", words)]


def _combiner(address: str, access: Access, timeout: float, findings: list[Finding]) -> None:
    try:
        with access.client(address, timeout=timeout) as client:
            combiners = client.combiners()
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
        held = counted(published.item_count, "item", "items") if published else ""
        if published is None:
            findings.append(Finding(name, "nothing is published in it yet"))
        elif model is None:
            findings.append(Finding(name, f"version {published.name}, {held}"))
        else:
            same = published.model_fingerprint == model.fingerprint
            text = f"version {published.name}, {held}, " + (
                "of the embedder's model" if same else
                f"of model {published.model_fingerprint}, not the embedder's {model.fingerprint}"
                f"{_differences(published.model, model)}; index it again with the current model "
                f"(cir index {catalog.name} SOURCE), or start the embedder with the old one"
            )  # fmt: skip
            findings.append(Finding(name, text, ok=same))
    return findings


# Facts about a version's model that were not written while every model had the same.
_ALWAYS_WAS = {"resize_mode": "shortest", "interpolation": "bicubic"}


def _differences(then: Mapping[str, str], now: ModelInfo) -> str:
    """Return which facts about the model differ from those that the version was built with."""
    known = _ALWAYS_WAS | dict(then)
    changed = [
        f"{name.replace('_', ' ')} {known[name]} instead of {value}"
        for name, value in model_facts(now).items()
        if name != "dtype" and known.get(name, value) != value
    ]
    return f" (it has {', '.join(changed)})" if changed else ""


@in_groups({CONNECTION: ("embedder", "combiner", "data")})
def doctor(
    server: Server = DEFAULT_SERVER,
    embedder: EmbedderAddress = "",
    combiner: Annotated[
        str, typer.Option("--combiner", metavar="HOST:PORT", help="The combiner; default: cir up's.")
    ] = "",
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
    api_key: ApiKey = "",
    ca_file: CaFile = None,
    cert_file: CertFile = None,
    key_file: KeyFile = None,
    embedder_api_key: EmbedderApiKey = "",
    embedder_ca_file: EmbedderCaFile = None,
    embedder_cert_file: EmbedderCertFile = None,
    embedder_key_file: EmbedderKeyFile = None,
    timeout: Timeout = 10.0,
) -> None:
    """Check versions, services, devices and fingerprints; exit code 1 when something is wrong.

    Embedder and combiner are asked directly where their addresses are known, else through the search
    service alone. The --embedder-... options for keys and TLS hold for the combiner as well.
    """
    up = _local(data, server)
    findings = installed() + services(
        server,
        embedder=embedder or (up.embedder if up else ""),
        combiner=combiner or (up.combiner if up else ""),
        access=access(api_key, ca_file, cert_file, key_file),
        neighbours=access(
            embedder_api_key,
            embedder_ca_file,
            embedder_cert_file,
            embedder_key_file,
            prefix="--embedder-",
        ),
        timeout=timeout,
    )
    if as_json:
        print_json({"ok": all(each.ok is not False for each in findings), "findings": findings})
    else:
        for finding in findings:
            print(_line(finding))
    wrong = [finding for finding in findings if finding.ok is False]
    if wrong:
        names = ", ".join(finding.name for finding in wrong)
        raise Failure(f"{len(wrong)} of {len(findings)} checks failed: {names}")


def _local(data: Path, server: str) -> up_file.UpFile | None:
    """The services up on the data directory, if the server asked about is among them."""
    up = up_file.read(data)
    return up if up is not None and _same_place(up.search, server) else None


def _same_place(up: str, server: str) -> bool:
    """Return whether two addresses lead to one service, in whatever spelling."""
    one, other = parse_target(up), parse_target(server)
    if one == other or not (isinstance(one, Address) and isinstance(other, Address)):
        return one == other
    named = "localhost" in (one.host.bare, other.host.bare)
    return named and one.port == other.port and one.is_loopback and other.is_loopback


def _line(finding: Finding) -> str:
    mark = {True: "ok  ", False: "FAIL", None: "-   "}[finding.ok]
    return f"{mark}  {finding.name:<20} {finding.text}"
