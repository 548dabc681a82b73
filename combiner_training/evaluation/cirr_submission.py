"""The two files that CIRR's test server takes, checked before they are written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from combiner_training.datasets.base import Query
from combiner_training.evaluation.evaluate import EvaluationError, combine_all
from combiner_training.evaluation.queries import EvaluationQueries
from combiner_training.evaluation.ranking import NONE, top
from combiner_training.evaluation.sentences import Evaluated
from service_runtime.files import write_text

VERSION = "rc2"
#: Names for each query by the file's metric.
NAMES = {"recall": 50, "recall_subset": 3}
MAX_BYTES = 5_000_000

Submission = dict[str, str | list[str]]


def cirr_submission(combiner: Evaluated, queries: EvaluationQueries) -> dict[str, Submission]:
    """Make both submissions by metric: 50 names of the gallery and 3 of the group, best first, by pair id.

    The reference is in neither.

    Raises:
        EvaluationError: An image is missing: the server wants every query.
    """
    if queries.coverage.answered != queries.coverage.queries or not queries.has_groups:
        raise EvaluationError(
            f"the test server wants every query of CIRR with its group: {queries.coverage.text}; "
            "see what is missing with: cir dataset check"
        )
    vectors, _ = combine_all(
        combiner,
        queries.image_features,
        queries.text_features,
        queries.texts,
        images=queries.images,
    )
    best = top(vectors, queries.gallery, NAMES["recall"], queries.references)
    files: dict[str, Submission] = {metric: {"version": VERSION, "metric": metric} for metric in NAMES}
    for index, (pair, row) in enumerate(zip(queries.ids, best, strict=True)):
        files["recall"][pair] = [queries.names[position] for position in row if position != NONE]
        group = queries.members[index]
        group = group[group != NONE]
        order = top(vectors[index : index + 1], queries.gallery[group], NAMES["recall_subset"])[0]
        files["recall_subset"][pair] = [queries.names[group[place]] for place in order if place != NONE]
    return files


def check_submission(
    submission: Mapping[str, str | list[str]], queries: Sequence[Query], names: Sequence[str]
) -> str:
    """Return the text of a submission's file.

    `queries` and `names` are those of the test split: every pair must be there, with the right number of
    known names, none twice, not its reference, and for the subset metric only of its group.

    Raises:
        EvaluationError: The server would not take it.
    """
    metric = str(submission.get("metric"))
    if submission.get("version") != VERSION or metric not in NAMES:
        raise EvaluationError(f"a submission has version {VERSION!r} and a metric of {', '.join(NAMES)}")
    expected = {query.id for query in queries} | {"version", "metric"}
    if wrong := sorted(expected ^ submission.keys()):
        raise EvaluationError(
            f"the submission for {metric} has not exactly the split's pairs: {wrong[0]!r} and "
            f"{len(wrong) - 1} more are missing or unknown"
        )
    known = set(names)
    for query in queries:
        answer = submission[query.id]
        allowed = known if metric == "recall" else known & set(query.group)
        if (
            not isinstance(answer, list)
            or len(answer) != NAMES[metric]
            or len(set(answer)) != len(answer)
            or query.reference in answer
            or not allowed.issuperset(answer)
        ):
            raise EvaluationError(
                f"pair {query.id} of the submission for {metric} is {answer!r:.200}; expected "
                f"{NAMES[metric]} different names of the split (for the subset of its group), "
                "the reference not among them"
            )
    text = json.dumps(submission, sort_keys=True)
    if len(text) > MAX_BYTES:
        raise EvaluationError(f"the file for {metric} has {len(text)} bytes; the server takes {MAX_BYTES}")
    return text


def write_submission(
    folder: Path, files: Mapping[str, Submission], queries: Sequence[Query], names: Sequence[str]
) -> tuple[Path, ...]:
    """Check both, then write both.

    Raises:
        EvaluationError: The server would not take one of them.
        OSError: A file cannot be written.
    """
    texts = {metric: check_submission(files[metric], queries, names) for metric in NAMES}
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for metric, text in texts.items():
        path = folder / f"{metric}_submission.json"
        write_text(path, text)
        paths.append(path)
    return tuple(paths)
