/** Failed calls as one class, with what the services say about them. */

import { BinaryReader } from "@bufbuild/protobuf/wire";
import { fromBinary } from "@bufbuild/protobuf";
import { AnySchema, DurationSchema } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import type { ServiceError } from "@grpc/grpc-js";

import { ErrorReason } from "./gen/cir/common/v1/errors_pb.js";

/** A failed call. */
export class CirError extends Error {
  override readonly name = "CirError";
  /** For programs; `ErrorReason.ERROR_REASON_UNSPECIFIED` where no service said one, and for one that is newer than this package. */
  reason = ErrorReason.ERROR_REASON_UNSPECIFIED;
  /** Name of the reason, such as "CATALOG_NOT_FOUND"; empty where no service said one. */
  reasonName = "";
  /** Path of the request's field at fault, where one is. */
  field = "";
  /** Milliseconds after which trying again makes sense, 0 where none were said. */
  retryAfterMs = 0;
  /** Further facts of the reason, such as a limit. */
  metadata: Record<string, string> = {};
  /** Id under which the services logged the call. */
  requestId = "";

  constructor(
    message: string,
    /** gRPC's code. */
    readonly code: status,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  /** Name of the code, such as "NOT_FOUND". */
  get codeName(): string {
    return status[this.code];
  }
}

/** The error of a failed call of gRPC. */
export function fromRpc(error: ServiceError): CirError {
  const failed = new CirError(error.details, error.code, { cause: error });
  failed.requestId = String(error.metadata?.get("x-request-id")[0] ?? "");
  const packed = error.metadata?.get("grpc-status-details-bin")[0];
  if (packed instanceof Buffer) {
    try {
      readDetails(packed, failed);
    } catch {
      // What lies between client and service may send anything; the code and the message are there all the same.
    }
  }
  return failed;
}

/** The reason of a name. TypeScript's enums have their numbers among the names. */
function reasonOf(name: string): ErrorReason {
  const reason: unknown = (ErrorReason as unknown as Record<string, unknown>)[name];
  return typeof reason === "number" ? reason : ErrorReason.ERROR_REASON_UNSPECIFIED;
}

/** Read the details of a google.rpc.Status into an error. */
function readDetails(packed: Uint8Array, failed: CirError): void {
  for (const detail of fields(packed).get(3) ?? []) {
    const { typeUrl, value } = fromBinary(AnySchema, detail);
    const found = fields(value);
    if (typeUrl.endsWith("/google.rpc.ErrorInfo") && text(found.get(2)) === "cir") {
      failed.reasonName = text(found.get(1));
      failed.reason = reasonOf(failed.reasonName);
      const entries = (found.get(3) ?? []).map((entry) => fields(entry));
      failed.metadata = Object.fromEntries(entries.map((entry) => [text(entry.get(1)), text(entry.get(2))]));
    } else if (typeUrl.endsWith("/google.rpc.BadRequest")) {
      failed.field = text(fields(found.get(1)?.[0] ?? new Uint8Array()).get(1));
    } else if (typeUrl.endsWith("/google.rpc.RetryInfo")) {
      const delay = fromBinary(DurationSchema, found.get(1)?.[0] ?? new Uint8Array());
      failed.retryAfterMs = Number(delay.seconds) * 1000 + delay.nanos / 1e6;
    }
  }
}

/** The length-delimited fields of a message by number: texts and messages of google.rpc, which have no stubs here. */
function fields(message: Uint8Array): Map<number, Uint8Array[]> {
  const found = new Map<number, Uint8Array[]>();
  const reader = new BinaryReader(message);
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    if (type === 2) {
      found.set(number, [...(found.get(number) ?? []), reader.bytes()]);
    } else {
      reader.skip(type, number);
    }
  }
  return found;
}

function text(values: Uint8Array[] | undefined): string {
  return new TextDecoder().decode(values?.at(-1));
}
