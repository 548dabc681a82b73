/** Requests of plain objects: what the contract has no place for is refused with its path, instead of being left out. */

import { create } from "@bufbuild/protobuf";
import type { DescField, DescMessage, DescOneof, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { ScalarType } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";

import { CirError } from "./errors.js";
import { ErrorReason } from "./gen/cir/common/v1/errors_pb.js";

/** Path of the part that is looked at: names of fields and places in lists. */
type Path = (string | number)[];

/**
 * The message of a plain object or of a message.
 *
 * Throws a TypeError for a field that the message does not have or that holds another type than it takes, and a
 * CirError for a text that is no Unicode.
 */
export function make<D extends DescMessage>(schema: D, init: MessageInitShape<D>, ...path: Path): MessageShape<D> {
  checkMessage(schema, init, path);
  return create(schema, init);
}

/** Refuse options that there are not: their names are often misspelt, and nothing else would say so. */
export function checkOptions(options: object, ...known: string[]): void {
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) {
      throw new TypeError(`there is no option ${JSON.stringify(name)}; there are ${known.join(", ")}`);
    }
  }
}

/** What a value is, for people: "a string", "null". */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (value instanceof Date && Number.isNaN(value.getTime())) return "an invalid Date";
  const name = typeof value === "object" ? (value.constructor?.name ?? "Object") : typeof value;
  return name === "Object" ? "a plain object" : `${/^[aeioAEIO]/.test(name) ? "an" : "a"} ${name}`;
}

/** A field of a message, or a oneof with its cases. */
type Member = { readonly field: DescField } | { readonly field?: undefined; readonly cases: Map<unknown, DescField> };

const membersOf = new WeakMap<DescMessage, Map<string, Member>>();

function members(message: DescMessage): Map<string, Member> {
  let found = membersOf.get(message);
  if (found === undefined) {
    const member = (of: DescField | DescOneof): Member =>
      of.kind === "field" ? { field: of } : { cases: new Map(of.fields.map((field) => [field.localName, field])) };
    found = new Map(message.members.map((of) => [of.localName, member(of)]));
    membersOf.set(message, found);
  }
  return found;
}

function checkMessage(message: DescMessage, value: unknown, path: Path): void {
  if (typeof value !== "object" || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) {
    throw refused(path, `takes an object, the fields of ${message.typeName}, not ${kindOf(value)}`);
  }
  const given = value as Record<string, unknown>;
  const known = members(message);
  for (const name in given) {
    const part = given[name];
    if (name === "$typeName") {
      if (part !== message.typeName) throw refused(path, `takes a ${message.typeName}, not a ${part}`);
    } else if (part !== undefined && part !== null && name !== "$unknown") {
      path.push(name);
      const member = known.get(name);
      if (member === undefined) {
        throw refused(path, unknownField(message, name));
      } else if (member.field === undefined) {
        checkOneof(member.cases, part, path);
      } else {
        checkField(member.field, part, path);
      }
      path.pop();
    }
  }
}

function unknownField(message: DescMessage, name: string): string {
  const inside = message.fields.find(({ localName, name: other }) => localName === name || other === name);
  if (inside?.oneof !== undefined) {
    return `is written ${inside.oneof.localName}: { case: "${inside.localName}", value: ... }`;
  }
  return `is no field of ${message.typeName}; its fields are ${[...members(message).keys()].join(", ") || "none"}`;
}

function checkOneof(cases: Map<unknown, DescField>, part: unknown, path: Path): void {
  const { case: name, value } = part as { case?: unknown; value?: unknown };
  const field = cases.get(name);
  if (field === undefined) {
    const isUnset = name === undefined && value === undefined && typeof part === "object";
    if (isUnset && Object.keys(part as object).every((key) => key === "case" || key === "value")) return;
    throw refused(path, `takes { case, value } with one of the cases ${[...cases.keys()].join(", ")}`);
  }
  path.push("value");
  if (value === undefined || value === null) {
    throw refused(path, `is ${value}; give what ${field.localName} holds`);
  }
  checkField(field, value, path);
  path.pop();
}

function checkField(field: DescField, value: unknown, path: Path): void {
  switch (field.fieldKind) {
    case "list":
      if (!Array.isArray(value)) throw refused(path, `takes an array, not ${kindOf(value)}`);
      if (field.listKind === "enum" || (field.listKind === "scalar" && !isLookedAt(field.scalar))) return;
      for (const [place, element] of value.entries()) {
        path.push(place);
        if (field.listKind === "message") checkMessage(field.message, element, path);
        else checkScalar(field.scalar!, element, path);
        path.pop();
      }
      return;
    case "map":
      if (typeof value !== "object" || Array.isArray(value)) {
        throw refused(path, `takes an object of names, not ${kindOf(value)}`);
      }
      for (const name of Object.keys(value as object)) {
        path.push(name);
        checkScalar(field.mapKey, name, path);
        const entry = (value as Record<string, unknown>)[name];
        if (field.mapKind === "message") checkMessage(field.message, entry, path);
        else if (field.mapKind === "scalar") checkScalar(field.scalar, entry, path);
        path.pop();
      }
      return;
    case "message":
      return checkMessage(field.message, value, path);
    case "scalar":
      return checkScalar(field.scalar, value, path);
  }
}

/** Numbers and truth values are looked at where they are written, which names their field. */
const isLookedAt = (type: ScalarType): boolean => type === ScalarType.STRING || type === ScalarType.BYTES;

function checkScalar(type: ScalarType, value: unknown, path: Path): void {
  if (type === ScalarType.BYTES && !(value instanceof Uint8Array)) {
    throw refused(path, `takes bytes (a Uint8Array or Buffer), not ${kindOf(value)}`);
  }
  if (type !== ScalarType.STRING) return;
  if (typeof value !== "string") throw refused(path, `takes a string, not ${kindOf(value)}`);
  if (!value.isWellFormed()) {
    const field = written(path);
    const error = new CirError(`${field} holds half of a surrogate pair, which is no Unicode`, status.INVALID_ARGUMENT);
    error.reason = ErrorReason.FIELD_INVALID;
    error.reasonName = "FIELD_INVALID";
    error.field = field;
    throw error;
  }
}

const refused = (path: Path, why: string): TypeError => new TypeError(`${written(path) || "the request"} ${why}`);

/** A path as the services write it, with the names of this language: "turns[0].reference". */
function written(path: Path): string {
  const text = path.map((part) => (typeof part === "number" ? `[${part}]` : `.${part.toWellFormed()}`)).join("");
  return text.replace(/^\./, "");
}
