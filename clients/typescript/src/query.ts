/** Short forms for references, turns, filters and payloads. */

import { readFile } from "node:fs/promises";

import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";

import type { GeoPoint, Payload, PayloadSchema, Value, ValueSchema } from "./gen/cir/common/v1/payload_pb.js";
import type { ConditionSchema, FilterSchema } from "./gen/cir/search/v1/filter_pb.js";
import type { ReferenceSchema, TurnSchema } from "./gen/cir/search/v1/search_pb.js";
import { kindOf } from "./requests.js";

type Reference = MessageInitShape<typeof ReferenceSchema>;
type Condition = MessageInitShape<typeof ConditionSchema>;

/** A place in degrees. */
export type Place = Pick<GeoPoint, "latitude" | "longitude">;

/** What a payload field can hold; integers beyond 2^53 are bigints. Lists are of one type, and hold neither lists nor null. */
export type Plain = string | number | bigint | boolean | Date | Place | null | readonly Plain[];

const TAKEN = "a string, a number, a bigint, a boolean, a Date, a place { latitude, longitude }, null, or an array of one of these";

/** Resource name of a catalog, "catalogs/shop". */
export const catalogName = (catalog: string): string => `catalogs/${catalog}`;

/** An encoded image (JPEG, PNG, WebP, ...). */
export function image(encoded: Uint8Array): Reference {
  if (!((encoded as unknown) instanceof Uint8Array)) {
    throw new TypeError(
      `image takes the bytes of an encoded image (a Uint8Array or Buffer), not ${kindOf(encoded)}; ` +
        "imageFile(path) reads a file, Buffer.from(text, \"base64\") decodes a text",
    );
  }
  return { source: { case: "image", value: encoded } };
}

/** An image file of this machine; what travels are its bytes. */
export const imageFile = async (path: string): Promise<Reference> => image(await readFile(path));

/** An item of the catalog, whose features are there already. */
export const item = (id: string): Reference => ({ source: { case: "itemId", value: id } });

/**
 * A step of the dialogue: what is looked at, and the change wanted. Without a reference the text applies to what
 * the turns before have composed, and in a first turn is searched by.
 */
export function turn(reference: Reference | undefined, text = ""): MessageInitShape<typeof TurnSchema> {
  return reference === undefined ? { text } : { reference, text };
}

/** Items for which every condition holds. */
export const all = (...conditions: Condition[]): MessageInitShape<typeof FilterSchema> => ({ must: conditions });

/** At least one condition holds. There must be one: of none, which is what an empty selection gives, none can hold. */
export function or(...conditions: Condition[]): Condition {
  if (conditions.length === 0) {
    throw new TypeError("or takes one condition or more; leave it out, or do not search, where there are none");
  }
  return { kind: { case: "filter", value: { should: conditions } } };
}

/** None of the conditions holds. */
export const not = (...conditions: Condition[]): Condition => ({
  kind: { case: "filter", value: { mustNot: conditions } },
});

/** The field has one of the values; of a field of moments a Date is the moment, "2025-06-01" the whole day in UTC. */
export const equal = (field: string, ...values: (string | number | bigint | boolean | Date)[]): Condition => ({
  kind: { case: "matchAny", value: { field, values: values.map((value) => toValue(value, `equal(${quoted(field)})`)) } },
});

/** The field lies between bounds, of which at least one is given. */
export function range(
  field: string,
  bounds: Partial<Record<"gt" | "gte" | "lt" | "lte", number | bigint | Date>>,
): Condition {
  const at = `range(${quoted(field)})`;
  const values = Object.entries(bounds).map(([name, bound]) => {
    if (!["gt", "gte", "lt", "lte"].includes(name)) {
      throw new TypeError(`${at} has no bound ${quoted(name)}; its bounds are gt, gte, lt and lte`);
    }
    const isBound = ["number", "bigint"].includes(typeof bound) || (bound as unknown) instanceof Date;
    if (!isBound || (bound instanceof Date && !isDate(bound))) {
      throw new TypeError(`${at}: ${name} takes a number, a bigint or a Date, not ${kindOf(bound)}`);
    }
    return [name, toValue(bound, at)];
  });
  return { kind: { case: "range", value: { field, ...Object.fromEntries(values) } } };
}

