"""OpenVINO as every service takes it: one core for the process, and no word to anybody.

Imported as it comes, OpenVINO starts a process that reports the import to its makers over the network.
Without the package that does so it goes on silently; nothing else may import `openvino`.
"""

from __future__ import annotations

import sys

# Python then answers its import with ImportError, which OpenVINO takes for "not installed".
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402
from openvino import opset13  # noqa: E402

core = openvino.Core()

__all__ = ["core", "openvino", "opset13"]
