// Functions that all example pages use: elements, the message log and the WebSocket.
//
// Text from the network is only ever set as `textContent`. It never becomes markup.

const MAX_LOG_ENTRIES = 200;
const MAX_SHOWN_CHARACTERS = 20000;

export const $ = (id) => document.getElementById(id);

// Creates an element with a text. `bdi` elements keep the writing direction of a name to itself.
export function element(tag, text = "", className = "") {
  const created = document.createElement(tag);
  created.textContent = text;
  if (className) created.className = className;
  return created;
}

// A text in which code is enclosed in backticks, as nodes.
export const prose = (text) =>
  text.split("`").map((part, index) => (index % 2 ? element("code", part) : part));

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
export function append(list, item) {
  const isAtEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 8;
  list.append(item);
  while (list.childElementCount > MAX_LOG_ENTRIES) list.firstElementChild.remove();
  if (isAtEnd) list.scrollTop = list.scrollHeight;
}

// Adds an entry to the message log. `direction` is "sent", "received" or "info". The entry shows
// `title`, and the whole value when it is opened.
export function log(direction, title, value) {
  const details = element("details", "", direction);
  const summary = element("summary");
  const mark = { sent: "→ sent", received: "← received", info: "· info" }[direction];
  const time = element("time", new Date().toTimeString().slice(0, 8));
  summary.append(time, " ", element("b", mark), " ", element("bdi", title));
  details.append(summary);
  if (value !== undefined) {
    const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
    details.append(element("pre", text.slice(0, MAX_SHOWN_CHARACTERS)));
  }
  const item = element("li");
  item.append(details);
  append($("log"), item);
}

// Adds a line to a chat.
export function addChatLine(name, text) {
  const item = element("li");
  item.append(element("bdi", name, "name"), " ", element("bdi", text));
  append($("chat"), item);
}

// The URL of a WebSocket on this server. Pages on https:// may only open wss:// sockets.
export function socketUrl(path, parameters = {}) {
  const url = new URL(path, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.search = new URLSearchParams(parameters);
  return url;
}

// Opens a WebSocket for JSON messages and logs them. The handlers are `onOpen()`,
// `onMessage(message)` and `onClose(event)`. Returns `send(message)` and `close()`.
export function connect(url, { onOpen, onMessage, onClose }) {
  const socket = new WebSocket(url);
  log("info", `opening ${url.protocol}//${url.host}${url.pathname}`, withoutToken(url));
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

// Sends a JSON body, logs the request and the response, and returns the response.
export async function post(path, body, bearer) {
  log("sent", `POST ${path}`, body);
  const headers = { "Content-Type": "application/json" };
  if (bearer) headers.Authorization = `Bearer ${bearer}`;
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  const answer = await response.json();
  // The token is a secret, so the log does not show it.
  const shown = answer.token ? { ...answer, token: "TOKEN" } : answer;
  log("received", `${response.status} (POST ${path})`, shown);
  return { ok: response.ok, status: response.status, answer };
}

// The words for a close event, for the status line.
export const closeText = ({ code, reason }) =>
  `Closed: ${reason || (code === 1006 ? "the connection was lost" : "by the server")} (${code})`;

// A token is a secret, so the log shows its place only.
function withoutToken(url) {
  const shown = new URL(url);
  if (shown.searchParams.has("token")) shown.searchParams.set("token", "TOKEN");
  return shown.href;
}

// Runs `action(event)` when the form is submitted, by button or Enter key.
export function onSubmit(id, action) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    action(event);
  });
}
