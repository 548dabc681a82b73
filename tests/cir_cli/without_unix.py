"""Run `cir` without what Python has on Unix alone: python -m tests.cir_cli.without_unix ARGUMENTS.

The libraries that come with the command keep what they use; the command itself finds nothing of it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from functools import partial
from types import SimpleNamespace
from typing import Any

import filelock
import grpc.aio
import numpy as np
from PIL import Image

MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix_ipc")
NAMES: dict[Any, tuple[str, ...]] = {
    os: (
        "fork", "forkpty", "getuid", "geteuid", "getgid", "getpgid", "killpg", "setsid", "nice", "statvfs",
        "fstatvfs", "pread", "preadv", "pwrite", "pwritev", "sched_getaffinity", "sysconf", "mkfifo", "chown",
        "O_CLOEXEC", "O_NONBLOCK", "O_NOFOLLOW", "O_DIRECTORY", "SEEK_DATA", "SEEK_HOLE", "getloadavg",
    ),
    signal: ("SIGHUP", "SIGPROF", "SIGALRM", "setitimer", "ITIMER_PROF", "pause", "sigwait"),
    socket: ("AF_UNIX",),
}  # fmt: skip


def hide() -> None:
    """Take it all away, and let nothing ask a process whether it lives: on Windows that would end it."""
    # asyncio wakes its loop by a pair of sockets, which each system has.
    socket.socketpair = partial(socket.socketpair, socket.AF_UNIX)
    statvfs = os.statvfs

    def disk_usage(path: Any) -> Any:
        """Python's own, which asks Windows in another way."""
        status = statvfs(path)
        return SimpleNamespace(free=status.f_bavail * status.f_frsize)

    shutil.disk_usage = disk_usage
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for place, names in NAMES.items():
        for name in names:
            if hasattr(place, name):
                delattr(place, name)

    def kill(_pid: int, _signal: int) -> None:
        raise AssertionError("os.kill with 0 ends a process on Windows")

    os.kill = kill


if __name__ == "__main__":
    used = (asyncio, multiprocessing, subprocess, tempfile, filelock, grpc.aio, np, Image)
    hide()
    from cir_cli.main import main

    main()
