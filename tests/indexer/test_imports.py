"""The indexer runs where neither torch nor pyarrow is."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.service


def test_importing_the_indexer_needs_neither_torch_nor_pyarrow_nor_an_engine() -> None:
    heavy = ["torch", "open_clip", "pyarrow", "qdrant_client", "qdrant_edge"]
    code = f"import sys, indexer; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
