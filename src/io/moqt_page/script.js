"use strict";
// What a person sees and does. What comes from the server becomes text nodes, never markup.

const MANY = 50;
const EVERY_MS = 20;
// What has not come back by then after the last of them is lost.
const PATIENCE_MS = 3000;
// Texts on the page, and groups in the plot.
const MOST_TEXTS = 50;
const MOST_GROUPS = 100;
const ENDING_MS = 500;
const DAY_MS = 24 * 60 * 60 * 1000;
// No browser takes the hash of a certificate that is valid for longer.
const MOST_DAYS = 14;

const $ = (id) => document.getElementById(id);
const ms = (span) => span.toFixed(span < 10 ? 2 : 1);
const moment = (at) => new Date(at).toISOString().slice(0, 16).replace("T", " ") + " UTC";

let facts = null;
let session = null;
let sequence = 0;
// Whoever connects anew raises it: what earlier sessions still tell is not listened to.
let epoch = 0;
// Groups by their sequence: when they left, what was in them, when they came back; the oldest first.
const groups = new Map();

// ---- Words for what goes wrong

// Why browsers take no hash of the certificate, or nothing.
function whyNoHash({ isP256, notBeforeMs, notAfterMs }) {
  const days = (notAfterMs - notBeforeMs) / DAY_MS;
  if (days > MOST_DAYS) return `it is valid for ${Math.ceil(days)} days, and ${MOST_DAYS} at most are allowed`;
  return isP256 ? null : "its key is not ECDSA P-256";
}

// What is wrong with the certificate, or nothing.
function certificateTrouble({ notBeforeMs, notAfterMs, ...facts }, now) {
  if (now > notAfterMs) {
    return `The server’s certificate expired on ${moment(notAfterMs)}: it needs a new one, unless this machine’s clock is wrong.`;
  }
  if (now < notBeforeMs) return `The server’s certificate is valid from ${moment(notBeforeMs)} on: this machine’s clock may be wrong.`;
  const why = whyNoHash({ notBeforeMs, notAfterMs, ...facts });
  if (!why) return null;
  return `Browsers take no hash of this server’s certificate, because ${why}; so it must come from an authority that this browser trusts. Started without --cert and --key, the server makes one that browsers take.`;
}

const GONE = "The server is gone: it does not answer any more. Start it again, then press “Connect again”.";

// Why there is no session; `path` was asked for.
async function whyNot(error, path) {
  if (!(await askFacts())) return GONE;
  if (error.name === "SyntaxError") return `${path} is no path: ${error.message}`;
  if (path !== facts.path) return `There is nothing at ${path}: the server answers 404. It serves ${facts.path} alone.`;
  // What this page has found out is said in its own words; a browser's are few.
  if (error.name === "Error") return `No session: ${error.message}`;
  const trouble = certificateTrouble(facts, Date.now()) ?? "Is UDP to its port blocked?";
  return `No session: the server is there, but this browser does not reach it over QUIC. ${trouble} The browser says: ${error.message || error.name}`;
}

// Why the session ended.
async function whyOver(ended) {
  // A server that ends may close its sessions before it stops answering here.
  await new Promise((then) => setTimeout(then, ENDING_MS));
  if (!(await askFacts())) return GONE;
  if (ended instanceof Error) return `The session broke off: ${ended.message} The server is there: press “Connect again”.`;
  return `The server closed the session: ${ended.reason || "no reason given"} (code ${ended.closeCode}). Press “Connect again”.`;
}

// ---- The session

function show(state, mark, words, trouble) {
  $("link").dataset.state = state;
  $("link-mark").textContent = mark;
  $("link-words").textContent = words;
  $("trouble").textContent = trouble ?? "";
  $("trouble").hidden = !trouble;
  $("send").disabled = $("fifty").disabled = state !== "live";
}

// Asks the server what it is now: it may have been started anew. Whether it answers.
async function askFacts() {
  try {
    const answer = await fetch("/facts", { cache: "no-store", signal: AbortSignal.timeout(2000) });
    if (!answer.ok) return false;
    const { origin } = facts ?? {};
    facts = await answer.json();
    // This page may only ask the place that it was made for.
    if (origin && origin !== facts.origin) location.reload();
    return true;
  } catch {
    return false;
  }
}