/** The field has a value. */
export const has = (field: string): Condition => ({ kind: { case: "exists", value: { field } } });

/** The text field has every word of the text. */
export const words = (field: string, text: string): Condition => ({
  kind: { case: "matchText", value: { field, text } },
});

/** A payload of fields. */
export function payload(fields: Record<string, Plain>): MessageInitShape<typeof PayloadSchema> {
  const values = Object.entries(fields).map(([name, value]) => [name, toValue(value, `payload field ${quoted(name)}`)]);
  return { fields: Object.fromEntries(values) };
}

/** The fields of a payload. */
export function fields(of: Payload | undefined): Record<string, Plain> {
  return Object.fromEntries(Object.entries(of?.fields ?? {}).map(([name, value]) => [name, fromValue(value)]));
}

type ValueInit = MessageInitShape<typeof ValueSchema>;

/** The value as it is sent; `at` names its place in errors. */
function toValue(of: Plain, at: string): ValueInit {
  switch (typeof of) {
    case "string":
      return { kind: { case: "stringValue", value: of } };
    case "boolean":
      return { kind: { case: "boolValue", value: of } };
    case "bigint":
      if (BigInt.asIntN(64, of) !== of) {
        throw new TypeError(`${at}: ${of} does not fit 64 bits`);
      }
      return { kind: { case: "integerValue", value: of } };
    case "number":
      return Number.isSafeInteger(of)
        ? { kind: { case: "integerValue", value: BigInt(of) } }
        : { kind: { case: "floatValue", value: of } };
  }
  if (of === null) {
    return { kind: { case: "nullValue", value: 0 } };
  }
  if (of instanceof Date && isDate(of)) {
    return { kind: { case: "datetimeValue", value: timestampFromDate(of) } };
  }
  if (Array.isArray(of)) {
    return { kind: { case: "listValue", value: { values: toElements(of, at) } } };
  }
  if (typeof of === "object" && "latitude" in of && "longitude" in of) {
    return { kind: { case: "geoValue", value: of } };
  }
  throw new TypeError(`${at} takes ${TAKEN}, not ${kindOf(of)}`);
}

/** The elements of a list, which have one type: where one of the numbers is no whole one, all are floats. */
function toElements(of: readonly Plain[], at: string): ValueInit[] {
  const isFractional = of.some((element) => typeof element === "number" && !Number.isSafeInteger(element));
  const values = Array.from(of, (element, place) => {
    const asFloat = isFractional && typeof element === "bigint" && BigInt(Number(element)) === element;
    return isFractional && (typeof element === "number" || asFloat)
      ? ({ kind: { case: "floatValue", value: Number(element) } } as const)
      : toValue(element, `${at}[${place}]`);
  });
  const odd = values.findIndex(({ kind }) => kind?.case !== values[0]!.kind?.case);
  if (odd > 0) {
    throw new TypeError(`${at}: a list is of one type, but [0] is ${kindOf(of[0])} and [${odd}] is ${kindOf(of[odd])}`);
  }
  if (["nullValue", "listValue"].includes(values[0]?.kind?.case ?? "")) {
    throw new TypeError(`${at}: a list holds neither lists nor null`);
  }
  return values;
}

const quoted = (name: string): string => JSON.stringify(name);

const isDate = (of: Date): boolean => !Number.isNaN(of.getTime());

function fromValue({ kind }: Value): Plain {
  switch (kind.case) {
    case "integerValue": {
      const number = Number(kind.value);
      return Number.isSafeInteger(number) ? number : kind.value;
    }
    case "datetimeValue":
      return timestampDate(kind.value);
    case "listValue":
      return kind.value.values.map(fromValue);
    case "nullValue":
    case undefined:
      return null;
    default:
      return kind.value;
  }
}
