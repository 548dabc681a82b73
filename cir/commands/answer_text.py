"""A search answer for people."""

from __future__ import annotations

from cir.commands.output import console, payload_text, table
from cir.search_answer import Explanation, SearchAnswer, Timings


def print_answer(answer: SearchAnswer) -> None:
    """Results as a table, then how they came about and where the time went."""
    out = console()
    rows = [
        (str(result.rank), f"{result.score:.4f}", result.id, payload_text(result.payload))
        for result in answer
    ]
    if rows:
        out.print(table(("rank", "score", "id", "payload"), rows, right=("rank", "score")))
    else:
        out.print("no item passes")
    out.print(f"{explanation_text(answer.explanation)}; {timings_text(answer.timings)}")


def explanation_text(explanation: Explanation) -> str:
    """How each turn was taken, by which combiner, in which version."""
    turns = ", then ".join(
        turn.kind.replace("_", " ")
        + (f" (text weight {turn.text_weight:.2f})" if turn.kind in ("composed", "continued") else "")
        for turn in explanation.turns
    )
    combiner = f" by {explanation.combiner}" if explanation.combiner else ""
    feedback = f", feedback by {explanation.feedback}" if explanation.feedback else ""
    return f"{turns}{combiner}{feedback}; version {explanation.version}{_exactness(explanation)}"


def _exactness(explanation: Explanation) -> str:
    if explanation.exact:
        return ", exact"
    if explanation.unindexed_items:
        return f", approximate, {explanation.unindexed_items} items are in no index yet"
    return "" if explanation.unindexed_items is None else ", approximate"


def timings_text(timings: Timings) -> str:
    """Milliseconds of each stage that happened."""
    stages = {
        "image": timings.embed_images,
        "text": timings.embed_texts,
        "lookup": timings.lookup,
        "combine": timings.combine,
        "store": timings.store,
    }
    parts = ", ".join(
        f"{name} {seconds * 1000:.1f}" for name, seconds in stages.items() if seconds is not None
    )
    total = f"{timings.total * 1000:.1f} ms" if timings.total is not None else "unknown time"
    return f"{total} ({parts})" if parts else total
