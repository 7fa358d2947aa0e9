// The whole use of the API: tokens, problems and lists. The views know nothing of HTTP.

import { API } from "./config.js";

const JSON_CONTENT = { "Content-Type": "application/json" };

/** An error response (RFC 9457). Programs compare `code`; `detail` and `errors` are for people. */
export class Problem extends Error {
  constructor(members, retryAfter = 0) {
    super(members.detail + (retryAfter ? ` Try again in ${retryAfter} seconds.` : ""));
    Object.assign(this, members, { retryAfter });
  }
}

/** The account of the user who is signed in, or null. */
export const session = { user: null };

// The access token stays in memory. The refresh token is in a cookie that no script can read.
let token = null; // { value, expiresAt }
let refreshing = null; // The promise of a refresh that is under way.

// All tabs share the cookie. When one of them signs in or out, the others begin again.
const otherTabs = new BroadcastChannel("session");
otherTabs.addEventListener("message", () => location.reload());

/** Sign in by username or email address. */
export async function signIn(username, password) {
  const utf8 = new TextEncoder().encode(`${username}:${password}`); // btoa() takes bytes.
  const headers = { Authorization: `Basic ${btoa(String.fromCharCode(...utf8))}` };
  keep(await send("POST", "/tokens?cookie=true", { headers }));
  session.user = await call("GET", "/me");
  otherTabs.postMessage("signed in");
}

/** Sign in by the cookie of an earlier visit. Without one, the Problem has the status 401. */
export async function resume() {
  await refresh();
  session.user = await call("GET", "/me");
}

/** Sign out: the tokens become invalid at once, and the cookie is removed. */
export async function signOut() {
  await call("DELETE", "/tokens/current");
  endSession();
  otherTabs.postMessage("signed out");
}

/** Send a request with the access token, and return the JSON of the response. Throws a Problem. */
export async function call(method, path, options = {}) {
  const used = await accessToken();
  try {
    return await send(method, path, options, used);
  } catch (problem) {
    if (!used || problem.code !== "invalid_token") throw problem;
    // The token expired on the way, or the clock of this computer is wrong. One more attempt is enough.
    return send(method, path, options, await accessToken(used));
  }
}

// Return a valid access token, or undefined. `rejected` is one that the service does not accept.
async function accessToken(rejected) {
  if (token && (token.value === rejected || token.expiresAt <= Date.now())) await refresh();
  return token?.value;
}

// Exchange the cookie for the next tokens, once for all callers. If two tabs do so within ten seconds, the
// service gives both the same tokens.
function refresh() {
  refreshing ??= send("POST", "/tokens/refresh", { body: {} }).then(keep, (problem) => {
    if (problem.status === 401 && token) endSession(); // It has expired, or was ended elsewhere.
    throw problem;
  }).finally(() => { refreshing = null; });
  return refreshing;
}

function endSession() {
  token = session.user = null;
  document.dispatchEvent(new Event("sessionend"));
}

function keep({ access_token: value, expires_in: seconds }) {
  token = { value, expiresAt: Date.now() + seconds * 1000 };
}

async function send(method, path, { body, headers = {} }, bearer) {
  const response = await fetch(API + path, {
    method,
    headers: { ...(bearer && { Authorization: `Bearer ${bearer}` }), ...(body && JSON_CONTENT), ...headers },
    body: body && JSON.stringify(body),
    credentials: path.startsWith("/tokens") ? "include" : "omit", // Only there the cookie is used.
  }).catch(() => {
    throw new Problem({ code: "unreachable", detail: "The service cannot be reached." });
  });
  if (response.status === 204) return null;
  const json = await response.json().catch(() => ({ detail: `The service responds with ${response.status}.` }));
  if (response.ok) return json;
  throw new Problem({ status: response.status, ...json }, Number(response.headers.get("Retry-After")));
}

/** A list that is read from the newest item downwards, and polled for newer ones. */
export class List {
  #path; #next; #newest; // Cursors: of the next page (null after the last one), and of what is newer.

  /** `first` is the first page, if it came with another response. */
  constructor(path, parameters = {}, first = {}) {
    this.#path = `${path}?${new URLSearchParams({ expand: "counts,viewer", ...parameters })}`;
    this.#next = first.next_cursor;
    this.#newest = first.prev_cursor;
  }

  get hasMore() { return this.#next !== null; }

  /** Read the next page. */
  async more() {
    const page = await this.#read(this.#next);
    this.#next = page.next_cursor;
    this.#newest ??= page.prev_cursor;
    return page.items;
  }

  /** Read the items that were added above the newest known one. */
  async newer() {
    if (this.#next === undefined) return []; // The first page, which is still to be read, will have them.
    const found = [];
    let cursor = this.#newest;
    for (let page; !page || page.items.length; cursor = page.prev_cursor ?? cursor) {
      page = await this.#read(cursor);
      found.unshift(...page.items);
    }
    this.#newest = cursor; // Not before all pages are here: after an error, they are read again.
    return found;
  }

  #read(cursor) {
    return call("GET", cursor ? `${this.#path}&cursor=${encodeURIComponent(cursor)}` : this.#path);
  }
}
