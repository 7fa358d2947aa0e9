// Error responses as exceptions.
import type { Schemas } from "./types.js";

/**
 * An error response: a problem document (RFC 9457). Programs compare `code`, which is stable. Each of `errors`
 * locates one invalid value by `pointer`, `parameter` or `header`.
 */
export class Problem extends Error {
  readonly status: number;
  readonly code: string;
  readonly errors: Schemas["InputError"][];
  readonly etag: string | undefined; // The current tag, if `ifMatch` was another.

  constructor(readonly document: Schemas["Problem"], readonly retryAfter?: number) {
    super([document.detail, ...(document.errors ?? []).map((error) => error.detail)].join(" "));
    ({ status: this.status, code: this.code, etag: this.etag, errors: this.errors = [] } = document);
  }
}

export class Unauthorized extends Problem {} // The name or the password is wrong, or signing in is required.
export class SessionEnded extends Unauthorized {} // It expired or was ended elsewhere: sign in again.
export class Forbidden extends Problem {} // The caller may not do this, or the current password is wrong.
export class NotFound extends Problem {}
export class Conflict extends Problem {} // Another user has this value, or a concurrent change conflicts.
export class Gone extends Problem {} // What the request created before was deleted since.
export class PreconditionFailed extends Problem {} // The resource has changed since the caller read it.
export class InvalidInput extends Problem {}
export class TooManyRequests extends Problem {} // For `retryAfter` seconds: longer than the client waits.
export class ServerError extends Problem {} // Any status from 500.

const CLASSES: Record<number, typeof Problem> = {
  401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict, 410: Gone, 412: PreconditionFailed,
  422: InvalidInput, 429: TooManyRequests, 500: ServerError,
};

/** Return the exception for an error response. */
export async function problemOf(response: Response): Promise<Problem> {
  const { status, headers } = response;
  const isProblem = headers.get("Content-Type") === "application/problem+json";
  const detail = `The response is ${status} ${response.statusText}.`; // Of a proxy in front of the service.
  const document: Schemas["Problem"] = isProblem
    ? await response.json()
    : { type: "about:blank", title: detail, status, detail, code: "", request_id: "" };
  const retryAfter = Number(headers.get("Retry-After")); // A proxy may send a date, which is NaN.
  return new (CLASSES[Math.min(status, 500)] ?? Problem)(document, retryAfter || undefined);
}
