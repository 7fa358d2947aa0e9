// The journey with openapi-typescript and openapi-fetch.

import createClient from "openapi-fetch";
import type { paths } from "./schema";
import { baseUrl, check, checkPages, done } from "./journey";

const api = createClient<paths>({ baseUrl });

const user = { username: "ann", email: "ann@example.com", password: "9 green horses" };
const registered = await api.POST("/users", { body: user });
check(registered.data?.email === user.email, "registered");
await api.POST("/users", { body: { username: "bob", email: "bob@example.com", password: "7 blue bicycles" } });
done("register");

const authorization = `Basic ${btoa("ann:9 green horses")}`;
const { data: tokens, error: refused } = await api.POST("/tokens", { headers: { authorization } });
if (refused) throw new Error(refused.detail);
const ann = createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${tokens.access_token}` } });

const { data: post, error } = await ann.POST("/posts", { body: { body: "The first snowdrops are out." } });
if (error) throw new Error(error.detail);
console.log(`${post.author.username} published post ${post.id}.`);

done("sign in");
check(post.timestamp.endsWith("Z") && post.viewer === null, "published");
done("publish");
check("added_later" in post && "added_later" in post.author && "added_later" in tokens, "members added");
done("unknown members");

for (let number = 2; number <= 5; number++) await ann.POST("/posts", { body: { body: `Post ${number}` } });

await checkPages((query) => api.GET("/posts", { params: { query } }));
done("pages");

const params = { path: { post_id: post.id }, header: { "If-Match": `"${post.etag}"` } };
const edited = await ann.PATCH("/posts/{post_id}", { params, body: { body: "Edited." } });
check(edited.data?.edited_at, "edited");
const stale = await ann.PATCH("/posts/{post_id}", { params, body: { body: "Edited again." } });
check(stale.response.status === 412 && stale.error?.code === "precondition_failed", "412");
check(stale.error.etag === edited.data.etag, "the current tag");
done("If-Match");

const bobs = await api.POST("/tokens", { headers: { authorization: `Basic ${btoa("bob:7 blue bicycles")}` } });
check(bobs.data, "signed in");
const bob = createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${bobs.data.access_token}` } });
const liked = await bob.PUT("/me/likes/{post_id}", { params: { path: { post_id: post.id } } });
check(liked.response.status === 204 && !liked.error, "liked");
done("like");
const followed = await bob.PUT("/me/following/{username}", { params: { path: { username: "ann" } } });
check(followed.response.status === 204 && !followed.error, "followed");
done("follow");

const query = { expand: ["counts" as const, "viewer" as const] };
const feed = await bob.GET("/feed", { params: { query } });
check(feed.data?.items.find((item) => item.id === post.id)?.viewer?.liked, "viewer in the feed");
const seen = await bob.GET("/posts/{post_id}", { params: { path: { post_id: post.id }, query } });
check(seen.data?.viewer?.liked && seen.data.counts?.like_count === 1, "viewer where a token is optional");
done("viewer");

check(bobs.data.refresh_token, "a refresh token");
const next = await api.POST("/tokens/refresh", { body: { refresh_token: bobs.data.refresh_token } });
check(next.data && next.data.refresh_token !== bobs.data.refresh_token, "refreshed");
const again = createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${next.data.access_token}` } });
check((await again.GET("/me")).data?.username === "bob", "the new token");
done("refresh");

const taken = await api.POST("/users", { body: { ...user, email: "other@example.com" } });
check(taken.response.status === 409 && taken.error?.code === "already_taken", "409");
check(taken.error.errors?.[0]?.pointer === "/username", "where");
done("conflict");
const blank = await ann.POST("/posts", { body: { body: " " } });
check(blank.response.status === 422 && blank.error?.code === "invalid_input", "422");
check(blank.error.errors?.[0]?.pointer === "/body" && blank.error.errors[0].code === "blank", "where and why");
done("invalid input");
