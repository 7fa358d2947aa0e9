// The client: sign-in, token refresh, retries and lists.
import { Problem, problemOf, SessionEnded, Unauthorized } from "./problems.js";
import type { ItemOf, KeyedPath, ListPath, Method, Optional, Page, Parts, Path, Result, Schemas } from "./types.js";

const KEYED: Record<KeyedPath, true> = { "/posts": true, "/users": true };
const IDEMPOTENT = ["GET", "PUT", "DELETE"]; // Not PATCH: after a lost response, `If-Match` would be outdated.
const TIMEOUT_MILLISECONDS = 30_000;

export interface Options {
  retries?: number;
  retrySeconds?: number;
  /** Leave the refresh token in a cookie that scripts cannot read. For browsers. */
  cookie?: boolean;
}

interface Request {
  path?: Record<string, unknown>; query?: Record<string, unknown>; body?: unknown;
  ifMatch?: string; idempotencyKey?: string; token?: string | undefined; basic?: string; isRepeatable?: boolean;
}

/**
 * Calls the API for one user. Its methods throw a `Problem` for an error response, and the error of `fetch` if
 * there is none. While the service is busy or cannot be reached, a request is repeated up to `retries` times
 * within `retrySeconds`, unless the repetition could have a second effect.
 */
export class Client {
  #url: string;
  #options: Required<Options>;
  #tokens: Schemas["TokenPair"] | null = null;
  #expiresAt = 0;
  #refreshing: Promise<void> | null = null;
  #ended: SessionEnded | null = null;

  constructor(url: string, options: Options = {}) {
    this.#url = url.replace(/\/$/, "");
    this.#options = { retries: 5, retrySeconds: 60, cookie: false, ...options };
  }

