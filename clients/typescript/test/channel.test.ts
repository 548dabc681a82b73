import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";

import { CirError, Client, ErrorReason, SearchRequestSchema, SearchResponseSchema, catalogName, image, turn } from "../src/index.js";
import type { SearchRequest, Tls } from "../src/index.js";
import { refusal } from "./refusal.js";

type Answer = MessageInitShape<typeof SearchResponseSchema>;
type Refusal = Partial<grpc.ServiceError>;

const ends: (() => void)[] = [];
after(() => ends.forEach((end) => end()));

/** A search service that counts its calls. */
class Replica {
  calls = 0;
  port = 0;
  sent: grpc.Metadata[] = [];
  holds = false;
  answer: (request: SearchRequest) => Answer | Refusal = () => ({});

  static async start(credentials = grpc.ServerCredentials.createInsecure()): Promise<Replica> {
    const replica = new Replica();
    const server = new grpc.Server({ "grpc.max_receive_message_length": 64 * 2 ** 20 });
    const method = {
      path: "/cir.search.v1.SearchService/Search",
      requestStream: false,
      responseStream: false,
      requestSerialize: (request: SearchRequest) => Buffer.from(toBinary(SearchRequestSchema, request)),
      requestDeserialize: (bytes: Buffer) => fromBinary(SearchRequestSchema, bytes),
      responseSerialize: (answer: Answer) => Buffer.from(toBinary(SearchResponseSchema, create(SearchResponseSchema, answer))),
      responseDeserialize: (bytes: Buffer) => fromBinary(SearchResponseSchema, bytes),
    };
    const handler: grpc.handleUnaryCall<SearchRequest, Answer> = (call, done) => {
      replica.calls += 1;
      replica.sent.push(call.metadata);
      if (replica.holds) return;
      const answer = replica.answer(call.request);
      if ("code" in answer) {
        done(answer as Refusal);
      } else {
        done(null, answer as Answer);
      }
    };
    server.addService({ Search: method }, { Search: handler });
    replica.port = await new Promise((resolve, reject) => {
      server.bindAsync("127.0.0.1:0", credentials, (error, port) =>
        error === null ? resolve(port) : reject(error),
      );
    });
    ends.push(() => server.forceShutdown());
    return replica;
  }
}

function clientOf(replicas: Replica[], key = ""): Client {
  const client = new Client(`ipv4:${replicas.map(({ port }) => `127.0.0.1:${port}`).join(",")}`, { key });
  ends.push(() => client.close());
  return client;
}

/** A client that is connected to both replicas, whose counts begin again. */
async function connected(replicas: Replica[]): Promise<Client> {
  const client = clientOf(replicas);
  while (replicas.some(({ calls }) => calls === 0)) {
    await client.search.search({});
  }
  replicas.forEach((replica) => (replica.calls = 0));
  return client;
}

test("replicas share the load", async () => {
  const replicas = [await Replica.start(), await Replica.start()];
  const client = await connected(replicas);
  for (let call = 0; call < 40; call += 1) {
    await client.search.search({});
  }
  assert.deepEqual(replicas.map(({ calls }) => calls), [20, 20]);
});

test("a replica that takes no calls costs none", async () => {
  const replicas = [await Replica.start(), await Replica.start()];
  const client = await connected(replicas);
  replicas[0]!.answer = () => ({ code: grpc.status.UNAVAILABLE, details: "draining" });
  for (let call = 0; call < 10; call += 1) {
    await client.search.search({});
  }
  assert.equal(replicas[1]!.calls, 10);
});

test("a large call that found no service is sent again", async () => {
  const replica = await Replica.start();
  replica.answer = () => (replica.calls < 3 ? { code: grpc.status.UNAVAILABLE, details: "not now" } : {});
  await clientOf([replica]).search.search({ turns: [turn(image(new Uint8Array(8 << 20)))] });
  assert.equal(replica.calls, 3);
});

test("errors have reason, field and time", async () => {
  const replica = await Replica.start();
  const metadata = refusal("OVERLOADED", { seconds: 2, nanos: Buffer.from([0x80, 0xe5, 0x9a, 0x77]) });
  metadata.set("x-request-id", "r-1");
  replica.answer = () => ({ code: grpc.status.RESOURCE_EXHAUSTED, details: "too much", metadata });
  await assert.rejects(clientOf([replica]).search.search({}), (error: CirError) => {
    assert.ok(error instanceof CirError);
    const { message, codeName, reason, reasonName, field, retryAfterMs, requestId } = error;
    assert.deepEqual(
      { message, codeName, reason, reasonName, field, retryAfterMs, requestId, metadata: error.metadata },
      {
        message: "too much",
        codeName: "RESOURCE_EXHAUSTED",
        reason: ErrorReason.OVERLOADED,
        reasonName: "OVERLOADED",
        field: "turns[0]",
        retryAfterMs: 2250,
        requestId: "r-1",
        metadata: { limit: "8" },
      },
    );
    return true;
  });
});

