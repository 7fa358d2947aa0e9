// Elements, forms and text. User text becomes text nodes, never HTML.

const BODY_MAXIMUM = 140;
let lastId = 0;

/** Create an element. Attributes that begin with `on` are listeners; children are nodes or text. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null));
  return element;
}

/** Return a button. While its action runs, a click has no effect; an error is shown at the bottom of the page. */
export function button(label, action, attributes) {
  const notice = document.getElementById("notice"); // Screen readers say its text.
  const element = h("button", { type: "button", ...attributes, onclick: async () => {
    if (element.ariaBusy) return;
    element.ariaBusy = "true";
    notice.textContent = "";
    await Promise.resolve().then(action).catch((problem) => { notice.textContent = problem.message; });
    element.ariaBusy = null;
  } }, label);
  return element;
}

/** Return a labelled field with a place for its error. */
export function field(label, name, attributes, tag = "input") {
  const id = `${name}-${++lastId}`;
  const control = h(tag, { id, name, "aria-describedby": `${id}-error`, ...attributes });
  return h("div", null, h("label", { for: id }, label), control, h("p", { class: "error", id: `${id}-error` }));
}

/** Return a form. `submit` gets the values of the fields; a Problem that it throws is shown at the fields. */
export function form(name, fields, action, submit) {
  const error = h("p", { class: "error", role: "alert" });
  const element = h("form", { "aria-label": name, novalidate: "", onsubmit: async (event) => {
    event.preventDefault();
    if (element.ariaBusy) return;
    element.ariaBusy = "true";
    showErrors(element, []);
    error.textContent = "";
    await submit(Object.fromEntries(new FormData(element))).catch((problem) => {
      error.textContent = showErrors(element, problem.errors ?? []) ? "" : problem.message;
      element.querySelector("[aria-invalid]")?.focus(); // Its error is its description, which is read aloud.
    });
    element.ariaBusy = null;
  } }, ...fields, error, h("div", { class: "row" }, h("button", { class: "primary" }, action)));
  return element;
}

// Show each error at the field that its JSON Pointer names. Return whether all of them have a field.
function showErrors(form, errors) {
  for (const control of form.elements) {
    const error = errors.find(({ pointer }) => pointer === `/${control.name}`);
    const place = document.getElementById(`${control.id}-error`);
    if (place) place.textContent = error?.detail ?? "";
    if (error) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
  }
  return errors.length > 0 && errors.every(({ pointer }) => form.elements[pointer?.slice(1)]);
}

/** Return a form for the text of a post, which counts as the service does: code points after NFC. */
export function composer(name, label, action, submit, text = "") {
  const count = h("span", { class: "count" });
  const body = field(label, "body", { rows: 2 }, "textarea");
  const control = body.querySelector("textarea");
  const show = () => {
    const left = BODY_MAXIMUM - Array.from(control.value.normalize("NFC")).length;
    count.textContent = left < 0 ? `${-left} characters too many` : `${left} characters left`;
    count.classList.toggle("over", left < 0);
  };
  const element = form(name, [body], action, async (values) => {
    if (await submit(values.body) === false) return; // Not yet: the text stays.
    control.value = "";
    show();
  });
  element.lastChild.prepend(count);
  control.value = text;
  control.addEventListener("input", show);
  show();
  return element;
}

/** Return the text of a post with its entities and URLs as links. Their offsets count code points, not UTF-16. */
export function linked({ body, entities, urls }) {
  const points = Array.from(body);
  const nodes = [];
  let at = 0;
  for (const { start, end, tag, username, url } of [...entities, ...urls].sort((a, b) => a.start - b.start)) {
    const text = points.slice(start, end).join("");
    const link = tag ? { href: `#/tag/${encodeURIComponent(tag)}` }
      : username ? { href: `#/user/${username}` }
      : /^https?:/.test(url) ? { href: url, rel: "nofollow noopener", target: "_blank" }
      : null; // A kind of entity that is newer than this page stays text.
    nodes.push(points.slice(at, start).join(""), link ? h("a", link, text) : text);
    at = end;
  }
  return [...nodes, points.slice(at).join("")];
}

/** Return a time as people say it, with the exact one in the tooltip. */
export function when(timestamp) {
  const date = new Date(timestamp);
  const minutes = Math.floor((Date.now() - date) / 60_000);
  const text = minutes < 1 ? "now" : minutes < 60 ? `${minutes} min`
    : minutes < 1440 ? `${Math.floor(minutes / 60)} h` : date.toLocaleDateString(undefined, { dateStyle: "medium" });
  return h("time", { datetime: timestamp, title: date.toLocaleString() }, text);
}