  /** Sign in by username or email address. */
  async signIn(name: string, password: string): Promise<void> {
    const utf8 = new TextEncoder().encode(`${name}:${password}`); // btoa() takes bytes.
    const basic = btoa(String.fromCharCode(...utf8));
    const query = { cookie: this.#options.cookie || undefined };
    this.#store(await this.#send("POST", "/tokens", { query, basic }));
  }

  /** Sign in by the cookie of an earlier visit. Throws `Unauthorized` without a valid one. */
  async resume(): Promise<void> {
    this.#store(await this.#send("POST", "/tokens/refresh", { body: {}, isRepeatable: true }));
  }

  /** End the session, whose tokens become invalid at once. Following requests are anonymous. */
  async signOut(): Promise<void> {
    try {
      if (this.#tokens) await this.call("DELETE", "/tokens/current");
    } catch (error) {
      if (!(error instanceof SessionEnded)) throw error;
    }
    this.#tokens = this.#ended = null;
  }

  /** Send a request with the access token, if there is one, and return the JSON of the response. */
  async call<M extends Method, P extends Path<M>>(
    method: M, path: P, ...[parts]: Optional<Parts<M, P>>
  ): Promise<Result<M, P>> {
    const request: Request = { ...parts };
    if (method === "POST" && path in KEYED) request.idempotencyKey ??= crypto.randomUUID();
    return this.#authorized(method, path, request);
  }

  /** Yield the items of a list, from the first page or from `cursor` to the end. */
  async *list<P extends ListPath>(path: P, ...parts: Optional<Parts<"GET", P>>): AsyncGenerator<ItemOf<P>> {
    for await (const page of this.pages("next", path, ...parts)) yield* page.items;
  }

  /**
   * Yield the pages of a list. With `prev` and the `prev_cursor` of a page as `cursor`, they have what is newer.
   * The last one is empty then, and its `prev_cursor` is where to look later.
   */
  async *pages<P extends ListPath>(
    direction: "next" | "prev", path: P, ...[parts]: Optional<Parts<"GET", P>>
  ): AsyncGenerator<Page<ItemOf<P>>> {
    const request: Request = { ...parts };
    do {
      const page: Page<ItemOf<P>> = await this.#authorized("GET", path, request);
      yield page;
      if (direction === "prev" && !page.items.length) return;
      request.query = { ...request.query, cursor: page[`${direction}_cursor`] };
    } while (request.query.cursor);
  }

  async #authorized(method: Method, path: string, request: Request): Promise<any> {
    const token = await this.#accessToken();
    if (!token) return this.#send(method, path, request);
    try {
      return await this.#send(method, path, { ...request, token });
    } catch (error) {
      if (!(error instanceof Unauthorized)) throw error;
    }
    // The token expired on the way, or the clock of this computer is slow. One more attempt is enough.
    return this.#send(method, path, { ...request, token: await this.#accessToken(token) });
  }

  // Return a valid access token, or undefined before sign-in. All calls that need a new one share one refresh.
  async #accessToken(rejected?: string): Promise<string | undefined> {
    if (this.#ended) throw this.#ended;
    if (this.#tokens && (this.#tokens.access_token === rejected || performance.now() >= this.#expiresAt)) {
      await (this.#refreshing ??= this.#refresh(this.#tokens).finally(() => { this.#refreshing = null; }));
    }
    return this.#tokens?.access_token;
  }

  async #refresh(old: Schemas["TokenPair"]): Promise<void> {
    const body = { refresh_token: old.refresh_token }; // Null if it is in the cookie.
    try { // Within ten seconds, the response to the same refresh token is the same.
      const tokens = await this.#send("POST", "/tokens/refresh", { body, isRepeatable: true });
      if (this.#tokens === old) this.#store(tokens); // The user may have signed in or out meanwhile.
    } catch (error) {
      if (!(error instanceof Unauthorized)) throw error;
      const ended = new SessionEnded(error.document);
      if (this.#tokens === old) this.#ended = ended;
      throw ended;
    }
  }

  #store(tokens: Schemas["TokenPair"]): void {
    this.#tokens = tokens;
    this.#ended = null;
    this.#expiresAt = performance.now() + 1000 * tokens.expires_in;
  }

  // Send a request, and repeat it after an error that may pass.
  async #send(method: Method, template: string, request: Request): Promise<any> {
    const path = template.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(String(request.path?.[name])));
    const query = Object.entries(request.query ?? {}).filter(([, value]) => value != null);
    const url = `${this.#url}${path}?${new URLSearchParams(query.map(([name, value]) => [name, String(value)]))}`;
    const headers = new Headers(request.body ? { "Content-Type": "application/json" } : {});
    if (request.token) headers.set("Authorization", `Bearer ${request.token}`);
    if (request.basic) headers.set("Authorization", `Basic ${request.basic}`);
    if (request.ifMatch) headers.set("If-Match", `"${request.ifMatch}"`);
    if (request.idempotencyKey) headers.set("Idempotency-Key", request.idempotencyKey);
    const credentials = this.#options.cookie && path.startsWith("/tokens") ? "include" : "omit";
    const body = request.body ? JSON.stringify(request.body) : null;
    const isRepeatable = request.isRepeatable || headers.has("Idempotency-Key") || IDEMPOTENT.includes(method);
    const deadline = performance.now() + 1000 * this.#options.retrySeconds;
    for (let attempt = 0; ; attempt++) {
      const signal = AbortSignal.timeout(TIMEOUT_MILLISECONDS);
      try {
        const response = await fetch(url, { method, headers, body, credentials, signal });
        if (!response.ok) throw await problemOf(response);
        const text = await response.text();
        return text ? JSON.parse(text) : undefined;
      } catch (error) {
        const seconds = secondsToWait(error, attempt, isRepeatable);
        if (attempt === this.#options.retries || performance.now() + 1000 * seconds > deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      }
    }
  }
}

// Return the time before the next attempt, which is infinite if there should be none.
function secondsToWait(error: unknown, attempt: number, isRepeatable: boolean): number {
  const seconds = 0.5 * 2 ** attempt;
  if (!(error instanceof Problem)) return isRepeatable ? seconds : Infinity;
  const { status, retryAfter } = error;
  const mayPass = retryAfter || [429, 502, 503, 504].includes(status);
  // The service has not processed a request to which it responds with 429.
  return mayPass && (isRepeatable || status === 429) ? retryAfter ?? seconds : Infinity;
}
