"""Arenas of the C library: as many as cores, unless the operator says."""

import os
import re
import subprocess
import sys

import pytest

_PROGRAM = """
import ctypes, threading
from service_runtime.memory import limit_arenas

limit_arenas()
library = ctypes.CDLL(None)
library.malloc.restype = library.open_memstream.restype = ctypes.c_void_p
all_there = threading.Barrier(64)

def allocate():
    all_there.wait(60)
    library.malloc(ctypes.c_size_t(100_000))

threads = [threading.Thread(target=allocate) for _ in range(64)]
for thread in threads: thread.start()
for thread in threads: thread.join()
text, size = ctypes.c_char_p(), ctypes.c_size_t()
stream = ctypes.c_void_p(library.open_memstream(ctypes.byref(text), ctypes.byref(size)))
library.malloc_info(0, stream)
library.fclose(stream)
print(text.value.decode())
"""


@pytest.mark.service
@pytest.mark.parametrize(
    ("chosen", "most"),
    [({}, max(2, len(os.sched_getaffinity(0)))), ({"MALLOC_ARENA_MAX": "7"}, 7)],
)
def test_threads_share_an_arena_for_each_core_unless_the_operator_says(
    chosen: dict[str, str], most: int
) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=plain | chosen, capture_output=True, text=True, check=True
    )
    assert len(re.findall("<heap nr=", done.stdout)) == min(most, 65)
