/** Short forms for references, turns, filters and payloads. */

import { readFile } from "node:fs/promises";

import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";

import type { GeoPoint, Payload, PayloadSchema, Value, ValueSchema } from "./gen/cir/common/v1/payload_pb.js";
import type { ConditionSchema, FilterSchema } from "./gen/cir/search/v1/filter_pb.js";
import type { ReferenceSchema, TurnSchema } from "./gen/cir/search/v1/search_pb.js";

type Reference = MessageInitShape<typeof ReferenceSchema>;
type Condition = MessageInitShape<typeof ConditionSchema>;

/** What a payload field can hold; integers beyond 2^53 are bigints. */
export type Plain = string | number | bigint | boolean | Date | GeoPoint | null | readonly Plain[];

/** Resource name of a catalog, "catalogs/shop". */
export const catalogName = (catalog: string): string => `catalogs/${catalog}`;

/** An encoded image (JPEG, PNG, WebP, ...). */
export const image = (encoded: Uint8Array): Reference => ({ source: { case: "image", value: encoded } });

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

/** At least one condition holds. */
export const or = (...conditions: Condition[]): Condition => ({
  kind: { case: "filter", value: { should: conditions } },
});

/** None of the conditions holds. */
export const not = (...conditions: Condition[]): Condition => ({
  kind: { case: "filter", value: { mustNot: conditions } },
});

/** The field has one of the values. */
export const equal = (field: string, ...values: (string | number | bigint | boolean)[]): Condition => ({
  kind: { case: "matchAny", value: { field, values: values.map(toValue) } },
});

/** The field lies between bounds, of which at least one is given. */
export function range(
  field: string,
  bounds: Partial<Record<"gt" | "gte" | "lt" | "lte", number | bigint | Date>>,
): Condition {
  const values = Object.fromEntries(Object.entries(bounds).map(([name, bound]) => [name, toValue(bound)]));
  return { kind: { case: "range", value: { field, ...values } } };
}

/** The field has a value. */
export const has = (field: string): Condition => ({ kind: { case: "exists", value: { field } } });

/** The text field has every word of the text. */
export const words = (field: string, text: string): Condition => ({
  kind: { case: "matchText", value: { field, text } },
});

/** A payload of fields. */
export function payload(fields: Record<string, Plain>): MessageInitShape<typeof PayloadSchema> {
  return { fields: Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, toValue(value)])) };
}

/** The fields of a payload. */
export function fields(of: Payload | undefined): Record<string, Plain> {
  return Object.fromEntries(Object.entries(of?.fields ?? {}).map(([name, value]) => [name, fromValue(value)]));
}

function toValue(of: Plain): MessageInitShape<typeof ValueSchema> {
  switch (typeof of) {
    case "string":
      return { kind: { case: "stringValue", value: of } };
    case "boolean":
      return { kind: { case: "boolValue", value: of } };
    case "bigint":
      return { kind: { case: "integerValue", value: of } };
    case "number":
      return Number.isSafeInteger(of)
        ? { kind: { case: "integerValue", value: BigInt(of) } }
        : { kind: { case: "floatValue", value: of } };
  }
  if (of === null) {
    return { kind: { case: "nullValue", value: 0 } };
  }
  if (typeof of !== "object") {
    throw new TypeError(`no payload value can be made of ${typeof of}`);
  }
  if (of instanceof Date) {
    return { kind: { case: "datetimeValue", value: timestampFromDate(of) } };
  }
  if ("latitude" in of) {
    return { kind: { case: "geoValue", value: of } };
  }
  return { kind: { case: "listValue", value: { values: of.map(toValue) } } };
}

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
