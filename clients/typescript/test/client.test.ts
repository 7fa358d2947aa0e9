import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import {
  Client, Conflict, Forbidden, Gone, InvalidInput, NotFound, PreconditionFailed, Problem, type Schemas, ServerError,
  SessionEnded, TooManyRequests, Unauthorized,
} from "../src/index.js";
import { LOST, problem, type Proxy, startProxy, startService } from "./service.js";

const PASSWORD = "7 blue bicycles";
let service: Awaited<ReturnType<typeof startService>>;
let proxy: Proxy;
let client: Client;
let name: string;
let users = 0;

before(async () => { service = await startService(); });
after(() => service.stop());

beforeEach(async () => {
  proxy = await startProxy(service.port);
  client = new Client(proxy.url);
  name = `user${++users}`;
  await client.call("POST", "/users", { body: { username: name, email: `${name}@example.com`, password: PASSWORD } });
  await client.signIn(name, PASSWORD);
});
afterEach(() => proxy.stop());

const publish = (body: string) => client.call("POST", "/posts", { body: { body } });
const bodies = async () => {
  const found: string[] = [];
  for await (const post of client.list("/users/{username}/posts", { path: { username: name } })) found.push(post.body);
  return found;
};

/** Expect a problem of exactly this class, and return it. */
async function rejection<T extends Problem>(promise: Promise<unknown>, expected: new (...members: any[]) => T) {
  const error: unknown = await promise.then(() => null, (reason: unknown) => reason);
  assert.ok(error instanceof expected && error.constructor === expected, String(error));
  return error;
}

async function endSession() {
  const other = new Client(proxy.url);
  await other.signIn(name, PASSWORD);
  for await (const session of other.list("/tokens")) {
    if (!session.is_current) await other.call("DELETE", "/tokens/{token_id}", { path: { token_id: session.id } });
  }
}

describe("tokens", () => {
  test("eight callers share one refresh", async (t) => {
    await tokenExpires();
    await Promise.all(Array.from({ length: 8 }, () => client.call("GET", "/me")));
    assert.equal(proxy.refreshes().length, 1);
    // A client whose clock stands still learns from the service that the token has expired.
    t.mock.method(performance, "now", () => 0);
    await client.signIn(name, PASSWORD);
    await tokenExpires();
    await Promise.all(Array.from({ length: 8 }, () => client.call("GET", "/me")));
    assert.equal(proxy.refreshes().length, 2);
  });

  test("a refused refresh ends the session for all callers", async () => {
    await endSession();
    const reads = Array.from({ length: 8 }, () => rejection(client.call("GET", "/me"), SessionEnded));
    for (const error of await Promise.all(reads)) assert.equal(error.code, "invalid_token");
    await rejection(client.call("GET", "/me"), SessionEnded);
    assert.equal(proxy.refreshes().length, 1);
    await client.signIn(name, PASSWORD);
    assert.ok(await client.call("GET", "/me"));
  });

  test("a failure to reach the service does not end the session", async () => {
    const impatient = new Client(proxy.url, { retries: 0 });
    proxy.fail("/tokens", (tokens) => ({ ...tokens, expires_in: 0 }));
    await impatient.signIn(name, PASSWORD);
    proxy.fail("/tokens/refresh", LOST);
    await assert.rejects(impatient.call("GET", "/me"), TypeError);
    assert.ok(await impatient.call("GET", "/me"));
    assert.equal(new Set(proxy.refreshes()).size, 1);
  });

  test("signing out makes requests anonymous", async () => {
    await client.signOut();
    await client.signOut();
    assert.equal((await rejection(client.call("GET", "/me"), Unauthorized)).code, "authentication_required");
    assert.equal(proxy.requests.filter(({ method }) => method === "DELETE").length, 1);
  });

  test("signing out of an ended session is no error", async () => {
    await endSession();
    await client.signOut();
    assert.ok(await client.call("GET", "/posts"));
  });

  test("with cookies, no script needs the refresh token", async (t) => {
    const { fetch } = globalThis;
    let cookie = "";
    t.mock.method(globalThis, "fetch", async (url: string, init: RequestInit & { headers: Headers }) => {
      if (init.credentials === "include") init.headers.set("Cookie", cookie); // As a browser does.
      const response = await fetch(url, init);
      cookie = response.headers.get("Set-Cookie")?.split(";")[0] ?? cookie;
      return response;
    });
    const page = new Client(proxy.url, { cookie: true });
    await rejection(page.resume(), Unauthorized);
    proxy.fail("/tokens", (tokens) => ({ ...tokens, expires_in: 0 }));
    await page.signIn(name, PASSWORD);
    assert.ok(await page.call("GET", "/me")); // After a refresh.
    const reloaded = new Client(proxy.url, { cookie: true });
    await reloaded.resume();
    assert.ok(await reloaded.call("GET", "/me"));
    assert.deepEqual(proxy.refreshes(), ["{}", '{"refresh_token":null}', "{}"]);
    const cookies = proxy.requests.filter(({ path, headers }) => headers.cookie && !path.startsWith("/api/v1/tokens"));
    assert.deepEqual(cookies, []);
  });
});

