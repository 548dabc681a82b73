"""Generate the Python stubs of protos/ into cir/, or with --check report whether they are stale.

Each .proto is copied next to its stubs, so that the client brings the contract along.

Usage: python scripts/generate_protos.py [--check]
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PATTERNS = ("*.proto", "*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generate(target: Path) -> None:
    """Write every .proto and its stubs under `target`, laid out as the proto packages are."""
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    scripts = Path(sysconfig.get_path("scripts"))
    arguments = [
        "protoc",
        f"--proto_path={PROTOS}",
        f"--proto_path={well_known}",
        f"--python_out={target}",
        f"--grpc_python_out={target}",
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        f"--mypy_out=quiet:{target}",
        f"--mypy_grpc_out=quiet:{target}",
        *files,
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed; its message is above")
    for file in files:
        shutil.copyfile(PROTOS / file, target / file)


def stubs(root: Path) -> dict[str, bytes]:
    """Every generated file under `root`, by relative path."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for pattern in PATTERNS
        for path in root.glob(f"cir/*/v1/{pattern}")
    }


def stale() -> list[str]:
    """Paths of stubs that differ from what the protos say, are missing, or are left over."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        wanted, found = stubs(Path(folder)), stubs(ROOT)
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def main(arguments: list[str]) -> int:
    """Entry point; exit code 1 when --check finds stale stubs."""
    if arguments == ["--check"]:
        names = stale()
        if names:
            print(f"stale stubs: {', '.join(names)}; run `make protos`", file=sys.stderr)
        return 1 if names else 0
    if arguments:
        raise SystemExit(f"unknown arguments {arguments}; only --check is known")
    for name in stubs(ROOT):
        (ROOT / name).unlink()
    generate(ROOT)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
