"""Generate the Python stubs of protos/ into cir/, or with --check report whether they are stale.

Each .proto is copied next to its stubs, so that the client brings the contract along. protoc is an old one,
of protobuf 4.25: stubs of a newer one refuse every runtime that is older, and those of the releases after
it every runtime two major versions newer. Its package needs no other; it is kept in build/ and installed
there when it is first needed, by the digests of protoc.lock.

Usage: python scripts/generate_protos.py [--check]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PATTERNS = ("*.proto", "*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")
LOCK = ROOT / "scripts" / "protoc.lock"
# Newer versions of Python have no build of it.
NEWEST_PYTHON = (3, 12)


def protoc() -> Path:
    """Return the folder with the package `grpc_tools` of the lock; it is installed there if it is not.

    Raises:
        SystemExit: it cannot be installed.
    """
    version = LOCK.read_text().split()[0].replace("==", "-")
    folder = ROOT / "build" / f"{version}-{sys.implementation.cache_tag}"
    if not folder.is_dir():
        folder.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as fresh:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
            wanted = ["--require-hashes", "--requirement", str(LOCK), "--target", f"{fresh}/whole"]
            if subprocess.run([*pip, *wanted], check=False).returncode != 0:
                raise SystemExit(f"{version}, which writes the stubs, cannot be installed; see above")
            (Path(fresh) / "whole").rename(folder)
    return folder


def generate(target: Path) -> None:
    """Write every .proto and its stubs under `target`, laid out as the proto packages are."""
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    package, scripts = protoc(), Path(sysconfig.get_path("scripts"))
    # Before the environment's own package of that name.
    call = "import sys; sys.path.insert(0, sys.argv.pop(1)); from grpc_tools import protoc; "
    command = [
        *(sys.executable, "-P", "-c", f"{call}sys.exit(protoc.main(sys.argv))", str(package)),
        f"--proto_path={PROTOS}",
        f"--proto_path={package / 'grpc_tools' / '_proto'}",
        f"--python_out={target}",
        f"--grpc_python_out={target}",
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        f"--mypy_out=quiet:{target}",
        f"--mypy_grpc_out=quiet:{target}",
        *files,
    ]
    if subprocess.run(command, check=False).returncode != 0:
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
        if sys.version_info[:2] > NEWEST_PYTHON:
            print(
                "stubs are not compared: their protoc has no build for this version of Python",
                file=sys.stderr,
            )
            return 0
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
