// The frame: who is signed in, and which view the address shows.

import { resume, session, signOut } from "./api.js";
import { button, h } from "./ui.js";
import { account, feed, posts, profile, thread } from "./views.js";

const [main, pages, user, search] = ["main", "pages", "user", "search"].map((id) => document.getElementById(id));
let leaving = new AbortController();

/** Return the view of an address such as `#/user/ann`. */
async function view(signal) {
  const [, place, argument = ""] = location.hash.split("/");
  const text = decodeURIComponent(argument);
  switch (place) {
    case "post": return thread(signal, argument);
    case "user": return profile(signal, argument);
    case "tag": return posts(signal, `#${text}`, { tag: text });
    case "search": return posts(signal, `Search: ${text}`, { q: text });
    case "signin": return account(false);
    case "register": return account(true);
    case "everyone": return posts(signal, "Everyone");
    default: return session.user ? feed(signal) : posts(signal, "Everyone");
  }
}

async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const elements = await view(signal).catch((problem) => [h("h1", { tabindex: -1 }, problem.message)]);
  if (signal.aborted) return; // The user has gone on meanwhile.
  main.replaceChildren(...elements.filter(Boolean));
  const heading = main.querySelector("h1");
  document.title = `${heading.textContent} · Microblog`;
  heading.focus();
  scrollTo(0, 0);
  const link = (href, label) => h("a", { href, "aria-current": href === (location.hash || "#/") && "page" }, label);
  const name = session.user?.username;
  const [ownPages, actions] = name
    ? [[link("#/", "Feed"), link("#/everyone", "Everyone"), link(`#/user/${name}`, "Your posts")],
      [h("span", null, name), button("Sign out", signOut, { class: "quiet" })]]
    : [[link("#/", "Everyone")], [link("#/signin", "Sign in"), link("#/register", "Register")]];
  pages.replaceChildren(...ownPages);
  user.replaceChildren(...actions);
}

search.addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = `#/search/${encodeURIComponent(search.elements.q.value)}`;
});
document.addEventListener("sessionend", () => {
  location.hash = "#/signin";
  show();
});
addEventListener("hashchange", show);
await resume().catch(() => {}); // Not signed in. If the service cannot be reached, the view says so.
show();
