// Functions of all pages: elements, requests, and for the examples the message log and the WebSocket.
//
// Text from the network only ever becomes text nodes. It never becomes markup.

const MAX_LOG_ENTRIES = 200;
const MAX_SHOWN_CHARACTERS = 20000;

export const $ = (id) => document.getElementById(id);

// Creates an element with children, of which a string becomes a text node. `bdi` elements keep the writing direction of a name to itself.
export function element(tag, properties = {}, ...children) {
  const created = Object.assign(document.createElement(tag), properties);
  created.append(...children.flat());
  return created;
}

export const named = (name) => element("bdi", { className: "name" }, name);

// A text in which code is enclosed in backticks, as nodes.
export const prose = (text) =>
  text.split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));

// Sends a request, with a JSON body if there is one, and returns the JSON response. The URL of the page may contain a password, with which
// `fetch` would reject a relative URL.
export async function request(method, path, body, { bearer, signal } = {}) {
  const headers = { "Content-Type": "application/json" };
  if (bearer) headers.Authorization = `Bearer ${bearer}`;
  const options = { method, headers, signal, body: body && JSON.stringify(body) };
  const response = await fetch(location.origin + path, options);
  return { ok: response.ok, status: response.status, answer: await response.json() };
}

// The channels of the enabled dialects, each with its `url` on this server, and the AsyncAPI document that describes them.
export async function channels() {
  const { ok, status, answer: api } = await request("GET", "/docs/asyncapi.json");
  if (!ok) throw new Error(`the server responds with status ${status}`);
  const list = Object.entries(api.channels).map(([id, channel]) => {
    const names = Object.keys(channel.bindings.ws.query.properties);
    const query = names.length > 0 ? `?${names.map((name) => `${name}=…`).join("&")}` : "";
    return { id, ...channel, url: `${location.origin.replace("http", "ws")}${channel.address}${query}` };
  });
  return { api, list };
}

// Whether a host name means the machine on which the browser runs.
export const isLocal = (hostname) => ["localhost", "127.0.0.1", "[::1]"].includes(hostname);

// A random id. `crypto.randomUUID` would need HTTPS or localhost.
export function randomId() {
  const [first, second] = crypto.getRandomValues(new Uint32Array(2));
  return first.toString(36) + second.toString(36);
}

// Shows the state of the connection: "idle", "live" or "gone", with a text.
export function setStatus(state, text) {
  $("status").dataset.state = state;
  $("status").textContent = text;
}

// Appends an item to a list, removes the oldest items of a long list, and scrolls to the end.
function append(list, ...children) {
  const isAtEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 8;
  list.append(element("li", {}, ...children));
  while (list.childElementCount > MAX_LOG_ENTRIES) list.firstElementChild.remove();
  if (isAtEnd) list.scrollTop = list.scrollHeight;
}

// Adds an entry to the message log. `direction` is "sent", "received" or "info". The entry shows
// `title`, and the whole value when it is opened.
export function log(direction, title, value) {
  const mark = { sent: "→ sent", received: "← received", info: "· info" }[direction];
  const time = element("time", {}, new Date().toTimeString().slice(0, 8));
  const summary = element("summary", {}, time, " ", element("b", {}, mark), " ", element("bdi", {}, title));
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  const details = text === undefined ? [] : element("pre", {}, text.slice(0, MAX_SHOWN_CHARACTERS));
  append($("log"), element("details", { className: direction }, summary, details));
}

// Adds a line to a chat.
export const addChatLine = (name, text) => append($("chat"), named(name), " ", element("bdi", {}, text));

// Like `request`, and logs the request and the response.
export async function loggedRequest(method, path, body, bearer) {
  log("sent", `${method} ${path}`, body);
  const response = await request(method, path, body, { bearer });
  // A token is a secret, so the log does not show it.
  const shown = response.answer.token ? { ...response.answer, token: "TOKEN" } : response.answer;
  log("received", `${response.status} (${method} ${path})`, shown);
  return response;
}

// Opens a WebSocket on this server for JSON messages, and logs them. The handlers are `onOpen()`, `onMessage(message)` and `onClose(event)`.
// Returns `send(message)` and `close()`. Pages on https:// may only open wss:// sockets.
export function connect(path, parameters, { onOpen, onMessage, onClose }) {
  const url = new URL(path, location.origin.replace("http", "ws"));
  url.search = new URLSearchParams(parameters);
  const socket = new WebSocket(url);
  // A token is a secret, so the log shows its place only.
  if (url.searchParams.has("token")) url.searchParams.set("token", "TOKEN");
  log("info", `opening ${url.origin}${url.pathname}`, url.href);
  socket.onopen = () => onOpen?.();
  socket.onmessage = ({ data }) => {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      log("received", "text that is not JSON", String(data));
      return;
    }
    log("received", String(message?.type ?? Object.keys(message ?? {})[0]), message);
    onMessage(message);
  };
  socket.onclose = (event) => {
    log("info", `closed with code ${event.code}`, event.reason || "no reason given");
    onClose?.(event);
  };
  return {
    send(message) {
      if (socket.readyState !== WebSocket.OPEN) return;
      log("sent", message.type, message);
      socket.send(JSON.stringify(message));
    },
    close: () => socket.close(),
  };
}

// The words for a close event, for the status line.
export const closeText = ({ code, reason }) =>
  `Closed: ${reason || (code === 1006 ? "the connection was lost" : "by the server")} (${code})`;

// Runs `action` when the form is submitted, by button or Enter key.
export function onSubmit(id, action) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    action();
  });
}
