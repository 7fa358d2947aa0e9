// The documentation page: shows the guides and the contract, and signs in to try operations.

const contract = document.querySelector("#contract");
const signIn = document.querySelector("#sign-in");
const signOut = document.querySelector("#sign-out");
const message = document.querySelector("#sign-in-message");
const dark = matchMedia("(prefers-color-scheme: dark)");

let api; // URL of the API, from the contract.
let tokens; // The token pair; it is in memory only.
let timer;

function setTheme() {
  contract.setAttribute("theme", dark.matches ? "dark" : "light");
  contract.setAttribute("bg-color", dark.matches ? "#14171c" : "#ffffff");
  contract.setAttribute("text-color", dark.matches ? "#d5dae1" : "#23272e");
  contract.setAttribute("nav-bg-color", dark.matches ? "#1b1f26" : "#f5f7fa");
  contract.setAttribute("nav-text-color", dark.matches ? "#b6bec9" : "#454d59");
}

async function load() {
  const [document, guides] = await Promise.all([
    fetch("openapi.json").then((response) => response.json()),
    fetch("docs/guides.md").then((response) => response.text()),
  ]);
  api = new URL(document.servers[0].url, location.href).href;
  document.info.description += `\n${guides}`;
  contract.loadSpec(document);
  signIn.querySelector("button").disabled = false;
}

async function call(method, path, headers, body) {
  const response = await fetch(api + path, { method, headers, body: body && JSON.stringify(body) });
  const content = response.status === 204 ? null : await response.json();
  if (!response.ok) throw new Error(content.detail);
  return content;
}

function use(pair) {
  tokens = pair;
  contract.setApiKey("bearerAuth", pair ? pair.access_token : "");
  clearTimeout(timer);
  if (pair) timer = setTimeout(refresh, Math.max(pair.expires_in - 60, 1) * 1000);
  signIn.hidden = Boolean(pair);
  signOut.hidden = !pair;
}

async function refresh() {
  try {
    const headers = { "Content-Type": "application/json" };
    use(await call("POST", "/tokens/refresh", headers, { refresh_token: tokens.refresh_token }));
  } catch (error) {
    use(null);
    message.textContent = error.message;
  }
}

signIn.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { username, password } = Object.fromEntries(new FormData(signIn));
  const credentials = String.fromCharCode(...new TextEncoder().encode(`${username}:${password}`));
  message.textContent = "";
  try {
    use(await call("POST", "/tokens", { Authorization: `Basic ${btoa(credentials)}` }));
    document.querySelector("#signed-in-as").textContent = `Signed in as ${username}`;
    signIn.reset();
  } catch (error) {
    message.textContent = error.message;
  }
});

signOut.addEventListener("submit", async (event) => {
  event.preventDefault();
  message.textContent = "";
  const headers = { Authorization: `Bearer ${tokens.access_token}` };
  await call("DELETE", "/tokens/current", headers).catch(() => {}); // It may have expired.
  use(null);
});

// On a phone there is no room for tables of parameters: their cells follow each other. Rules in docs.css do not
// reach into the elements of RapiDoc.
const narrow = new CSSStyleSheet();
narrow.replaceSync(`@media (max-width: 768px) {
  .m-table, .m-table tbody, .m-table tr, .m-table td { display: block; }
  .m-table tr:not(:first-child):has(.param-name) { border-top: 1px solid var(--light-border-color); }
  .m-table > tbody > tr > td, .m-table > tr > td { border: 0; min-width: 0 !important; width: auto !important; }
  .m-table td:empty { display: none; }
  .param-name, .param-type { text-align: left; }
}`);
customElements.get("api-request").elementStyles.push(narrow);
// Nor is there room for the list of operations: they follow each other.
if (matchMedia("(max-width: 768px)").matches) contract.setAttribute("render-style", "read");
dark.addEventListener("change", setTheme);
setTheme();
load();
