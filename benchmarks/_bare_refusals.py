"""A bare gRPC server that refuses every call with RetryInfo, and does nothing else. Prints its address.

What it takes from the machine is what offering and refusing a load costs before any service is involved.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from cir.channel import MAX_MESSAGE_BYTES


def _refusal() -> Any:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=1)))
    return rpc_status.to_status(
        status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="try again later", details=[detail])
    )


class _Refuse(grpc.GenericRpcHandler):
    """Any method, whose message is read as bytes."""

    def __init__(self) -> None:
        self._handler: Any = grpc.unary_unary_rpc_method_handler(self._refuse)
        self._status = _refusal()

    def service(self, _details: Any) -> Any:
        """The one handler."""
        return self._handler

    async def _refuse(self, _content: bytes, context: Any) -> None:
        await context.abort_with_status(self._status)


async def _main() -> None:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)])
    server.add_generic_rpc_handlers((_Refuse(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_main())
