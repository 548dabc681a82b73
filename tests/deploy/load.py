"""A steady load of composed searches. Needs the client alone, so that it also runs in a container.

    python load.py ADDRESS CATALOG

reads ids of items from the first line of its input, searches until its input ends, and prints what came of it
as JSON.
"""

from __future__ import annotations

import json
import secrets
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence

import cir
from cir.errors import CirError


class Load:
    """Threads that search without pause while the block lasts, and keep what they were answered."""

    def __init__(
        self,
        address: str,
        catalog: str,
        items: Sequence[str],
        *,
        threads: int = 2,
        wait_for_ready: bool = False,
    ) -> None:
        self._address, self._catalog, self._items = address, catalog, items
        self._wait_for_ready = wait_for_ready
        # Texts that no other load has asked for: the search service remembers the features of texts.
        self._name = secrets.token_hex(4)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.errors: Counter[str] = Counter()
        self.messages: list[str] = []
        self.versions: list[str] = []
        self.answered = 0
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        print(f"{self.answered} searches answered, failed: {dict(self.errors)}")

    def more(self, count: int, timeout: float = 120) -> None:
        """Wait for so many further answers."""
        target, deadline = self.answered + count, time.monotonic() + timeout
        while self.answered < target:
            assert time.monotonic() < deadline, (self.answered, self.errors, self.messages[-3:])
            time.sleep(0.05)

    def _run(self, number: int) -> None:
        with cir.Client(self._address, timeout=30, wait_for_ready=self._wait_for_ready) as client:
            count = 0
            while not self._stop.is_set():
                count += 1
                item = self._items[(number * 7919 + count) % len(self._items)]
                # A text that nobody has asked for, so that each search needs the embedder.
                text = f"in red, {self._name} {number} {count}"
                try:
                    answer = client.search(self._catalog, item=item, text=text, page_size=5)
                except CirError as error:
                    with self._lock:
                        self.errors[error.code.name] += 1
                        self.messages.append(str(error))
                    continue
                with self._lock:
                    self.answered += 1
                    self.versions.append(answer.explanation.version)


def main() -> None:
    address, catalog = sys.argv[1:]
    with Load(address, catalog, sys.stdin.readline().split()) as load:
        sys.stdin.read()
    print(json.dumps({"answered": load.answered, "errors": load.errors, "messages": load.messages[:3]}))


if __name__ == "__main__":
    main()
