// The views: each returns the elements of one page. `signal` is aborted when the user leaves it.

import { List, call, session, signIn } from "./api.js";
import { button, composer, field, form, h, linked, when } from "./ui.js";

const POLL_SECONDS = 5;
const heading = (text) => h("h1", { tabindex: -1 }, text);

/** The posts of the user and of those whom the user follows. */
export function feed(signal) {
  const { element, showNewer } = timeline(new List("/feed"), signal);
  return [heading("Your feed"), composer("New post", "What is new?", "Publish", publisher(showNewer)), element];
}

/** All posts, or those that match parameters of the API: `q`, `tag`. */
export function posts(signal, title, parameters) {
  return [heading(title), timeline(new List("/posts", parameters), signal).element];
}

/** A user's profile and posts. */
export async function profile(signal, username) {
  const user = await call("GET", `/users/${username}?expand=counts,viewer`);
  const facts = h("p", { class: "facts" });
  const show = ({ posts, followers, following }) => {
    facts.textContent = `${posts} posts · ${followers} followers · follows ${following}`;
  };
  const follow = toggle("Follow", user.viewer?.following, async (isOn) => {
    await call(isOn ? "PUT" : "DELETE", `/me/following/${user.username}`);
    show((await call("GET", `/users/${user.username}?expand=counts`)).counts);
  });
  show(user.counts);
  return [
    h("div", { class: "profile" }, avatar(user.username), h("div", null, heading(user.username), user.about, facts),
      user.id === session.user?.id ? null : follow),
    timeline(new List(`/users/${user.username}/posts`), signal).element,
  ];
}

/** A post, what it replies to, and its replies, oldest first. One request reads the whole conversation. */
export async function thread(signal, id) {
  const { ancestors, post, replies } = await call("GET", `/posts/${id}/thread?expand=counts,viewer`);
  const reply = session.user && composer("Reply", `Reply to ${post.author.username}`, "Reply",
    publisher(() => dispatchEvent(new Event("hashchange")), { in_reply_to_id: post.id })); // Shows it all again.
  const below = timeline(new List(`/posts/${id}/replies`, {}, replies), signal, replies.items).element;
  return [heading("Conversation"), ...ancestors.map(card), h("div", { class: "focused" }, card(post)), reply, below];
}

/** The form to sign in or, if the user `isNew`, to register. */
export function account(isNew) {
  const title = isNew ? "Register" : "Sign in";
  const fields = [
    field(isNew ? "Username" : "Username or email address", "username", { autocomplete: "username" }),
    isNew ? field("Email address", "email", { type: "email", autocomplete: "email" }) : null,
    field("Password", "password", { type: "password", autocomplete: isNew ? "new-password" : "current-password" }),
  ];
  return [heading(title), form(title, fields, title, async (values) => {
    if (isNew) await call("POST", "/users", { body: values });
    await signIn(values.username, values.password);
    location.hash = "#/";
  })];
}

// Return a list of posts that grows as the user scrolls, and says how many newer ones there are. One that
// begins with `items` is a conversation: the oldest post comes first, so that it is not polled.
function timeline(list, signal, items = null) {
  const shown = h("div");
  const end = h("p", { class: "end", hidden: "" }, "There are no posts.");
  const more = button("More posts", load, { class: "more" });
  const news = h("div", { role: "status" });
  const atEnd = new IntersectionObserver(([{ isIntersecting }]) => isIntersecting && more.click());
  let waiting = []; // Newer posts that are not shown yet.
  let lastPoll = Promise.resolve();

  async function load() {
    atEnd.disconnect(); // After an error, the user presses the button to try again.
    append(await list.more());
  }

  function append(posts) {
    shown.append(...posts.map(card));
    more.hidden = !list.hasMore;
    end.hidden = list.hasMore || shown.childElementCount > 0 || items !== null;
    if (list.hasMore) atEnd.observe(more); // Calls back at once if the button is visible.
  }

  function poll() {
    lastPoll = lastPoll.catch(() => {}).then(async () => { // Two polls at once would find the same posts.
      waiting.unshift(...await list.newer());
      const label = `${waiting.length} new ${waiting.length === 1 ? "post" : "posts"}`;
      news.replaceChildren(...(waiting.length ? [button(label, showWaiting, { class: "news" })] : []));
    });
    return lastPoll;
  }

  function showWaiting() {
    shown.prepend(...waiting.splice(0).map(card));
    news.replaceChildren();
    end.hidden = shown.childElementCount > 0;
    scrollTo(0, 0);
    shown.querySelector("a")?.focus({ preventScroll: true });
  }

  async function keepPolling(seconds) {
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    if (signal.aborted) return;
    const pause = document.hidden ? 0 : await poll().then(() => 0, (problem) => problem.retryAfter || 0);
    keepPolling(Math.max(POLL_SECONDS, pause));
  }

  if (items) append(items);
  else more.click();
  if (!items) keepPolling(POLL_SECONDS);
  return {
    element: h("section", { "aria-label": "Posts" }, news, shown, more, end),
    showNewer: () => poll().then(showWaiting, () => {}), // If it fails, a later poll finds the same posts.
  };
}

