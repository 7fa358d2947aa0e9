// Shared by both journeys in TypeScript.

export const baseUrl = process.argv[2] ?? "http://127.0.0.1:8000/api/v1";

/** Throw an error unless a condition holds. */
export function check(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(message);
}

/** Tell the runner that a step is done. */
export function done(step: string): void {
  console.log(`- ${step}`);
}
