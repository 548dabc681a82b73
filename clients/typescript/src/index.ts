export * from "./client.js";
export * from "./errors.js";
export * from "./query.js";
export { ErrorReason } from "./gen/cir/common/v1/errors_pb.js";
export * from "./gen/cir/common/v1/payload_pb.js";
export * from "./gen/cir/search/v1/catalog_pb.js";
export * from "./gen/cir/search/v1/filter_pb.js";
export * from "./gen/cir/search/v1/search_pb.js";
