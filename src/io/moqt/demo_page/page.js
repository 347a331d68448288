"use strict";
// User interface of the demo page. Data from the server becomes text nodes, never markup.

const BURST_GROUPS = 50;
const BURST_INTERVAL_MS = 20;
// Time after which a group without an echo counts as lost.
const REPLY_TIMEOUT_MS = 3000;
// Maximum number of texts in the table and of groups in the plot.
const MAX_TEXTS = 50;
const MAX_GROUPS = 100;
const SHUTDOWN_WAIT_MS = 500;
const DAY_MS = 24 * 60 * 60 * 1000;
// Browsers accept the hash of a certificate only up to this lifetime.
const MAX_CERTIFICATE_DAYS = 14;

const $ = (id) => document.getElementById(id);
const ms = (span) => span.toFixed(span < 10 ? 2 : 1);
const formatTime = (at) => new Date(at).toISOString().slice(0, 16).replace("T", " ") + " UTC";

let serverInfo = null;
let session = null;
let sequence = 0;
// Incremented for each connection, to ignore results of earlier ones.
let epoch = 0;
// Sent groups by sequence number, the oldest first.
const groups = new Map();

// ---- Error messages

// Reason why browsers reject the hash of the certificate, or null.
function hashProblem({ isP256, notBeforeMs, notAfterMs }) {
  const days = (notAfterMs - notBeforeMs) / DAY_MS;
  if (days > MAX_CERTIFICATE_DAYS) return `the certificate is valid for ${Math.ceil(days)} days, more than the maximum of ${MAX_CERTIFICATE_DAYS}`;
  return isP256 ? null : "the key of the certificate is not ECDSA P-256";
}

// Problem with the certificate, or null.
function certificateProblem({ notBeforeMs, notAfterMs, ...serverInfo }, now) {
  if (now > notAfterMs) {
    return `The server’s certificate expired on ${formatTime(notAfterMs)}: renew it, or check the clock of this machine.`;
  }
  if (now < notBeforeMs) return `The server’s certificate is not valid before ${formatTime(notBeforeMs)}: check the clock of this machine.`;
  const reason = hashProblem({ notBeforeMs, notAfterMs, ...serverInfo });
  if (!reason) return null;
  return `Browsers do not accept the hash of this server’s certificate, because ${reason}. Therefore the certificate must be issued by a CA that this browser trusts. Without --cert and --key, the server uses a certificate that browsers accept.`;
}

const SERVER_GONE = "The server does not respond. Restart it, then press “Reconnect”.";

// Explains a failed connection to `path`.
async function connectError(error, path) {
  if (!(await fetchServerInfo())) return SERVER_GONE;
  if (error.name === "SyntaxError") return `Invalid path ${path}: ${error.message}`;
  if (path !== serverInfo.path) return `Unknown path ${path} (404): the server serves ${serverInfo.path}.`;
  // Errors of this page are specific; those of the browser are not.
  if (error.name === "Error") return `Cannot connect: ${error.message}`;
  const hint = certificateProblem(serverInfo, Date.now()) ?? "Check that no firewall blocks UDP to the server’s port.";
  return `Cannot connect: the server is running, but this browser cannot reach it over QUIC. ${hint} Browser error: ${error.message || error.name}`;
}

// Explains why the session ended.
async function closeReason(closed) {
  // A server that shuts down may close its sessions before it stops responding to HTTP requests.
  await new Promise((then) => setTimeout(then, SHUTDOWN_WAIT_MS));
  if (!(await fetchServerInfo())) return SERVER_GONE;
  if (closed instanceof Error) return `The connection was lost: ${closed.message} The server is running: press “Reconnect”.`;
  return `The server closed the session: ${closed.reason || "no reason given"} (code ${closed.closeCode}). Press “Reconnect”.`;
}

// ---- The session

function setStatus(state, mark, text, error) {
  $("link").dataset.state = state;
  $("link-mark").textContent = mark;
  $("link-words").textContent = text;
  $("error").textContent = error ?? "";
  $("error").hidden = !error;
  $("send").disabled = $("burst").disabled = state !== "live";
}

// Requests the server information, because the server may have been restarted. Returns whether the server responds.
async function fetchServerInfo() {
  try {
    const response = await fetch("/server-info", { cache: "no-store", signal: AbortSignal.timeout(2000) });
    if (!response.ok) return false;
    const { origin } = serverInfo ?? {};
    serverInfo = await response.json();
    // The content security policy allows one origin only.
    if (origin && origin !== serverInfo.origin) location.reload();
    return true;
  } catch {
    return false;
  }
}

