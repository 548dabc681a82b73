"""Combiners and inversions that other distributions bring, found by their entry points."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import EntryPoint, entry_points

from combiner_service.checkpoint_directory import NAME, PREFIXES
from combiner_service.combiner import Combiner, Composer
from combiner_service.errors import PluginError
from combiner_service.inversion import Inversion

#: Entry points of this group name callables without arguments, such as classes, that return a `Composer`.
GROUP = "cir.combiners"


def load_plugins(taken: Collection[str]) -> list[Composer]:
    """Load the composers of all installed distributions, by the name of their entry points.

    The name of an entry point is the combiner's own, as `info.name` has it, and none of those in `taken`.

    Raises:
        PluginError: One cannot be loaded, is no composer, or has another name or a name that is taken.
    """
    combiners: dict[str, Composer] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        combiner = _load(point)
        name = combiner.info.name
        if name != point.name:
            raise PluginError(f"{_origin(point)} is named {name!r}; give the entry point the same name")
        if not NAME.fullmatch(name):
            raise PluginError(
                f"{_origin(point)} has an unusable name; expected letters, digits, '.', '_' and '-' alone "
                f"(names with {' or '.join(PREFIXES.values())} are those of checkpoints)"
            )
        if name in taken or name in combiners:
            raise PluginError(f"{_origin(point)} has a name that is taken; uninstall it or rename it")
        combiners[name] = combiner
    return list(combiners.values())


def _load(point: EntryPoint) -> Composer:
    try:
        combiner = point.load()()
    except Exception as error:
        raise PluginError(
            f"{_origin(point)} cannot be loaded ({type(error).__name__}: {error}); update or uninstall it"
        ) from error
    if not isinstance(combiner, Combiner | Inversion):
        raise PluginError(
            f"{_origin(point)} gives a {type(combiner).__name__}; expected a subclass of "
            "combiner_service.combiner.Combiner or combiner_service.inversion.Inversion, or a function that "
            "returns an instance"
        )
    return combiner


def _origin(point: EntryPoint) -> str:
    distribution = f" of {point.dist.name}" if point.dist else ""
    return f"the combiner {point.name!r}{distribution} ({point.value})"
