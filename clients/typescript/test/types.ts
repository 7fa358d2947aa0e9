// What the compiler accepts, and what it refuses. This file is compiled, not run.
import { Client, type Schemas } from "../src/index.js";

export async function types(client: Client) {
  const post: Schemas["Post"] = await client.call("POST", "/posts", { body: { body: "Hi" } });
  const nothing: undefined = await client.call("PUT", "/me/likes/{post_id}", { path: { post_id: post.id } });
  const account: Schemas["Account"] = await client.call("PATCH", "/me", { ifMatch: "a", body: { about: "" } });
  for await (const user of client.list("/users")) user.username satisfies string;
  const replies = { path: { post_id: post.id }, query: { limit: 3 } };
  for await (const page of client.pages("prev", "/posts/{post_id}/replies", replies)) {
    page.items[0]?.body satisfies string | undefined;
  }

  // @ts-expect-error There is no such path.
  await client.call("POST", "/post", { body: { body: "Hi" } });
  // @ts-expect-error The path has no such method.
  await client.call("DELETE", "/posts");
  // @ts-expect-error The body is missing.
  await client.call("POST", "/posts");
  // @ts-expect-error The body has no such member.
  await client.call("POST", "/posts", { body: { bdy: "Hi" } });
  // @ts-expect-error The id is missing.
  await client.call("GET", "/posts/{post_id}");
  // @ts-expect-error There is no such parameter.
  await client.call("GET", "/posts", { query: { nope: 1 } });
  // @ts-expect-error The operation has no If-Match.
  await client.call("POST", "/posts", { ifMatch: "a", body: { body: "Hi" } });
  // @ts-expect-error The operation has no Idempotency-Key.
  await client.call("PATCH", "/me", { idempotencyKey: "a", body: { about: "" } });
  // @ts-expect-error This is not a list.
  client.list("/me");
  return [nothing, account];
}
