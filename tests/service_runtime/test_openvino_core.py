"""OpenVINO tells nobody that it is used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_PROGRAM = """
import sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "os.fork", "os.posix_spawn", "subprocess.Popen"):
        sys.stderr.write(f"{event} {arguments}")
        sys.stderr.flush()
        __import__("os")._exit(3)

sys.addaudithook(watch)
import numpy
from combiner_service.cpu_network import CpuNetwork
from combiner_service.network_spec import NetworkSizes, WeightType

sizes = NetworkSizes(8, 8, 8)
ones = numpy.ones((1, 8), numpy.float32)
weights = {name: numpy.ones(shape, numpy.float32) for name, shape in sizes.shapes().items()}
CpuNetwork(weights, weight_type=WeightType.INT8)(ones, ones)
assert 'openvino' in sys.modules
"""


@pytest.mark.service
def test_a_network_runs_without_a_connection_or_another_process() -> None:
    ended = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_nothing_else_imports_openvino() -> None:
    found = []
    for path in ROOT.glob("[a-z]*/**/*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            if any(name.split(".")[0] in ("openvino", "openvino_telemetry") for name in names):
                found.append(str(path.relative_to(ROOT)))
    assert set(found) == {"service_runtime/openvino_core.py"}
