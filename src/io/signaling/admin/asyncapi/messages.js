"use strict";
// Shows the AsyncAPI document, and sends messages over a WebSocket. Text from the network becomes text nodes, never markup.

// Maximum number of entries in the list, and maximum length of the text of an entry.
const MAX_ENTRIES = 200;
const MAX_TEXT_CHARS = 4096;
// Maximum depth of fields in a table.
const MAX_DEPTH = 6;

const $ = (id) => document.getElementById(id);

// Creates an element with children. A string becomes a text node.
function element(name, properties = {}, ...children) {
  const created = Object.assign(document.createElement(name), properties);
  created.append(...children);
  return created;
}

// Invisible characters and characters that change the writing direction are shown as code points.
const INVISIBLE =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\u{e0000}-\u{e0fff}]/gu;
const visible = (text) =>
  text.replace(INVISIBLE, (letter) => `⟨U+${letter.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);

// Text in which code is enclosed in backticks.
const inline = (text) => text.split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));

// ---- The document

let api = { channels: {}, operations: {} };

const pointer = (reference) =>
  reference.slice(2).split("/").reduce((value, name) => value?.[name.replaceAll("~1", "/").replaceAll("~0", "~")], api);
const resolve = (value) => (value?.$ref ? { ...pointer(value.$ref), ...(value.description && { description: value.description }) } : value);

// The messages of a channel. The server receives the messages of clients.
function messagesOf(id, action) {
  const operation = api.operations[`${id}.${action}`];
  return (operation?.messages ?? []).map((reference) => pointer(reference.$ref));
}

function typeOf(schema) {
  const resolved = resolve(schema);
  if (resolved.enum) return resolved.enum.map((value) => JSON.stringify(value)).join(" or ");
  const alternatives = resolved.oneOf ?? resolved.anyOf;
  if (alternatives) return [...new Set(alternatives.map(typeOf))].join(" or ");
  const types = [resolved.type ?? "any JSON"].flat();
  return types.map((type) => (type === "array" && resolved.items ? `array of ${typeOf(resolved.items)}` : type)).join(" or ");
}

// The fields of a schema, with the fields of nested objects.
function fieldsOf(schema, prefix = "", depth = 0) {
  const resolved = resolve(schema) ?? {};
  if (depth > MAX_DEPTH) return [];
  if (resolved.items) return fieldsOf(resolved.items, `${prefix}[]`, depth + 1);
  const alternatives = (resolved.oneOf ?? resolved.anyOf ?? []).flatMap((part) => fieldsOf(part, prefix, depth + 1));
  const names = Object.keys(resolved.properties ?? {});
  // `type` comes first, as in the messages.
  names.sort((one, other) => (other === "type") - (one === "type"));
  const fields = names.flatMap((name) => {
    const path = prefix ? `${prefix}.${name}` : name;
    const field = resolve(resolved.properties[name]);
    const presence = resolved.required?.includes(name) ? "always" : "optional";
    const row = { path, type: typeOf(field), presence, description: field.description ?? "" };
    return [row, ...fieldsOf(field, path, depth + 1)];
  });
  return [...fields, ...alternatives];
}

// A table that scrolls within its box.
function table(label, headings, rows) {
  const head = element("tr", {}, ...headings.map((heading) => element("th", { scope: "col" }, heading)));
  const cells = (row) => element("tr", {}, ...row.map((cell) => element("td", {}, ...[cell].flat())));
  const inner = element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows.map(cells)));
  const box = element("div", { className: "wide", tabIndex: 0 }, inner);
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", label);
  return box;
}

const code = (text) => element("code", {}, visible(text));

function messageDetails(id, message, isSent) {
  const direction = isSent ? "client → server" : "server → client";
  const summary = element("summary", {}, code(message.name), " ", element("span", { className: "quiet" }, direction), " ");
  summary.append(...inline(message.description));
  const rows = fieldsOf(message.payload).map((field) => [code(field.path), field.type, field.presence, inline(field.description)]);
  const details = element("details", {}, summary);
  details.dataset.message = message.name;
  details.dataset.sender = isSent ? "client" : "server";
  if (rows.length > 0) {
    details.append(table(`Fields of ${message.name}`, ["Field", "Type", "Present", "Meaning"], rows));
  }
  for (const { payload } of message.examples ?? []) {
    details.append(element("pre", { className: "example" }, visible(JSON.stringify(payload))));
    if (!isSent) continue;
    const use = element("button", { type: "button" }, "Use this example");
    use.addEventListener("click", () => {
      selectChannel(id);
      setMessage(payload);
      $("send-heading").scrollIntoView();
      $("message").focus();
    });
    details.append(use);
  }
  return details;
}

const parametersOf = (channel) => {
  const inPath = Object.entries(channel.parameters ?? {}).map(([name, parameter]) => ({
    name, isInPath: true, isRequired: true, description: parameter.description, example: parameter.examples?.[0] ?? "",
  }));
  const query = channel.bindings?.ws?.query ?? {};
  const inQuery = Object.entries(query.properties ?? {}).map(([name, schema]) => ({
    name, isInPath: false, isRequired: query.required?.includes(name) ?? false, description: schema.description, example: schema.examples?.[0] ?? "",
  }));
  return [...inPath, ...inQuery];
};

function addressOf(channel, values) {
  const inPath = (path, { name }) => path.replace(`{${name}}`, values ? encodeURIComponent(values[name]) : `{${name}}`);
  const parameters = parametersOf(channel);
  const path = parameters.filter((parameter) => parameter.isInPath).reduce(inPath, channel.address);
  const query = parameters.filter(({ name, isInPath }) => !isInPath && (values ? values[name] !== "" : true))
    .map(({ name }) => `${encodeURIComponent(name)}=${values ? encodeURIComponent(values[name]) : "…"}`);
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  return `${scheme}://${location.host}${path}${query.length > 0 ? `?${query.join("&")}` : ""}`;
}

