"""`cir doctor`: what is installed, what can be reached, and whether it fits together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cir.commands.options import (
    DEFAULT_DATA,
    DEFAULT_SERVER,
    ApiKey,
    CaFile,
    CertFile,
    Data,
    EmbedderApiKey,
    EmbedderCaFile,
    EmbedderCertFile,
    EmbedderKeyFile,
    Json,
    KeyFile,
    Server,
    Timeout,
    access,
)
from cir.commands.output import print_json
from cir.diagnosis import Finding, installed, services
from cir.failure import Failure
from cir.local import up_file


def doctor(
    server: Server = DEFAULT_SERVER,
    embedder: Annotated[
        str, typer.Option("--embedder", metavar="HOST:PORT", help="The embedder; default: cir up's.")
    ] = "",
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
        print_json(findings)
    else:
        for finding in findings:
            print(_line(finding))
    wrong = [finding for finding in findings if finding.ok is False]
    if wrong:
        names = ", ".join(finding.name for finding in wrong)
        raise Failure(f"{len(wrong)} of {len(findings)} checks failed: {names}")


def _local(data: Path, server: str) -> up_file.UpFile | None:
    """What is up on the data directory, if it is the server that is asked about."""
    up = up_file.read(data)
    return up if up is not None and up.search == server else None


def _line(finding: Finding) -> str:
    mark = {True: "ok  ", False: "FAIL", None: "-   "}[finding.ok]
    return f"{mark}  {finding.name:<20} {finding.text}"
