// Fills the start page from the AsyncAPI document: the URLs of the enabled dialects, and a command that checks the server.

import { $, channels, element, isLocal } from "./shared.js";

function entry(name, description, url) {
  return [element("dt", {}, name), element("dd", {}, description, " ", element("code", {}, url))];
}

// A MOQT echo in the same process. If it listens on all addresses, the browser reaches it at the same host as this page.
export function moqtEntry(text) {
  const url = new URL(text);
  const where = isLocal(url.hostname) ? ", on the machine of the server only" : "";
  if (["0.0.0.0", "[::]"].includes(url.hostname)) url.hostname = location.hostname;
  return entry("moqt", `MOQT echo over WebTransport (UDP)${where}`, url.href);
}

const { api, list } = await channels();
const dialects = new Set(list.map(({ tags }) => tags[0].name));
$("facts").textContent = `jamjam-dev ${api.info.version} at ${location.host}`;
$("channels").append(...list.flatMap(({ tags, title, url }) => entry(tags[0].name, title, url)));
if (api["x-moqt-url"]) $("channels").append(...moqtEntry(api["x-moqt-url"]));
// A probe without a room needs the jamjam dialect.
const probe = `jamjam-dev probe --to ${location.origin.replace("http", "ws")}`;
$("command").textContent = dialects.has("jamjam") ? probe : `curl ${location.origin}/health`;
for (const item of document.querySelectorAll("[data-dialect]")) item.hidden = !dialects.has(item.dataset.dialect);
if (location.pathname !== "/") $("examples").scrollIntoView();