function channelSection(id, channel) {
  const heading = element("h2", { id: `channel-${id}` }, `${channel.title} `, element("span", { className: "quiet" }, channel["x-dialect"]));
  const section = element("section", { className: "box" }, heading);
  section.setAttribute("aria-labelledby", heading.id);
  section.dataset.channel = id;
  section.append(element("p", {}, ...inline(channel["x-summary"])), element("p", {}, code(addressOf(channel))));
  const rows = parametersOf(channel).map((parameter) => [
    code(parameter.name), parameter.isInPath ? "path" : "query", parameter.isRequired ? "yes" : "no", inline(parameter.description),
  ]);
  if (rows.length > 0) {
    section.append(element("h3", {}, "Parameters"), table("Parameters", ["Name", "In", "Required", "Meaning"], rows));
  }
  for (const [action, title] of [["receive", "Messages from clients"], ["send", "Messages from the server"]]) {
    const messages = messagesOf(id, action);
    if (messages.length === 0) continue;
    section.append(element("h3", {}, title));
    section.append(...messages.map((message) => messageDetails(id, message, action === "receive")));
  }
  const closes = channel["x-close-codes"].map((close) => [code(String(close.code)), close.reason, inline(close.description)]);
  section.append(element("h3", {}, "Close codes"), table("Close codes", ["Code", "Reason", "Cause"], closes));
  return section;
}

// ---- The form

const currentChannel = () => api.channels[$("channel").value];
const values = () => Object.fromEntries([...$("parameters").querySelectorAll("input")].map((input) => [input.name, input.value]));

function showUrl() {
  $("url").textContent = visible(addressOf(currentChannel(), values()));
}

function setMessage(payload) {
  $("message").value = JSON.stringify(payload, null, 2);
}

function selectChannel(id) {
  if ($("channel").value !== id) {
    $("channel").value = id;
    $("channel").dispatchEvent(new Event("change"));
  }
}

function showChannel() {
  disconnect();
  const id = $("channel").value;
  const parameters = parametersOf(api.channels[id]);
  $("parameters").replaceChildren(...parameters.map(({ name, example, description }) => {
    const input = element("input", { name, value: example, autocomplete: "off", spellcheck: false, title: description });
    input.addEventListener("input", showUrl);
    return element("label", {}, `${name} `, input);
  }));
  $("issuer").hidden = $("create-token").hidden = !parameters.some(({ name }) => name === "token");
  const examples = messagesOf(id, "receive").flatMap((message) => message.examples.map(({ payload }) => [message.name, payload]));
  $("example").replaceChildren(...examples.map(([name, payload]) => {
    const option = element("option", { value: JSON.stringify(payload) }, name);
    return option;
  }));
  if (examples.length > 0) setMessage(examples[0][1]);
  else $("message").value = "";
  showUrl();
}

let removed = 0;
let sentAt;

function log(direction, text, kind) {
  const now = new Date();
  const time = `${now.toTimeString().slice(0, 8)}.${String(now.getMilliseconds()).padStart(3, "0")}`;
  const shown = text.length > MAX_TEXT_CHARS ? `${text.slice(0, MAX_TEXT_CHARS)}… (${text.length} characters)` : text;
  const delay = kind === "received" && sentAt !== undefined ? ` ${(performance.now() - sentAt).toFixed(1)} ms after the last message sent` : "";
  const entry = element("li", {}, element("time", {}, time), " ", element("span", { className: "direction" }, direction),
    element("span", { className: "quiet" }, delay), element("pre", {}, visible(shown)));
  entry.dataset.kind = kind;
  $("log").prepend(entry);
  while ($("log").childElementCount > MAX_ENTRIES) {
    $("log").lastElementChild.remove();
    removed += 1;
  }
  $("removed").textContent = removed > 0 ? `${removed} older entries removed` : "";
}