async function connect() {
  epoch += 1;
  const mine = epoch;
  session?.close();
  session = null;
  show("waiting", "○", "Connecting");
  if (!("WebTransport" in globalThis)) {
    show("gone", "✕", "No WebTransport", "This browser has no WebTransport. Chromium, Chrome, Edge and Firefox have it, on pages from localhost, 127.0.0.1 or https.");
    return;
  }
  const isThere = await askFacts();
  if (mine !== epoch) return;
  if (!isThere) return show("gone", "✕", "Not connected", GONE);
  $("path").value ||= facts.path;
  const path = `/${$("path").value.replace(/^\/+/, "")}`;
  $("place").textContent = facts.origin.replace("https://", "") + path;
  const until = `certificate valid until ${moment(facts.notAfterMs)}`;
  $("facts").textContent = `version 0x${VERSION.toString(16)} over WebTransport · ${until}${facts.delayMs ? ` · held for ${facts.delayMs} ms` : ""}`;
  const value = new Uint8Array(facts.sha256.match(/../g).map((pair) => Number.parseInt(pair, 16)));
  const hashes = whyNoHash(facts) ? [] : [{ algorithm: "sha-256", value }];
  const began = performance.now();
  try {
    const made = new Session(facts.origin + path, hashes, facts.prefix, heard);
    await made.open();
    if (mine !== epoch) return made.close();
    session = made;
    show("live", "●", `Connected in ${ms(performance.now() - began)} ms`);
    const ended = await session.closed.catch((error) => error);
    if (mine !== epoch) return;
    show("waiting", "○", "Disconnected");
    const why = await whyOver(ended);
    if (mine === epoch) show("gone", "✕", "Not connected", why);
  } catch (error) {
    const why = await whyNot(error, path);
    if (mine === epoch) show("gone", "✕", "Not connected", why);
  }
}

// Sends a text as a group of its own; whoever waits for it is told when it has come, or with `null` that it has not.
async function send(text) {
  sequence += 1;
  const mine = sequence;
  const came = Promise.withResolvers();
  const at = await session.send(mine, new TextEncoder().encode(text));
  const group = { sequence: mine, text, at, came, tookMs: undefined, echo: undefined };
  setTimeout(() => settle(group, null), PATIENCE_MS + (facts.delayMs ?? 0));
  groups.set(mine, group);
  if (groups.size > 2 * MOST_GROUPS) groups.delete(groups.keys().next().value);
  return group;
}

function settle(group, tookMs) {
  if (group.tookMs !== undefined) return;
  group.tookMs = tookMs;
  group.came.resolve(group);
  draw();
}

function heard(number, frame, at) {
  const group = groups.get(number);
  if (!group || group.tookMs !== undefined) return;
  group.echo = new TextDecoder().decode(frame);
  settle(group, at - group.at);
}

// ---- Texts

function addRow(group) {
  const body = $("said").tBodies[0];
  const row = body.insertRow(0);
  const cell = (text, name) => {
    const made = row.insertCell();
    const words = document.createElement("bdi");
    words.textContent = text;
    made.append(words);
    made.className = name;
    return words;
  };
  cell(group.sequence, "");
  cell(group.text, "words");
  const [echo, took] = [cell("…", "words echo"), cell("…", "")];
  while (body.rows.length > MOST_TEXTS) body.deleteRow(-1);
  $("said-empty").hidden = true;
  group.came.promise.then(() => {
    const isLost = group.tookMs === null;
    row.className = isLost ? "lost" : "";
    echo.textContent = isLost ? "has not come back" : group.echo;
    took.textContent = isLost ? "–" : ms(group.tookMs);
    if (!isLost && group.echo !== group.text) echo.textContent += " (not what was sent)";
  });
}

async function sayText(event) {
  event.preventDefault();
  const text = $("text").value || $("text").placeholder;
  $("text").value = "";
  try {
    addRow(await send(text));
  } catch {
    // The session has just ended, which is being told.
  }
}

