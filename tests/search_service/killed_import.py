"""A client that imports, in a process of its own, to be killed: ADDRESS VERSION TOKEN COUNT BATCH."""

from __future__ import annotations

import sys

import cir


def main(address: str, version: str, token: str, count: str, batch: str) -> None:
    items = [cir.ItemWrite(f"item-{n:04d}", content=b"picture %d" % n) for n in range(int(count))]
    with cir.Client(address) as client:
        client.import_items("shop", version, items, token=token, batch_size=int(batch))


if __name__ == "__main__":
    main(*sys.argv[1:])