async function connect() {
  epoch += 1;
  const current = epoch;
  session?.close();
  session = null;
  setStatus("waiting", "○", "Connecting");
  if (!("WebTransport" in globalThis)) {
    setStatus("gone", "✕", "No WebTransport", "This browser does not support WebTransport. Chromium, Chrome, Edge and Firefox support it on pages from localhost, 127.0.0.1 or https.");
    return;
  }
  const responds = await fetchServerInfo();
  if (current !== epoch) return;
  if (!responds) return setStatus("gone", "✕", "Not connected", SERVER_GONE);
  $("path").value ||= serverInfo.path;
  const path = `/${$("path").value.replace(/^\/+/, "")}`;
  $("url").textContent = serverInfo.origin.replace("https://", "") + path;
  const validity = `certificate valid until ${formatTime(serverInfo.notAfterMs)}`;
  const version = $("version").value;
  $("server-info").textContent = `version ${version} over WebTransport · ${validity}${serverInfo.delayMs ? ` · delay ${serverInfo.delayMs} ms` : ""}`;
  const value = new Uint8Array(serverInfo.sha256.match(/../g).map((pair) => Number.parseInt(pair, 16)));
  const hashes = hashProblem(serverInfo) ? [] : [{ algorithm: "sha-256", value }];
  const startedAt = performance.now();
  try {
    const opened = new Session(serverInfo.origin + path, hashes, VERSIONS[version](serverInfo.prefix), onFrame);
    await opened.open();
    if (current !== epoch) return opened.close();
    session = opened;
    setStatus("live", "●", `Connected in ${ms(performance.now() - startedAt)} ms`);
    const closed = await session.closed.catch((error) => error);
    if (current !== epoch) return;
    setStatus("waiting", "○", "Disconnected");
    const reason = await closeReason(closed);
    if (current === epoch) setStatus("gone", "✕", "Not connected", reason);
  } catch (error) {
    const reason = await connectError(error, path);
    if (current === epoch) setStatus("gone", "✕", "Not connected", reason);
  }
}

// Sends a text as a group and returns the group. Its `settled` promise resolves when the echo returns or is lost (then `rttMs` is null).
async function send(text) {
  sequence += 1;
  const number = sequence;
  const settled = Promise.withResolvers();
  const at = await session.send(number, new TextEncoder().encode(text));
  const group = { sequence: number, text, at, settled, rttMs: undefined, echo: undefined };
  setTimeout(() => settle(group, null), REPLY_TIMEOUT_MS + (serverInfo.delayMs ?? 0));
  groups.set(number, group);
  if (groups.size > 2 * MAX_GROUPS) groups.delete(groups.keys().next().value);
  return group;
}

function settle(group, rttMs) {
  if (group.rttMs !== undefined) return;
  group.rttMs = rttMs;
  group.settled.resolve(group);
  draw();
}

function onFrame(number, frame, at) {
  const group = groups.get(number);
  if (!group || group.rttMs !== undefined) return;
  group.echo = new TextDecoder().decode(frame);
  settle(group, at - group.at);
}

// ---- Texts

function addRow(group) {
  const body = $("messages").tBodies[0];
  const row = body.insertRow(0);
  const cell = (text, name) => {
    const added = row.insertCell();
    const content = document.createElement("bdi");
    content.textContent = text;
    added.append(content);
    added.className = name;
    return content;
  };
  cell(group.sequence, "");
  cell(group.text, "words");
  const [echo, took] = [cell("…", "words echo"), cell("…", "")];
  while (body.rows.length > MAX_TEXTS) body.deleteRow(-1);
  $("messages-empty").hidden = true;
  group.settled.promise.then(() => {
    const isLost = group.rttMs === null;
    row.className = isLost ? "lost" : "";
    echo.textContent = isLost ? "lost" : group.echo;
    took.textContent = isLost ? "–" : ms(group.rttMs);
    if (!isLost && group.echo !== group.text) echo.textContent += " (differs from the sent text)";
  });
}

async function sendText(event) {
  event.preventDefault();
  const text = $("text").value || $("text").placeholder;
  $("text").value = "";
  try {
    addRow(await send(text));
  } catch {
    // The session has just ended; connect() reports it.
  }
}

