/** google.rpc.Status with ErrorInfo, BadRequest and RetryInfo, as the services send it. */

import * as grpc from "@grpc/grpc-js";

const packed = (tag: number, ...parts: (string | Buffer)[]): Buffer => {
  const bytes = Buffer.concat(parts.map((part) => Buffer.from(part)));
  return Buffer.concat([Buffer.from([tag, bytes.length]), bytes]);
};

const any = (name: string, value: Buffer): Buffer =>
  packed(0x1a, packed(0x0a, `type.googleapis.com/google.rpc.${name}`), packed(0x12, value));

/** Metadata of a refusal with a limit of 8, in turns[0]; to be tried again after a time. */
export function refusal(reason: string, delay: { seconds: number; nanos?: Buffer }): grpc.Metadata {
  const metadata = new grpc.Metadata();
  const limit = packed(0x1a, packed(0x0a, "limit"), packed(0x12, "8"));
  const nanos = delay.nanos === undefined ? [] : [Buffer.from([0x10]), delay.nanos];
  metadata.set(
    "grpc-status-details-bin",
    Buffer.concat([
      Buffer.from([0x08, 0x08]),
      any("ErrorInfo", Buffer.concat([packed(0x0a, reason), packed(0x12, "cir"), limit])),
      any("BadRequest", packed(0x0a, packed(0x0a, "turns[0]"))),
      any("RetryInfo", packed(0x0a, Buffer.from([0x08, delay.seconds]), ...nanos)),
    ]),
  );
  return metadata;
}
