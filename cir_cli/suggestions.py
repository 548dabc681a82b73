"""Names that may have been meant, where there is none of the name that was given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

from cir.client import Client
from cir.errors import CirError, NotFound


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return the end of a message that names what is spelled alike; empty where nothing is."""
    # Only here: nothing else needs it, and most commands find what they look for.
    from difflib import get_close_matches

    near = get_close_matches(name, [each for each in known if each != name])
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


@contextmanager
def near_names(client: Client, catalog: str, combiner: str) -> Iterator[None]:
    """Add names that are spelled alike to the error of a catalog or combiner that is not there.

    The service is asked for its names only then.
    """
    asked: dict[str, tuple[str, Callable[[], list[str]]]] = {
        "CATALOG_NOT_FOUND": (catalog, lambda: [each.name for each in client.catalogs()]),
        "COMBINER_NOT_FOUND": (combiner, lambda: list(client.info().combiners)),
    }
    try:
        yield
    except NotFound as error:
        name, names = asked.get(error.reason, ("", list))
        if name:
            with suppress(CirError):
                known = names()
                # A combiner service knows none of the combiners that embedder and search bring along.
                if error.reason == "COMBINER_NOT_FOUND" and (
                    untold := [n for n in known if n not in error.message]
                ):
                    error.message += f"; there are also: {', '.join(untold)}"
                error.message += did_you_mean(name, known)
        raise