test("a reason that is newer than this client has its name", async () => {
  const replica = await Replica.start();
  // The second is a name that TypeScript's enums have of themselves.
  for (const name of ["FROM_TOMORROW", "4"]) {
    replica.answer = () => ({ code: grpc.status.INTERNAL, details: "no", metadata: refusal(name, { seconds: 1 }) });
    await assert.rejects(clientOf([replica]).search.search({}), {
      reason: ErrorReason.ERROR_REASON_UNSPECIFIED,
      reasonName: name,
    });
  }
});

test("an error whose details are damaged is an error all the same", async () => {
  const replica = await Replica.start();
  const metadata = new grpc.Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from([0x1a, 0xff, 0x01, 0x0a]));
  replica.answer = () => ({ code: grpc.status.NOT_FOUND, details: "none", metadata });
  await assert.rejects(clientOf([replica]).search.search({}), { message: "none", codeName: "NOT_FOUND", reasonName: "" });
});

test("the key travels with the call", async () => {
  const replica = await Replica.start();
  await clientOf([replica], "cir_secret").search.search({});
  await clientOf([replica]).search.search({});
  assert.deepEqual(replica.sent.map((sent) => sent.get("x-api-key")), [["cir_secret"], []]);
});

const folder = process.env["CIR_TEST_TLS"] ?? "";
const skip = folder === "" ? "no certificates: CIR_TEST_TLS is not set; make test-clients makes some" : false;

test("TLS in both directions", { skip }, async () => {
  const read = (name: string) => readFileSync(join(folder, name));
  const ca = read("ca.pem");
  const pair = { cert_chain: read("ca-server.crt"), private_key: read("ca-server.key") };
  const replica = await Replica.start(grpc.ServerCredentials.createSsl(ca, [pair], true));
  const own = { certificate: read("ca-client.crt"), key: read("ca-client.key") };
  const call = (tls: Tls): Promise<unknown> => {
    const client = new Client(`localhost:${replica.port}`, { tls });
    ends.push(() => client.close());
    return client.search.search({});
  };
  await call({ ca, ...own });
  await assert.rejects(call({ ca }), { codeName: "UNAVAILABLE" });
  await assert.rejects(call(own), { codeName: "UNAVAILABLE" });
  assert.equal(replica.calls, 1);
});

test("a call ends with its signal, and at its deadline", async () => {
  const replica = await Replica.start();
  const client = clientOf([replica]);
  await assert.rejects(client.search.search({}, { signal: AbortSignal.abort() }), { name: "AbortError" });
  replica.holds = true;
  await assert.rejects(client.search.search({}, { timeoutMs: 100 }), { codeName: "DEADLINE_EXCEEDED" });
  const ending = new AbortController();
  const call = client.search.search({}, { signal: ending.signal });
  ending.abort(new Error("no longer wanted"));
  await assert.rejects(call, { message: "no longer wanted" });
});

test("a time that no deadline holds is none, and what is no time is refused", async () => {
  const replica = await Replica.start();
  const client = clientOf([replica]);
  for (const timeoutMs of [Infinity, Number.MAX_SAFE_INTEGER, Number.MAX_VALUE, 2 ** 31]) {
    await client.search.search({}, { timeoutMs });
    await new Client(`127.0.0.1:${replica.port}`, { timeoutMs }).search.search({});
  }
  assert.equal(replica.calls, 8);
  for (const timeoutMs of [NaN, 0, -1, "5" as unknown as number]) {
    await assert.rejects(client.search.search({}, { timeoutMs }), { name: "TypeError", message: /^timeoutMs takes/ });
    assert.throws(() => new Client("localhost:1", { timeoutMs }), { name: "TypeError", message: /^timeoutMs takes/ });
  }
});

test("pages end with their tokens, or an error", async () => {
  const replica = await Replica.start();
  replica.answer = ({ pageToken, parent }) => {
    if (pageToken === "") return { results: [{ rank: 1 }], nextPageToken: "second" };
    if (pageToken === "second") return { results: [{ rank: 2 }], nextPageToken: parent };
    return { code: grpc.status.INVALID_ARGUMENT, details: "no such page" };
  };
  const client = clientOf([replica]);
  const ranks: number[] = [];
  for await (const { rank } of client.results({})) ranks.push(rank);
  assert.deepEqual(ranks, [1, 2]);
  await assert.rejects(async () => {
    for await (const { rank } of client.results({ parent: catalogName("x") })) ranks.push(rank);
  }, { codeName: "INVALID_ARGUMENT" });
  assert.deepEqual(ranks, [1, 2, 1, 2]);
});