async function sendMany(event) {
  event.preventDefault();
  // It keeps the focus meanwhile, so it is not disabled.
  if ($("fifty").ariaDisabled === "true") return;
  $("fifty").ariaDisabled = "true";
  const mine = epoch;
  const say = (text) => {
    $("fifty-words").textContent = text;
  };
  say(`Sending ${MANY} groups`);
  const sent = [];
  try {
    for (let count = 1; count <= MANY && mine === epoch; count += 1) {
      sent.push(await send(`group ${count} of ${MANY}`));
      await new Promise((next) => setTimeout(next, EVERY_MS));
    }
  } catch {
    // The session has just ended, which is being told.
  }
  const ended = await Promise.all(sent.map(({ came }) => came.promise));
  const back = ended.filter(({ text, echo }) => echo === text).length;
  say(`${back} of ${MANY} came back`);
  $("fifty").ariaDisabled = "false";
}

// ---- The plot

function svg(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// The smallest of 1, 2, 5, 10, 20, ... hundredths that is not below `most`.
function ceiling(most) {
  for (let step = 0.01; ; step *= 10) {
    const found = [1, 2, 5].map((factor) => factor * step).find((value) => value >= most);
    if (found) return found;
  }
}

function draw() {
  const shown = [...groups.values()].filter(({ tookMs }) => tookMs !== undefined).slice(-MOST_GROUPS);
  const took = shown.filter(({ tookMs }) => tookMs !== null).map(({ tookMs }) => tookMs).sort((a, b) => a - b);
  const [height, left, right, top, bottom] = [240, 58, 14, 12, 44];
  const { width } = $("plot").getBoundingClientRect();
  $("plot").setAttribute("viewBox", `0 0 ${width} ${height}`);
  const most = ceiling(took.at(-1) ?? 1);
  const [first, last] = [shown[0]?.sequence ?? 1, Math.max(shown.at(-1)?.sequence ?? 1, (shown[0]?.sequence ?? 1) + 9)];
  // Points keep clear of the axis.
  const x = (number) => left + 8 + ((number - first) / (last - first)) * (width - left - right - 16);
  const y = (value) => height - bottom - (value / most) * (height - top - bottom);
  const parts = [];
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const at = y(share * most);
    parts.push(svg("line", { x1: left, x2: width - right, y1: at, y2: at, class: share ? "grid" : "axis" }));
    parts.push(svg("text", { x: left - 6, y: at + 4, class: "end" }, String(Number((share * most).toPrecision(3)))));
  }
  for (const share of [0, 0.5, 1]) {
    const number = Math.round(first + share * (last - first));
    parts.push(svg("text", { x: x(number), y: height - bottom + 18, class: "middle" }, number));
  }
  parts.push(svg("text", { x: (left + width - right) / 2, y: height - 6, class: "middle label" }, "group"));
  const middle = (top + height - bottom) / 2;
  parts.push(svg("text", { x: 14, y: middle, transform: `rotate(-90 14 ${middle})`, class: "middle label" }, "round trip (ms)"));
  for (const { sequence: number, tookMs } of shown) {
    parts.push(tookMs === null
      ? svg("text", { x: x(number), y: y(0) - 4, class: "middle lost" }, "✕")
      : svg("circle", { cx: x(number), cy: y(tookMs), r: 3 }));
  }
  $("plot").replaceChildren(...parts);
  if (!shown.length) return;
  const lost = shown.length - took.length;
  const middling = took.length ? `Median ${ms(took[Math.floor((took.length - 1) / 2)])} ms, slowest ${ms(took.at(-1))} ms` : "None came back";
  const of = `of the last ${shown.length} group${shown.length === 1 ? "" : "s"}`;
  $("summary").textContent = `${middling}, ${of}.${lost ? ` ✕ ${lost} did not come back.` : ""}`;
}

// ---- Hands

$("say").addEventListener("submit", sayText);
$("many").addEventListener("submit", sendMany);
$("way").addEventListener("submit", (event) => {
  event.preventDefault();
  connect();
});
addEventListener("resize", draw);
addEventListener("pagehide", () => session?.close());
draw();
connect();
