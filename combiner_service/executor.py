"""Combining the calls of one batch: requests to features, features to answers, errors to refusals."""

from __future__ import annotations

import time
from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration

from cir.combiner.v1 import combiner_pb2 as pb
from cir.common.v1 import errors_pb2, vectors_pb2
from cir.vectors import DimensionError, VectorError, pack, unpack
from combiner_service import errors
from combiner_service.combine_queue import Job, Outcome
from combiner_service.combiner import Combined, Composer, Float32, Pairs
from combiner_service.errors import CombinerError
from combiner_service.inversion import Inverted
from combiner_service.metrics import CombinerMetrics
from combiner_service.registry import Registry
from combiner_service.request import CombineCall, check_fingerprints
from service_runtime.errors import ServiceError
from service_runtime.logging import get_logger


class CombineExecutor:
    """Executor of jobs of one name, with the combiners of a registry. Safe to use from several threads."""

    def __init__(self, registry: Registry, metrics: CombinerMetrics) -> None:
        self._registry = registry
        self._metrics = metrics

    def __call__(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        """An answer or a refusal for each job, in order. One job's fault concerns no other."""
        name = jobs[0].call.name
        outcomes: dict[int, Outcome] = {}
        pairs: dict[int, Pairs] = {}
        try:
            # Before the network is loaded: a refusal should not cost a read of its weights.
            info = self._registry.info(name)
            for index, job in enumerate(jobs):
                try:
                    check_fingerprints(job.call, info)
                    pairs[index] = _pairs(job.call)
                except (CombinerError, ServiceError) as error:
                    outcomes[index] = _refused(error)
            if pairs:
                combiner = self._registry.get(name)
                outcomes |= self._combined(jobs, pairs, combiner)
        except CombinerError as error:
            # The name's fault: it concerns every job that was not refused for its own.
            outcomes = {index: outcomes.get(index) or to_service_error(error) for index in range(len(jobs))}
        return [outcomes[index] for index in range(len(jobs))]

    def _combined(
        self, jobs: Sequence[Job], pairs: dict[int, Pairs], combiner: Composer
    ) -> dict[int, Outcome]:
        started = time.perf_counter_ns()
        results = _combine_all(combiner, list(pairs.values()))
        elapsed = time.perf_counter_ns() - started
        items = sum(len(call.image_features) for call in pairs.values())
        self._metrics.combined(combiner.info.name, items, elapsed / 1e9)
        outcomes: dict[int, Outcome] = {}
        for index, result in zip(pairs, results, strict=True):
            if isinstance(result, errors.BadAnswerError):
                get_logger().error("combining failed", combiner=combiner.info.name, exc_info=result)
            if isinstance(result, Exception):
                outcomes[index] = _refused(result)
                continue
            try:
                outcomes[index] = _response(jobs[index].call, combiner, result, elapsed)
            except CombinerError as error:
                outcomes[index] = to_service_error(error)
            except TypeError as error:
                outcomes[index] = _failure(combiner, error)
        return outcomes


def _combine_all(combiner: Composer, calls: Sequence[Pairs]) -> Sequence[object]:
    """Combine all at once; where that fails as a whole (memory, say), each alone, so that few fail."""
    try:
        return combiner.combine_all(calls)
    except Exception as error:
        if len(calls) == 1:
            return [_failure(combiner, error)]
    return [_combine_all(combiner, [call])[0] for call in calls]


def _failure(combiner: Composer, error: Exception) -> ServiceError:
    get_logger().error("combining failed", combiner=combiner.info.name, exc_info=error)
    return ServiceError(
        errors_pb2.MODEL_FAILED, f"{combiner.info.name} failed on this call: {type(error).__name__}"
    )


def _response(call: CombineCall, combiner: Composer, result: object, nanoseconds: int) -> pb.CombineResponse:
    # Of the combiner that was used: the file may have been replaced since the first check.
    fingerprint = check_fingerprints(call, combiner.info)
    elapsed = Duration()
    elapsed.FromNanoseconds(nanoseconds)
    response = pb.CombineResponse(combiner=combiner.info.name, elapsed=elapsed)
    match result:
        case Combined():
            vectors = pack(result.query_vectors, fingerprint=fingerprint, encoding=call.encoding)
            response.query_vectors.CopyFrom(vectors)
            response.text_weights.extend(result.text_weights.tolist())
            if result.lambdas is not None:
                response.lambdas.extend(result.lambdas.tolist())
        case Inverted():
            words = pack(result.words, fingerprint=fingerprint, encoding=call.encoding)
            response.word_embeddings.CopyFrom(words)
            response.template = result.template
        case _:
            raise TypeError(f"{combiner.info.name} answered with a {type(result).__name__}")
    return response


def _pairs(call: CombineCall) -> Pairs:
    return Pairs(
        _features(call.image_features, "image_features"),
        _features(call.text_features, "text_features"),
        call.text_weight,
    )


def _features(batch: vectors_pb2.VectorBatch, field: str) -> Float32:
    try:
        # NaN and infinity are found by the combiner, which names the row.
        return unpack(batch, finite=False)
    except VectorError as error:
        raise vector_error(error, field) from error


def _refused(error: Exception) -> Exception:
    return to_service_error(error) if isinstance(error, CombinerError) else error


_REASONS: dict[type[Exception], errors_pb2.ErrorReason.ValueType] = {
    errors.InvalidFeaturesError: errors_pb2.FIELD_INVALID,
    errors.WrongDimensionError: errors_pb2.WRONG_DIMENSION,
    errors.NotFiniteError: errors_pb2.NOT_FINITE,
    errors.TextWeightOutOfRangeError: errors_pb2.OUT_OF_RANGE,
    errors.TextWeightNotTakenError: errors_pb2.FIELD_INVALID,
    errors.CombinerNotFoundError: errors_pb2.COMBINER_NOT_FOUND,
    errors.CombinerUnusableError: errors_pb2.COMBINER_UNUSABLE,
    errors.FingerprintMismatchError: errors_pb2.FINGERPRINT_MISMATCH,
    errors.BadAnswerError: errors_pb2.MODEL_FAILED,
}


def to_service_error(error: errors.CombinerError) -> ServiceError:
    """The refusal for an error of combining."""
    return ServiceError(_REASONS[type(error)], str(error), field=error.field)


def vector_error(error: VectorError, field: str) -> ServiceError:
    """The refusal for a batch of vectors that cannot be read."""
    reason = errors_pb2.WRONG_DIMENSION if isinstance(error, DimensionError) else errors_pb2.FIELD_INVALID
    return ServiceError(reason, f"{field}: {error}", field=field)
