export { Client } from "./client.js";
export type { Options } from "./client.js";
export * from "./problems.js";
export type { Schemas } from "./types.js";
