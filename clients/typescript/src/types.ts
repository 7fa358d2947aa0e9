// The operations of the contract, as types for the methods of `Client`.
import type { components, paths } from "./schema.js";

export type Schemas = components["schemas"];
export type Method = "GET" | "PUT" | "POST" | "DELETE" | "PATCH";
/** The paths that have an operation with a method. */
export type Path<M extends Method> = {
  [P in keyof paths]: paths[P] extends Record<Lowercase<M>, object> ? P : never;
}[keyof paths];
type Operation<M extends Method, P extends Path<M>> = paths[P][Lowercase<M> & keyof paths[P]];
type Parameters<O> = O extends { parameters: infer All } ? All : never;
type KeyOf<T> = T extends object ? keyof T : never; // Distributes over `undefined`.
type Header<O> = Parameters<O> extends { header?: infer All } ? KeyOf<All> : never;

/** The paths whose POST accepts an `Idempotency-Key`. */
export type KeyedPath = {
  [P in Path<"POST">]: "Idempotency-Key" extends Header<Operation<"POST", P>> ? P : never;
}[Path<"POST">];

/** What a request consists of. `ifMatch` is the `etag` of the version that the change is based on. */
export type Parts<M extends Method, P extends Path<M>, O = Operation<M, P>> =
  & Pick<Parameters<O>, keyof Parameters<O> & ("path" | "query")>
  & (O extends { requestBody: { content: { "application/json": infer Body } } } ? { body: Body } : unknown)
  & ("If-Match" extends Header<O> ? { ifMatch?: string } : unknown)
  & ("Idempotency-Key" extends Header<O> ? { idempotencyKey?: string } : unknown);
/** The parts, which may be left out if none of them is required. */
export type Optional<T> = object extends T ? [parts?: T] : [parts: T];

type Json<Body> = { content: { "application/json": Body } };
/** The JSON of a successful response, if it has one. */
export type Result<M extends Method, P extends Path<M>> = Operation<M, P> extends {
  responses: { 200: Json<infer Body> } | { 201: Json<infer Body> };
} ? Body : undefined;

/** The paths of lists. */
export type ListPath = {
  [P in Path<"GET">]: Result<"GET", P> extends Page<unknown> ? P : never;
}[Path<"GET">];
export type ItemOf<P extends ListPath> = Result<"GET", P> extends { items: (infer Item)[] } ? Item : never;
export interface Page<Item> { items: Item[]; next_cursor: string | null; prev_cursor: string | null }
