"""The file that CIRCO's test server takes, checked before it is written."""

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

IMAGES = 50
"""Images of each answer."""

CircoSubmission = Mapping[str, Sequence[int]]


def circo_submission(combiner: Evaluated, queries: EvaluationQueries) -> dict[str, list[int]]:
    """Return the numbers of the first 50 images by query id, best first.

    The reference stays in, unless the protocol drops it, as in the published evaluation.

    Raises:
        EvaluationError: A query cannot be answered: the server wants every one.
    """
    if queries.coverage.answered != queries.coverage.queries or queries.coverage.gallery_missing:
        raise EvaluationError(
            f"the test server wants every query over all images: {queries.coverage.text}; see what is "
            "missing with: cir dataset check"
        )
    vectors, _ = combine_all(
        combiner,
        queries.image_features,
        queries.text_features,
        queries.texts,
        images=queries.images,
    )
    best = top(vectors, queries.gallery, IMAGES, queries.excluded)
    return {
        query: [int(queries.names[position]) for position in row if position != NONE]
        for query, row in zip(queries.ids, best, strict=True)
    }


def check_circo_submission(
    submission: CircoSubmission, queries: Sequence[Query], names: Sequence[str]
) -> str:
    """Return the text of a submission's file.

    `queries` and `names` are those of the split: every query must be there, with 50 different known images.

    Raises:
        EvaluationError: The server would not take it.
    """
    if wrong := sorted({query.id for query in queries} ^ submission.keys()):
        raise EvaluationError(
            f"the submission has not exactly the split's queries: {wrong[0]!r} and {len(wrong) - 1} more are "
            "missing or unknown"
        )
    known = {int(name) for name in names}
    for query, answer in submission.items():
        if len(answer) != IMAGES or len(set(answer)) != IMAGES or not known.issuperset(answer):
            raise EvaluationError(
                f"query {query} of the submission is {answer!r:.200}; expected {IMAGES} different images of "
                "the split"
            )
    return json.dumps({query: list(answer) for query, answer in submission.items()})


def write_circo_submission(
    path: Path, submission: CircoSubmission, queries: Sequence[Query], names: Sequence[str]
) -> Path:
    """Check, then write.

    Raises:
        EvaluationError: The server would not take it.
        OSError: The file cannot be written.
    """
    text = check_circo_submission(submission, queries, names)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return path