// Return a function that publishes a post. A retry after a lost response does not publish it twice.
function publisher(published, members = {}) {
  let attempt = {};
  return async (body) => {
    if (attempt.body !== body) attempt = { body, key: `"${crypto.randomUUID()}"` };
    await call("POST", "/posts", { headers: { "Idempotency-Key": attempt.key }, body: { body, ...members } });
    attempt = {};
    await published();
  };
}

// Return a post with its actions.
function card(post) {
  const { author, counts, edited_at: editedAt } = post;
  const number = (count) => h("span", { class: "number" }, count || "");
  const like = toggle("Like", post.viewer?.liked, async (isOn) => {
    await call(isOn ? "PUT" : "DELETE", `/me/likes/${post.id}`);
    counts.like_count += isOn ? 1 : -1;
    like.lastChild.textContent = counts.like_count || "";
  });
  like.append(number(counts.like_count));
  const remove = async () => {
    if (!confirm("Delete this post?")) return;
    await call("DELETE", `/posts/${post.id}`);
    element.remove();
  };
  const edit = () => {
    element.lastChild.replaceWith(editor(post, (changed) => {
      const edited = card({ ...post, ...changed, counts, viewer: { liked: like.ariaPressed === "true" } });
      element.replaceWith(edited);
      edited.querySelector("a").focus();
    }));
    element.querySelector(".body").remove();
    element.querySelector("textarea").focus();
  };
  const own = author.id !== session.user?.id ? []
    : [button("Edit", edit, { class: "quiet" }), button("Delete", remove, { class: "quiet" })];
  const element = h("article", { "aria-label": `Post by ${author.username}` }, avatar(author.username),
    h("p", { class: "by" }, h("a", { href: `#/user/${author.username}` }, author.username), when(post.timestamp),
      editedAt && h("span", { title: new Date(editedAt).toLocaleString() }, "edited")),
    h("p", { class: "body" }, linked(post)),
    h("div", { class: "row" },
      h("a", { href: `#/post/${post.id}`, class: "quiet" }, "Reply", number(counts.reply_count)), like, own));
  return element;
}

// Return a form that edits a post. `If-Match` names the version that the user has read. If there is a newer
// one, the service responds with 412, and the user sees both.
function editor(post, done) {
  const conflict = h("div", { role: "alert" });
  let { etag } = post;
  const element = composer("Edit post", "Text", "Save", async (body) => {
    try {
      done(await call("PATCH", `/posts/${post.id}`, { headers: { "If-Match": `"${etag}"` }, body: { body } }));
    } catch (problem) {
      if (problem.code !== "precondition_failed") throw problem;
      const current = await call("GET", `/posts/${post.id}`);
      etag = current.etag; // To save once more replaces the version that the user sees now.
      conflict.replaceChildren(
        h("p", null, "This post was changed elsewhere in the meantime. Keep this version, or save yours in its place."),
        h("blockquote", null, linked(current)), button("Keep this version", () => done(current)));
      return false;
    }
  }, post.body);
  element.prepend(conflict);
  element.lastChild.append(button("Cancel", () => done({}), { class: "quiet" }));
  return element;
}

// Return a button that is on or off.
function toggle(label, isOn, change) {
  const element = button(h("span", null, label), async () => {
    if (!session.user) return location.assign("#/signin");
    await change(element.ariaPressed !== "true");
    element.ariaPressed = element.ariaPressed !== "true";
  }, { class: `toggle ${label.toLowerCase()}`, "aria-pressed": Boolean(isOn) });
  return element;
}

// Return a circle with an initial, in a colour for each username.
function avatar(username) {
  const circle = h("span", { class: "avatar", "aria-hidden": "true" }, username[0].toUpperCase());
  const hue = Array.from(username).reduce((sum, letter) => sum * 31 + letter.charCodeAt(), 7) % 360;
  circle.style.setProperty("--hue", hue); // The policy of the page forbids a `style` attribute.
  return circle;
}
