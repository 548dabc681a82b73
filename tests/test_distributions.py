"""Both distributions as they would be uploaded: what is in them, and the client alone can be imported."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.service]

ROOT = Path(__file__).parents[1]
CLIENT, SERVICES = "composed_image_retrieval_client", "composed_image_retrieval"
VERSION = str(
    next(
        ast.literal_eval(line.value)
        for line in ast.parse((ROOT / "cir" / "_version.py").read_text()).body
        if isinstance(line, ast.Assign)
    )
)


def run(*command: str | Path, cwd: Path) -> str:
    """Return the output of a command that has to succeed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a source distribution of each, and the wheel that is built from it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    names = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in names.split("\0"):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/", "benchmarks/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name, follow_symlinks=False)
    for folder in (source / "cir", source):
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", target, cwd=folder)
    return target


def in_wheel(folder: Path, name: str) -> list[str]:
    with zipfile.ZipFile(folder / f"{name}-{VERSION}-py3-none-any.whl") as file:
        return file.namelist()


def in_source(folder: Path, name: str) -> list[str]:
    """Return the files of a source distribution, relative to its root."""
    with tarfile.open(folder / f"{name}-{VERSION}.tar.gz") as file:
        return [member.name.partition("/")[2] for member in file if member.isfile()]


def metadata(folder: Path, name: str) -> Message:
    with zipfile.ZipFile(folder / f"{name}-{VERSION}-py3-none-any.whl") as file:
        return message_from_bytes(file.read(f"{name}-{VERSION}.dist-info/METADATA"))


def packages() -> set[str]:
    """Return the top-level packages of the services, as the project file lists them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}


def tracked(folder: str, *endings: str) -> set[str]:
    """Return the files below `folder` with one of `endings`."""
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / folder).rglob("*")
        if path.name.endswith(endings) and not {"build", "__pycache__"} & set(path.parts)
    }


def test_the_client_is_cir_with_its_types_and_protos_and_nothing_else(built: Path) -> None:
    names = {name for name in in_wheel(built, CLIENT) if ".dist-info/" not in name}
    assert names == tracked("cir", ".py", ".pyi", ".proto", ".json", "py.typed")
    source = {name for name in in_source(built, CLIENT) if ".egg-info/" not in name}
    assert {f"cir/{name}" for name in source} >= names
    extra = {"LICENSE", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"}
    assert source - {name.removeprefix("cir/") for name in names} == extra


def test_the_services_are_everything_but_the_client(built: Path) -> None:
    names = {name for name in in_wheel(built, SERVICES) if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in names} == packages()
    for package in packages():
        assert f"{package}/py.typed" in names
        data = (".safetensors", ".onnx", ".npy", ".json", ".txt", ".html", ".css", ".js")
        assert tracked(package, ".py", *data) <= names
    source = set(in_source(built, SERVICES))
    assert names <= source
    assert not [name for name in source if name.startswith("cir/")]


def test_both_are_of_one_version_and_say_what_they_need(built: Path) -> None:
    client, services = metadata(built, CLIENT), metadata(built, SERVICES)
    assert client["Version"] == services["Version"] == VERSION
    assert f"composed-image-retrieval-client=={VERSION}" in services.get_all("Requires-Dist", [])
    needs = client.get_all("Requires-Dist", [])
    assert [need for need in needs if "extra" in need] == ['pyarrow>=16; extra == "frames"']
    assert {need.partition(">")[0] for need in needs if "extra" not in need} == {
        "googleapis-common-protos", "grpcio", "grpcio-health-checking", "grpcio-status",
        "numpy", "pillow", "protobuf",
    }  # fmt: skip
    for one in (client, services):
        assert one["License-Expression"] == "Apache-2.0"
        assert "Typing :: Typed" in one.get_all("Classifier", [])


def test_the_client_alone_is_imported_without_torch_and_the_command_line(built: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    wheel = built / f"{CLIENT}-{VERSION}-py3-none-any.whl"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-index",
        "--no-deps",
        wheel,
        cwd=tmp_path,
    )
    # Its requirements come from the environment of the tests; what it has no use for must not be imported.
    code = f"""
import sys
sys.path.append({sysconfig.get_path("purelib")!r})
import cir
cir.Client("127.0.0.1:1").close()
assert cir.__file__.startswith({str(tmp_path)!r}), cir.__file__
print(sorted({{"torch", "typer", "rich", "pydantic", "service_runtime", "cir_cli"}} & sys.modules.keys()))
"""
    assert run(python, "-c", code, cwd=tmp_path).strip() == "[]"


def test_images_install_both() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for package in {"cir", *packages()}:
        assert f"COPY {package}/ {package}/" in text
        assert f"!{package}" in ignored
    assert "--wheel-dir /wheels ./cir ." in text
