"""Errors of the client, its transport and its local mode as errors of the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException

from vector_store.errors import InvalidQuery, StoreError, StoreUnavailable, VersionNotFound


class AlreadyExistsError(StoreError):
    """A collection of that name exists; another process was faster."""


@contextmanager
def engine_errors(act: str) -> Iterator[None]:
    """Run client calls; `act` says what was being done ('search ...'), for the message."""
    try:
        yield
    except StoreError:
        raise
    except grpc.RpcError as error:
        raise _from_rpc(act, error) from error
    except (QdrantException, ApiException, grpc.aio.UsageError, OSError) as error:
        raise StoreUnavailable(f"cannot {act}: {error}") from error
    except (ValueError, RuntimeError) as error:
        # How the client's local mode reports what a server answers with a status code.
        text = str(error)
        if "not found" in text:
            raise VersionNotFound(f"cannot {act}: {text}") from error
        if "already exists" in text:
            raise AlreadyExistsError(text) from error
        raise StoreUnavailable(f"cannot {act}: {text}") from error


def _from_rpc(act: str, error: grpc.RpcError) -> StoreError:
    code = error.code()
    details = error.details() or code.name
    match code:
        case grpc.StatusCode.NOT_FOUND:
            return VersionNotFound(f"cannot {act}: {details}")
        case grpc.StatusCode.ALREADY_EXISTS:
            return AlreadyExistsError(details)
        case grpc.StatusCode.INVALID_ARGUMENT if "already exists" in details:
            return AlreadyExistsError(details)
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.OUT_OF_RANGE:
            return InvalidQuery(f"cannot {act}: Qdrant refuses it: {details}")
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return StoreUnavailable(
                f"cannot {act}: Qdrant refuses the API key ({details}); set the right key"
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return StoreUnavailable(
                f"cannot {act}: Qdrant did not answer in time; try again or allow more time"
            )
        case _:
            return StoreUnavailable(f"cannot {act}: {code.name}: {details}")