let socket;

function setState(state, text) {
  $("state").dataset.state = state;
  $("state").textContent = visible(text);
  $("connect").disabled = state === "open" || state === "connecting";
  $("disconnect").disabled = !$("connect").disabled;
  $("send-button").disabled = state !== "open";
}

// The close code, and what it means in this channel.
function closeText(channel, { code: number, reason }) {
  const closes = channel["x-close-codes"].filter((close) => close.code === number);
  const close = closes.find((one) => one.reason === reason) ?? (closes.length === 1 ? closes[0] : undefined);
  return [`Closed with ${number}`, reason, close?.description].filter(Boolean).join(": ");
}

function connect() {
  const channel = currentChannel();
  const url = addressOf(channel, values());
  let created;
  try {
    created = new WebSocket(url);
  } catch (error) {
    setState("closed", `The browser rejects the URL: ${error.message}`);
    return;
  }
  socket = created;
  sentAt = undefined;
  setState("connecting", "Connecting");
  log("connecting", url, "state");
  created.addEventListener("open", () => socket === created && setState("open", "Connected"));
  created.addEventListener("message", ({ data }) => {
    if (socket === created) log("received", typeof data === "string" ? data : "(binary message)", "received");
  });
  created.addEventListener("close", (event) => {
    if (socket !== created) return;
    socket = undefined;
    const text = closeText(channel, event);
    setState("closed", text);
    log("closed", text, "state");
  });
}

function disconnect() {
  const old = socket;
  socket = undefined;
  old?.close();
  if (old) log("closed", "Closed by this page", "state");
  setState("none", "Not connected");
}

function send() {
  const text = $("message").value;
  sentAt = performance.now();
  socket.send(text);
  log("sent", text, "sent");
}

// The fields of a token request. A token for a WebRTC room is valid for one user.
function tokenRequest() {
  const { room, roomId, userId } = values();
  if (roomId !== undefined) return { clientId: userId, room: roomId, audience: "webrtc" };
  return { clientId: "docs-page", room: room ?? currentChannel().address.split("/").pop() };
}

// Requests a token for the room of the channel. A server with a token issuer key requires the key.
async function createToken() {
  try {
    const headers = { "Content-Type": "application/json" };
    const key = $("issuer-key").value;
    if (key) headers.Authorization = `Bearer ${key}`;
    const body = JSON.stringify(tokenRequest());
    const response = await fetch(new URL("/auth/token", location.origin), { method: "POST", headers, body });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    $("parameters").querySelector("[name=token]").value = answer.token;
    showUrl();
    setState($("state").dataset.state ?? "none", $("state").textContent);
  } catch (error) {
    log("no token", `The server issued no token: ${error.message}`, "state");
  }
}

// ---- Start

async function start() {
  // The URL of the page may contain credentials, and `fetch` rejects such URLs.
  const response = await fetch(new URL("/docs/asyncapi.json", location.origin));
  if (!response.ok) throw new Error(`the server responds with status ${response.status}`);
  api = await response.json();
  $("version").textContent = visible(api.info.version);
  const channels = Object.entries(api.channels);
  $("channel").replaceChildren(...channels.map(([id, channel]) => element("option", { value: id }, channel.title)));
  $("contents").replaceChildren(...channels.map(([id, channel]) => element("a", { href: `#channel-${id}` }, channel.title)));
  $("channels").replaceChildren(...channels.map(([id, channel]) => channelSection(id, channel)));
  $("channel").addEventListener("change", showChannel);
  $("example").addEventListener("change", () => setMessage(JSON.parse($("example").value)));
  $("connect").addEventListener("click", connect);
  $("disconnect").addEventListener("click", disconnect);
  $("send-button").addEventListener("click", send);
  $("create-token").addEventListener("click", createToken);
  $("clear").addEventListener("click", () => {
    removed = 0;
    $("log").replaceChildren();
    $("removed").textContent = "";
  });
  showChannel();
  if (location.hash) document.querySelector(`[id="${CSS.escape(location.hash.slice(1))}"]`)?.scrollIntoView();
}

start().catch((error) => {
  $("failure").textContent = `The document could not be loaded: ${error.message}. Reload the page.`;
  $("failure").hidden = false;
});
