"""Facts about this machine that decide how a model is run: instruction sets, cores."""

from __future__ import annotations

import os
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
# Either instruction set multiplies bfloat16 in hardware; without them it is slower than float32.
_BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})


def read_cpu_flags() -> frozenset[str]:
    """Return the instruction sets of this host's CPU; empty where the system does not report them."""
    try:
        lines = _CPU_INFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return frozenset(flags.split())


def multiplies_bfloat16(cpu_flags: frozenset[str] | None = None) -> bool:
    """Return true where the CPU multiplies bfloat16 in hardware."""
    return bool((read_cpu_flags() if cpu_flags is None else cpu_flags) & _BFLOAT16_FLAGS)


def core_count() -> int:
    """Return the cores of this host, 1 where the system does not report them."""
    return os.cpu_count() or 1