async function sendBurst(event) {
  event.preventDefault();
  // A disabled button would lose the focus, so the button only has `ariaDisabled`.
  if ($("burst").ariaDisabled === "true") return;
  $("burst").ariaDisabled = "true";
  const current = epoch;
  const report = (text) => {
    $("burst-status").textContent = text;
  };
  report(`Sending ${BURST_GROUPS} groups`);
  const sent = [];
  try {
    for (let count = 1; count <= BURST_GROUPS && current === epoch; count += 1) {
      sent.push(await send(`group ${count} of ${BURST_GROUPS}`));
      await new Promise((next) => setTimeout(next, BURST_INTERVAL_MS));
    }
  } catch {
    // The session has just ended; connect() reports it.
  }
  const finished = await Promise.all(sent.map(({ settled }) => settled.promise));
  const returned = finished.filter(({ text, echo }) => echo === text).length;
  report(`${returned} of ${BURST_GROUPS} returned`);
  $("burst").ariaDisabled = "false";
}

// ---- The plot

function svg(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// The smallest of 0.01, 0.02, 0.05, 0.1, ... that is at least `minimum`.
function axisMaximum(minimum) {
  for (let step = 0.01; ; step *= 10) {
    const maximum = [1, 2, 5].map((factor) => factor * step).find((value) => value >= minimum);
    if (maximum) return maximum;
  }
}

function draw() {
  const shown = [...groups.values()].filter(({ rttMs }) => rttMs !== undefined).slice(-MAX_GROUPS);
  const rtts = shown.filter(({ rttMs }) => rttMs !== null).map(({ rttMs }) => rttMs).sort((a, b) => a - b);
  const [height, left, right, top, bottom] = [240, 58, 14, 12, 44];
  const { width } = $("plot").getBoundingClientRect();
  $("plot").setAttribute("viewBox", `0 0 ${width} ${height}`);
  const maximum = axisMaximum(rtts.at(-1) ?? 1);
  const [first, last] = [shown[0]?.sequence ?? 1, Math.max(shown.at(-1)?.sequence ?? 1, (shown[0]?.sequence ?? 1) + 9)];
  // The margin of 8 keeps the points off the axis.
  const x = (number) => left + 8 + ((number - first) / (last - first)) * (width - left - right - 16);
  const y = (value) => height - bottom - (value / maximum) * (height - top - bottom);
  const parts = [];
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const at = y(share * maximum);
    parts.push(svg("line", { x1: left, x2: width - right, y1: at, y2: at, class: share ? "grid" : "axis" }));
    parts.push(svg("text", { x: left - 6, y: at + 4, class: "end" }, String(Number((share * maximum).toPrecision(3)))));
  }
  for (const share of [0, 0.5, 1]) {
    const number = Math.round(first + share * (last - first));
    parts.push(svg("text", { x: x(number), y: height - bottom + 18, class: "middle" }, number));
  }
  parts.push(svg("text", { x: (left + width - right) / 2, y: height - 6, class: "middle label" }, "group"));
  const middle = (top + height - bottom) / 2;
  parts.push(svg("text", { x: 14, y: middle, transform: `rotate(-90 14 ${middle})`, class: "middle label" }, "RTT (ms)"));
  for (const { sequence: number, rttMs } of shown) {
    parts.push(rttMs === null
      ? svg("text", { x: x(number), y: y(0) - 4, class: "middle lost" }, "✕")
      : svg("circle", { cx: x(number), cy: y(rttMs), r: 3 }));
  }
  $("plot").replaceChildren(...parts);
  if (!shown.length) return;
  const lost = shown.length - rtts.length;
  const figures = rtts.length ? `Median ${ms(rtts[Math.floor((rtts.length - 1) / 2)])} ms, maximum ${ms(rtts.at(-1))} ms` : "All groups were lost";
  const of = `of the last ${shown.length} group${shown.length === 1 ? "" : "s"}`;
  $("summary").textContent = `${figures}, ${of}.${lost ? ` ✕ ${lost} lost.` : ""}`;
}

// ---- Event handlers

for (const name of Object.keys(VERSIONS)) $("version").add(new Option(name));
$("version").addEventListener("change", connect);
$("message-form").addEventListener("submit", sendText);
$("burst-form").addEventListener("submit", sendBurst);
$("path-form").addEventListener("submit", (event) => {
  event.preventDefault();
  connect();
});
addEventListener("resize", draw);
addEventListener("pagehide", () => session?.close());
draw();
connect();
