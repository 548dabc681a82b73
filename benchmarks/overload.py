"""Ten times the embedder's capacity for a while: what it still answers, what it refuses, how it recovers.

    python -m benchmarks.overload [--architecture ViT-B-32] [--seconds 30] [--factor 10] [--json FILE]

Peak goodput is measured first, by clients that wait for their answers (closed loop); then ten times that rate
is offered whatever comes back (open loop); then the closed loop again. The load comes from processes of its
own, and the health of the service is asked for throughout. Run for the model given, and for one so small that
the service itself is the limit, not the model.

The load shares the cores with the service here. How much that takes is measured too: the closed loop beside
the same load offered to a bare gRPC server that refuses all of it (`_bare_refusals.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks._processes import NAMES, Running, running, small_model
from cir.channel import is_serving

OUTSTANDING = 2000


def main() -> None:
    """Run both variants, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--architecture", default="ViT-B-32")
    parser.add_argument("--pretrained", default="random")
    parser.add_argument("--seconds", type=float, default=30, help="length of the overload")
    parser.add_argument("--factor", type=float, default=10, help="offered load over peak goodput")
    parser.add_argument("--clients", type=int, default=16, help="clients of the closed loop")
    parser.add_argument("--variant", choices=("model", "small"), action="append", help="only this one")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    report: dict[str, Any] = {"cores": os.cpu_count(), "seconds": options.seconds, "factor": options.factor}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = {"ARCHITECTURE": options.architecture, "PRETRAINED": options.pretrained}
        for variant, settings in {"model": model, "small": small_model(folder)}.items():
            if options.variant and variant not in options.variant:
                continue
            environment = settings | {"LOG_LEVEL": "error", "IMAGE_CACHE_ITEMS": "0"}
            with running("embedder_service", environment, log=folder / f"{variant}.log") as service:
                report[variant] = overload(service, options)
                report[variant]["model"] = settings["ARCHITECTURE"]
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def overload(service: Running, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one service: peak, overload, recovery."""
    load(service, "closed", 3, options.clients)  # warm
    peak = len(load(service, "closed", 8, options.clients)["answered_at"]) / 8
    memory_before = service.resident_bytes()
    rate = peak * options.factor
    beside = peak_beside_bare_refusals(service, options.clients, rate - peak)
    with Health(service.address) as health, Memory(service) as memory:
        # Two processes, each with half: one Python client may not be able to offer it all.
        over = load_together(service, "open", options.seconds, rate)
        stopped = max(part["started"] for part in over) + options.seconds
        back = load(service, "closed", 6, options.clients)
    answered = sorted(at for part in over for at in part["answered_at"])
    # What was answered while the load was on, whatever was answered from the queue afterwards.
    goodput = sum(at <= stopped for at in answered) / options.seconds
    codes: Counter[str] = sum((Counter(part["codes"]) for part in over), Counter())
    refused = [ms for part in over for ms in part["refusal_ms"]] or [0.0]
    return {
        "peak_per_second": peak,
        "offered_per_second": codes.total() / options.seconds,
        "not_offered": sum(part["not_sent"] for part in over),
        "goodput_per_second": goodput,
        "goodput_over_peak": goodput / peak,
        "peak_beside_bare_refusals_per_second": beside,
        "goodput_over_peak_beside_bare_refusals": goodput / beside,
        "codes": dict(codes),
        "ended_otherwise": codes.total() - codes["OK"] - codes["RESOURCE_EXHAUSTED"],
        "refusals_without_retry_info": sum(part["without_retry_info"] for part in over),
        "refusal_ms_p50": float(np.percentile(refused, 50)),
        "refusal_ms_p99": float(np.percentile(refused, 99)),
        "memory_before_mib": memory_before >> 20,
        "memory_most_mib": max(memory.seen) >> 20,
        "memory_after_mib": service.resident_bytes() >> 20,
        "recovery_seconds": recovery(back, peak),
        "health_checks": len(health.milliseconds),
        "health_failed": health.failed,
        "health_ms_most": max(health.milliseconds),
        "health_ms_p50": statistics.median(health.milliseconds),
    }


def peak_beside_bare_refusals(service: Running, clients: int, rate: float) -> float:
    """Calls a second of the closed loop while a bare gRPC server refuses `rate` calls a second beside it."""
    command = [sys.executable, "-m", "benchmarks._bare_refusals"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        refused = [_start(address, "open", 10, rate / 2) for _ in range(2)]
        time.sleep(1)
        answered = load(service, "closed", 8, clients)["answered_at"]
        for process in refused:
            _read(process)
        server.terminate()
    return len(answered) / 8


def recovery(back: dict[str, Any], peak: float, window: float = 0.5) -> float:
    """Seconds after the overload until the rate over a window is 0.9 of the peak again."""
    at = np.array(back["answered_at"]) - back["started"]
    for start in np.arange(0, back["seconds"] - window, 0.1):
        if np.sum((at >= start) & (at < start + window)) >= 0.9 * peak * window:
            return float(start)
    return float("inf")


def load(service: Running, mode: str, seconds: float, amount: float) -> dict[str, Any]:
    """One load process, run to its end."""
    return _read(_start(service.address, mode, seconds, amount))


def load_together(service: Running, mode: str, seconds: float, rate: float) -> list[dict[str, Any]]:
    """Two load processes at the same time, each with half of the rate."""
    started = [_start(service.address, mode, seconds, rate / 2) for _ in range(2)]
    return [_read(process) for process in started]


def _start(address: str, mode: str, seconds: float, amount: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks._overload_load", address, mode]
    command += [str(seconds), str(amount), str(OUTSTANDING)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _read(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the load ended with {process.returncode}")
    report: dict[str, Any] = json.loads(output)
    return report


class Health(threading.Thread):
    """Asks for the service's health four times a second, on connections of its own."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._done = threading.Event()
        self.milliseconds: list[float] = []
        self.failed = 0

    def run(self) -> None:
        """Until the block ends."""
        while not self._done.wait(0.25):
            started = time.monotonic()
            self.failed += not is_serving(self._address, NAMES["embedder_service"], timeout=5)
            self.milliseconds.append((time.monotonic() - started) * 1000)

    def __enter__(self) -> Health:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()


class Memory(threading.Thread):
    """Looks at the service's memory twice a second."""

    def __init__(self, service: Running) -> None:
        super().__init__(daemon=True)
        self._service = service
        self._done = threading.Event()
        self.seen: list[int] = [service.resident_bytes()]

    def run(self) -> None:
        """Until the block ends."""
        while not self._done.wait(0.5):
            self.seen.append(self._service.resident_bytes())

    def __enter__(self) -> Memory:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()


def show(report: dict[str, Any]) -> None:
    """Print the table, goals beside the figures."""
    variants = [name for name in ("model", "small") if name in report]
    title = f"{report['factor']:g} times the capacity for {report['seconds']:g} s, {report['cores']} cores"
    table = Table(title=title)
    table.add_column("")
    for name in variants:
        table.add_column(report[name]["model"], justify="right")
    table.add_column("goal", justify="right")
    rows = (
        ("peak, calls/s (closed loop)", "peak_per_second", ".1f", ""),
        ("offered, calls/s", "offered_per_second", ".0f", "factor x peak"),
        ("not offered (too many outstanding)", "not_offered", "d", "0"),
        ("goodput, calls/s", "goodput_per_second", ".1f", ""),
        ("goodput / peak", "goodput_over_peak", ".2f", ">= 0.9"),
        ("peak beside bare refusals, calls/s", "peak_beside_bare_refusals_per_second", ".1f", ""),
        ("goodput / that", "goodput_over_peak_beside_bare_refusals", ".2f", ">= 0.9"),
        ("neither served nor refused", "ended_otherwise", "d", "0"),
        ("refusals without RetryInfo", "refusals_without_retry_info", "d", "0"),
        ("refusal, ms p50", "refusal_ms_p50", ".1f", ""),
        ("refusal, ms p99", "refusal_ms_p99", ".1f", "< 50"),
        ("memory before, MiB", "memory_before_mib", "d", ""),
        ("memory at most, MiB", "memory_most_mib", "d", "flat"),
        ("memory after, MiB", "memory_after_mib", "d", "flat"),
        ("recovery, s", "recovery_seconds", ".1f", "< 2"),
        ("health checks", "health_checks", "d", ""),
        ("health checks failed", "health_failed", "d", "0"),
        ("health check, ms at most", "health_ms_most", ".0f", ""),
    )
    for label, key, style, goal in rows:
        table.add_row(label, *(format(report[name][key], style) for name in variants), goal)
    Console(width=110).print(table)
    for name in variants:
        print(f"{report[name]['model']}: {report[name]['codes']}")


if __name__ == "__main__":
    main()
