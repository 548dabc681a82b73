"""Changes of attributes, and what is asked for once they are made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from combiner_service.garments.attributes import VALUES, Attributes, names_of


@dataclass(frozen=True, slots=True)
class Edit:
    """One attribute that is to have another value."""

    attribute: str
    value: str


def changed(wanted: Attributes, edit: Edit) -> dict[str, str]:
    """What is asked for after an edit: whatever it does not name stays.

    With a new kind, colour and pattern stay, and so do the finer attributes that both kinds have; those that
    only the new kind has are open: a garment is right with any value of them.
    """
    values = {**wanted, edit.attribute: edit.value}
    return {name: values[name] for name in names_of(values["kind"]) if name in values}


def all_changed(wanted: Attributes, edits: Iterable[Edit]) -> dict[str, str]:
    """What is asked for after several edits, the one of the kind first."""
    values = dict(wanted)
    for edit in sorted(edits, key=lambda edit: edit.attribute != "kind"):
        values = changed(values, edit)
    return values


def possible_edits(wanted: Attributes, attribute: str) -> tuple[Edit, ...]:
    """The edits of one attribute that change something; empty for one that the kind does not have."""
    if attribute not in names_of(wanted["kind"]):
        return ()
    return tuple(Edit(attribute, value) for value in VALUES[attribute] if value != wanted.get(attribute))