/** Wait until the access token of the client, which has just signed in, has expired. */
async function tokenExpires() {
  await client.call("GET", "/me");
  const headers = { Authorization: proxy.requests.at(-1)!.headers.authorization! };
  while ((await fetch(`${proxy.url}/me`, { headers })).status !== 401) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

describe("retries", () => {
  test("a lost response does not lead to a second post", async () => {
    proxy.fail("/posts", LOST, LOST);
    await publish("Once.");
    assert.deepEqual(await bodies(), ["Once."]);
    const keys = proxy.requests.flatMap(({ method, path, headers }) => method === "POST" && path.includes("/posts")
      ? [headers["idempotency-key"]] : []);
    assert.equal(keys.length, 3);
    assert.equal(new Set(keys).size, 1);
  });

  test("an edit whose response is lost is not repeated", async () => {
    const post = await publish("Before.");
    const path = { post_id: post.id };
    proxy.fail(`/posts/${post.id}`, LOST);
    await assert.rejects(client.call("PATCH", "/posts/{post_id}", { path, body: { body: "After." } }), TypeError);
    assert.equal((await client.call("GET", "/posts/{post_id}", { path })).body, "After.");
  });

  test("it waits as long as a rate limit asks for", async () => {
    const started = Date.now();
    for (let number = 0; number < 9; number++) await publish(String(number));
    assert.ok(Date.now() - started > 1000);
    const posts = proxy.requests.filter(({ method, path }) => method === "POST" && path.includes("/posts"));
    assert.ok(posts.length > 9 && posts.length <= 14, String(posts.length));
  });

  test("it does not wait longer than it may", async () => {
    proxy.fail("/posts", problem(429, "too_many_requests", { "Retry-After": "61" }));
    assert.equal((await rejection(publish("Now."), TooManyRequests)).retryAfter, 61);
  });

  test("a request whose key is in use is repeated after Retry-After", async () => {
    proxy.fail("/posts", problem(409, "in_progress", { "Retry-After": "1" }));
    const started = Date.now();
    await publish("Once.");
    assert.ok(Date.now() - started >= 1000);
    assert.deepEqual(await bodies(), ["Once."]);
  });

  test("it gives up after some retries, also with a proxy's response", async () => {
    const impatient = new Client(proxy.url, { retries: 1 });
    const headers = { "Retry-After": "Fri, 27 Nov 2026 17:30:00 GMT" };
    proxy.fail("/posts", { status: 502, headers }, { status: 502, headers, body: "<p>Bad gateway" });
    assert.equal((await rejection(impatient.call("GET", "/posts"), ServerError)).status, 502);
    assert.ok(await impatient.call("GET", "/posts"));
  });

  test("an internal error is not repeated", async () => {
    proxy.fail("/posts", problem(500, "internal_error"));
    await rejection(client.call("GET", "/posts"), ServerError);
  });
});

describe("problems", () => {
  test("a taken name is located", async () => {
    const body = { username: name, email: "new@example.com", password: PASSWORD };
    const error = await rejection(client.call("POST", "/users", { body }), Conflict);
    assert.deepEqual([error.status, error.code, error.errors[0]?.pointer], [409, "already_taken", "/username"]);
  });

  test("an invalid value is located", async () => {
    const error = await rejection(publish(" "), InvalidInput);
    assert.deepEqual([error.errors[0]?.pointer, error.errors[0]?.code], ["/body", "blank"]);
    assert.match(error.message, /Must not be blank/);
  });

  test("an edit of an old version returns the current tag", async () => {
    const post = await publish("First.");
    const edit = (body: string) =>
      client.call("PATCH", "/posts/{post_id}", { path: { post_id: post.id }, ifMatch: post.etag, body: { body } });
    const edited = await edit("Second.");
    assert.equal((await rejection(edit("Third."), PreconditionFailed)).etag, edited.etag);
  });

  test("a key of a deleted post is gone", async () => {
    const again = () => client.call("POST", "/posts", { body: { body: "Once." }, idempotencyKey: "a" });
    await client.call("DELETE", "/posts/{post_id}", { path: { post_id: (await again()).id } });
    await rejection(again(), Gone);
  });

  test("statuses have classes", async () => {
    await rejection(client.signIn(name, "wrong"), Unauthorized);
    await rejection(client.call("DELETE", "/me", { body: { password: "wrong" } }), Forbidden);
    await rejection(client.call("GET", "/users/{username}", { path: { username: "a/posts?x=#" } }), NotFound);
    await rejection(client.call("GET", "/posts", { query: { cursor: "wrong" } }), Problem);
  });
});

describe("lists", () => {
  test("both directions are complete while posts are added", async () => {
    for (const body of ["1", "2", "3", "4", "5"]) await publish(body);
    const path = { username: name };
    const first = await client.call("GET", "/users/{username}/posts", { path, query: { limit: 2 } });
    const downwards: string[] = [];
    for await (const post of client.list("/users/{username}/posts", { path, query: { limit: 2 } })) {
      downwards.push(post.body);
      if (["5", "3"].includes(post.body)) await publish(`after ${post.body}`);
    }
    const upwards: string[] = [];
    const query = { limit: 1, cursor: first.prev_cursor! };
    let last: string | null = null;
    for await (const page of client.pages("prev", "/users/{username}/posts", { path, query })) {
      if (!upwards.length) await publish("last");
      upwards.push(...page.items.map((post) => post.body));
      last = page.prev_cursor;
    }
    assert.deepEqual(downwards, ["5", "4", "3", "2", "1"]);
    assert.deepEqual(upwards, ["after 5", "after 3", "last"]);
    await publish("later");
    const later = client.pages("prev", "/users/{username}/posts", { path, query: { cursor: last! } });
    assert.deepEqual((await later.next()).value.items.map((post: Schemas["Post"]) => post.body), ["later"]);
  });

  test("an empty list has no previous page", async () => {
    const pages = [];
    for await (const page of client.pages("prev", "/me/likes")) pages.push(page);
    assert.deepEqual(pages, [{ items: [], next_cursor: null, prev_cursor: null }]);
  });
});

describe("representations", () => {
  test("members that were added later are ignored", async () => {
    proxy.fail("/me", (account) => ({ ...account, mood: "good" }));
    assert.equal((await client.call("GET", "/me"))["mood"], "good");
  });

  test("expanded parts know the caller", async () => {
    const post = await publish("Mine.");
    assert.equal(await client.call("PUT", "/me/likes/{post_id}", { path: { post_id: post.id } }), undefined);
    const feed: Schemas["Post"][] = [];
    for await (const found of client.list("/feed", { query: { expand: ["counts", "viewer"] } })) feed.push(found);
    assert.deepEqual([feed[0]?.viewer, feed[0]?.counts], [{ liked: true }, { like_count: 1, reply_count: 0 }]);
  });
});

test("the lines of the README work", async (t) => {
  process.env["API"] = proxy.url;
  const log = t.mock.method(console, "log", () => {});
  await import("./readme.js");
  assert.deepEqual(log.mock.calls.map((call) => call.arguments), [
    ["ann", "The first snowdrops are out. #garden", { like_count: 0, reply_count: 0 }],
  ]);
});
