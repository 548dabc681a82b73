"""The base install: what the extras bring is hidden from the interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cir._version import __version__

pytestmark = pytest.mark.service

DATA = ("--dataset", "cirr", "--root", "x")
HEAVY = (
    "torch", "torchvision", "open_clip", "pyarrow", "qdrant_client", "qdrant_edge", "ray", "matplotlib",
    "safetensors", "jinja2", "starlette", "uvicorn", "openvino", "tokenizers", "ftfy", "regex",
)  # fmt: skip
# The client is a distribution of its own.
NOT_OF_THE_CLIENT = (
    "pydantic", "pydantic_settings", "structlog", "grpc_reflection", "urllib3", "typer",
    "service_runtime", "embedder_service", "combiner_service", "combiner_training", "garments",
    "search_service", "vector_store", "indexer", "cir_cli",
)  # fmt: skip
BLOCK = f"""
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Hide())
import importlib.util
find = importlib.util.find_spec
import cir_cli.errors
cir_cli.errors.find_spec = lambda name: None if name in {HEAVY!r} else find(name)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run code where only the base install can be imported."""
    return subprocess.run(
        [sys.executable, "-c", BLOCK + code], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_client_needs_its_own_requirements_alone() -> None:
    hidden = (*HEAVY, *NOT_OF_THE_CLIENT)
    code = f"import sys; sys.modules |= dict.fromkeys({hidden!r}); import cir; "
    code += "cir.Client('127.0.0.1:1').close(); print(cir.Turn(text='x').message().text)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "x"), done.stderr


def test_images_do_not_load_the_client() -> None:
    code = "import sys, cir.images; assert 'cir.client' not in sys.modules; import cir; "
    code += "print(cir.filters.Range is cir.Range, all(hasattr(cir, name) for name in cir.__all__), "
    code += "hasattr(cir, 'nothing'), {'Client', '__version__'} <= set(dir(cir)), cir.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, f"True True False True {__version__}"), done.stderr


def test_help_needs_the_base_install_alone() -> None:
    commands = ["up", "index", "search", "catalogs", "items", "doctor", "dataset", "garments", "demo"]
    commands += ["features", "train", "evaluate", "compare", "cirr-submission", "circo-submission"]
    lines = [["--help"], ["--version"], *([command, "--help"] for command in commands)]
    done = run(f"import cir_cli.main; print([cir_cli.main.run(line) for line in {lines!r}])")
    assert done.stdout.splitlines()[-1] == str([0] * len(lines)), done.stderr


@pytest.mark.parametrize("arguments", [["search", "x", "--text", "y"], ["catalogs"], ["items", "x"]])
def test_commands_that_only_call_get_as_far_as_the_server(arguments: list[str]) -> None:
    done = run(f"import cir_cli.main; cir_cli.main.main([*{arguments!r}, '--server', '127.0.0.1:1'])")
    assert done.returncode == 1
    assert done.stderr.startswith("cir: cannot reach 127.0.0.1:1")


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["up"], "demo"),
        (["demo"], "demo"),
        (["index", "shop", "."], "indexer"),
        (["features", "extract", *DATA, "--out", "x"], "embedder"),
        (["train", *DATA, "--features", "x", "--out", "x"], "train"),
    ],
)
def test_the_others_say_what_to_install(arguments: list[str], extra: str) -> None:
    done = run(f"import cir_cli.main; cir_cli.main.main({arguments!r})")
    assert done.returncode == 1
    assert f'pip install "composed-image-retrieval[{extra}]"' in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_model_by_name_says_that_it_needs_torch() -> None:
    arguments = ["--architecture", "ViT-B-32", "--pretrained", "openai", "--port", "0"]
    code = "from embedder_service.application import EmbedderApplication; import sys; "
    code += (
        "from embedder_service.settings import EmbedderSettings; from service_runtime.server import main; "
    )
    code += f"sys.exit(main(EmbedderSettings, EmbedderApplication, {arguments!r}))"
    done = run(code)
    assert done.returncode == 1
    assert "ViT-B-32 by name needs; install the extra [torch]" in done.stderr
    assert "cir models export" in done.stderr
    assert done.stderr.count("\n") == 1
