// The journey with @hey-api/openapi-ts.

import { createClient } from "./microblog/client";
import {
  createFollowing,
  createLike,
  createPost,
  createToken,
  createUser,
  getAccount,
  getPost,
  listFeed,
  listPosts,
  refreshToken,
  updatePost,
} from "./microblog";
import { baseUrl, check, checkPages, done } from "./journey";

const api = createClient({ baseUrl });

const user = { username: "ann", email: "ann@example.com", password: "9 green horses" };
const registered = await createUser({ client: api, body: user });
check(registered.data?.email === user.email, "registered");
await createUser({ client: api, body: { username: "bob", email: "bob@example.com", password: "7 blue bicycles" } });
done("register");

const { data: tokens, error: refused } = await createToken({ client: api, auth: "ann:9 green horses" });
if (refused) throw new Error(refused.detail);
const ann = createClient({ baseUrl, auth: tokens.access_token });

const { data: post, error } = await createPost({ client: ann, body: { body: "The first snowdrops are out." } });
if (error) throw new Error(error.detail);
console.log(`${post.author.username} published post ${post.id}.`);

done("sign in");
check(post.timestamp.endsWith("Z") && post.viewer === null, "published");
done("publish");
check("added_later" in post && "added_later" in post.author && "added_later" in tokens, "members added");
done("unknown members");

for (let number = 2; number <= 5; number++) await createPost({ client: ann, body: { body: `Post ${number}` } });

await checkPages((query) => listPosts({ client: api, query }));
done("pages");

const target = { client: ann, path: { post_id: post.id }, headers: { "If-Match": `"${post.etag}"` } };
const edited = await updatePost({ ...target, body: { body: "Edited." } });
check(edited.data?.edited_at, "edited");
const stale = await updatePost({ ...target, body: { body: "Edited again." } });
check(stale.response?.status === 412 && stale.error?.code === "precondition_failed", "412");
check(stale.error.etag === edited.data.etag, "the current tag");
done("If-Match");

const bobs = await createToken({ client: api, auth: "bob:7 blue bicycles" });
check(bobs.data, "signed in");
const bob = createClient({ baseUrl, auth: bobs.data.access_token });
const liked = await createLike({ client: bob, path: { post_id: post.id } });
check(liked.response?.status === 204 && !liked.error, "liked");
done("like");
const followed = await createFollowing({ client: bob, path: { username: "ann" } });
check(followed.response?.status === 204 && !followed.error, "followed");
done("follow");

const query = { expand: ["counts" as const, "viewer" as const] };
const feed = await listFeed({ client: bob, query });
check(feed.data?.items.find((item) => item.id === post.id)?.viewer?.liked, "viewer in the feed");
const seen = await getPost({ client: bob, path: { post_id: post.id }, query });
check(seen.data?.viewer?.liked && seen.data.counts?.like_count === 1, "viewer where a token is optional");
done("viewer");

const next = await refreshToken({ client: api, body: { refresh_token: bobs.data.refresh_token } });
check(next.data && next.data.refresh_token !== bobs.data.refresh_token, "refreshed");
const again = createClient({ baseUrl, auth: next.data.access_token });
check((await getAccount({ client: again })).data?.username === "bob", "the new token");
done("refresh");

const taken = await createUser({ client: api, body: { ...user, email: "other@example.com" } });
check(taken.response?.status === 409 && taken.error?.code === "already_taken", "409");
check(taken.error.errors?.[0]?.pointer === "/username", "where");
done("conflict");
const blank = await createPost({ client: ann, body: { body: " " } });
check(blank.response?.status === 422 && blank.error?.code === "invalid_input", "422");
check(blank.error.errors?.[0]?.pointer === "/body" && blank.error.errors[0].code === "blank", "where and why");
done("invalid input");
