// Polls the state of the server while the page is visible. Text from the network becomes text nodes, never markup.

import { $, element, request } from "./shared.js";

const POLL_INTERVAL_MS = 1000;
const RETRY_INTERVAL_S = 3;
const REQUEST_TIMEOUT_MS = 8000;
// How long the server records activity after a request.
const RETENTION_MS = 10000;
// Maximum number of entries of each group on the page.
const MAX_ENTRIES = 500;
// Rooms are expanded if there are at most this many.
const MAX_OPEN_ROOMS = 3;
const MAX_NAMES = 5000;
// Types of messages that only keep a connection open, in lower case.
const PING_TYPES = new Set(["ping", "pong", "keepalive", "keep-alive", "heartbeat"]);
// The columns of the counters, by their names in the state.
const COUNTERS = ["connections", "rooms", "members", "messages_received", "messages_sent", "messages_ignored", "requests_limited", "queued_bytes"];

const setText = (target, text) => {
  if (target.textContent !== text) target.textContent = text;
};

// ---- Formatting

// Invisible characters and characters that change the writing direction are shown as code points.
const INVISIBLE =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\u{e0000}-\u{e0fff}]/gu;
const spelled = (letter) => `⟨U+${letter.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
const visible = (text) => text.replace(INVISIBLE, spelled);
// Like `visible`, but keeps line breaks and tabs.
const visibleLines = (text) => text.replace(INVISIBLE, (letter) => (letter === "\n" || letter === "\t" ? letter : spelled(letter)));

const whole = new Intl.NumberFormat("en");
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const count = (n, one, many = `${one}s`) => `${whole.format(n)} ${n === 1 ? one : many}`;

function bytes(n) {
  if (n < 1024) return `${n} B`;
  return n < 1 << 20 ? `${tenths.format(n / 1024)} KiB` : `${tenths.format(n / (1 << 20))} MiB`;
}

function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

function clock(ms) {
  const time = new Date(ms);
  return `${time.toTimeString().slice(0, 8)}.${String(time.getMilliseconds()).padStart(3, "0")}`;
}

// ---- Lists

// Updates a list without losing focus or open details.
function updateList(list, known, items, keyOf, make, update) {
  const focused = document.activeElement;
  const gone = new Set(known.keys());
  let next = list.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    gone.delete(key);
    if (!known.has(key)) known.set(key, make());
    const entry = known.get(key);
    update(entry, item);
    if (entry.element === next) next = next.nextElementSibling;
    else list.insertBefore(entry.element, next);
  }
  for (const key of gone) {
    known.get(key).element.remove();
    known.delete(key);
  }
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}

// A copy of a template, with its elements by their first class.
function instantiate(id) {
  const copy = $(id).content.firstElementChild.cloneNode(true);
  const parts = { element: copy, details: copy.querySelector("details") };
  for (const child of copy.querySelectorAll("[class]")) parts[child.classList[0]] ??= child;
  return parts;
}

// ---- Find

const filterText = () => $("find").value.trim().toLowerCase();

// The rooms whose name or id contains the text, otherwise those of their members that are found by name, id, address or number (`7` or `#7`).
function filtered({ rooms, unjoined, ...state }) {
  const text = filterText();
  const has = (value) => value?.toLowerCase().includes(text);
  const isFound = ({ connection, id, name, address }) =>
    [id, name, address].some(has) || [String(connection), `#${connection}`].includes(text);
  const foundIn = (room) => (has(room.id) || has(room.name) ? room : { ...room, members: room.members.filter(isFound), isPart: true });
  const found = rooms.map(foundIn).filter(({ isPart, members }) => !isPart || members.length);
  return { ...state, rooms: found, unjoined: unjoined.filter(isFound) };
}

function find(text) {
  $("find").value = text;
  filterNotes();
  poll();
}

// ---- Counters

function showCounters(counters) {
  const sum = (name) => Object.values(counters).reduce((total, values) => total + values[name], 0);
  const all = Object.fromEntries(COUNTERS.map((name) => [name, sum(name)]));
  const rows = Object.entries({ ...counters, all }).map(([dialect, values]) => {
    const cells = COUNTERS.map((name) => element("td", { className: "number" }, whole.format(values[name])));
    return element("tr", {}, element("th", { scope: "row" }, dialect), cells);
  });
  $("counters").tBodies[0].replaceChildren(...rows);
}

// ---- Impaired or severed paths

// Without relayed media, there are no paths, so they are not requested again.
let hasLinks = true;
let shownLinks = "";

function showLinks(answer) {
  hasLinks = answer.links !== null;
  $("links").hidden = !answer.links?.length && !answer.severed.length;
  // The list is replaced only if it has changed, so that a button keeps the focus.
  const text = JSON.stringify(answer);
  if (text === shownLinks) return;
  shownLinks = text;
  const links = (answer.links ?? []).map(({ from, to, members, ...values }) => {
    const what = Object.entries(values).map(([name, value]) => `${name} ${value ?? "as at the start"}`);
    const changed = Object.keys(values).filter((name) => values[name] !== null);
    return linkItem(from, to, `${from} → ${to}: ${what.join(", ")} (${count(members, "member")})`, changed);
  });
  const severed = answer.severed.map((from) => linkItem(from, "*", `${from}: severed from the server`, ["signaling"]));
  $("links-list").replaceChildren(...links, ...severed);
}

function linkItem(from, to, text, names) {
  const button = element("button", { type: "button", hidden: names.length === 0 }, "Restore");
  button.setAttribute("aria-label", `Restore ${visible(text)}`);
  button.addEventListener("click", () => restore({ from, to, ...Object.fromEntries(names.map((name) => [name, null])) }));
  return element("li", { className: "row" }, element("bdi", {}, visible(text)), button);
}

async function restore(link) {
  const error = await send("/admin/links", link);
  $("links-error").hidden = !error;
  setText($("links-error"), visible(error));
  if (!error) setText($("spoken"), `${visible(link.from)} was restored.`);
  poll();
}

// ---- Rooms and members

const rooms = new Map();
const outside = new Map();
// Names of connections, kept even after they are closed.
const names = new Map();

const serverUrl = () => location.origin.replace("http", "ws");

function remember({ connection, name, id }) {
  if (!name && !id) return;
  names.delete(connection);
  // The start of a UUID is distinctive enough.
  const short = id?.length > 20 ? `${[...id].slice(0, 8).join("")}…` : id;
  names.set(connection, { name: name || short, all: [name, id].filter(Boolean).join(" ") });
  if (names.size > MAX_NAMES) names.delete(names.keys().next().value);
}

function makeConnection() {
  const entry = instantiate("member-template");
  entry.number.addEventListener("click", () => find(`#${entry.connection.connection}`));
  entry.end.addEventListener("click", () => confirmDisconnect(entry.connection));
  return entry;
}

function showConnection(entry, connection) {
  const number = `#${connection.connection}`;
  entry.connection = connection;
  setText(entry.number, number);
  entry.number.title = `Show only ${number}`;
  entry.end.setAttribute("aria-label", `Disconnect ${number}`);
  // The dialect of a member is that of its room.
  setText(entry.dialect, connection.isControlChannel ? "control channel" : connection.id === null ? connection.dialect : "");
  setText(entry.name, visible(connection.name ?? ""));
  setText(entry.id, visible(connection.id ?? ""));
  setText(entry.address, connection.address);
  const queued = connection.queuedBytes ? ` · ${bytes(connection.queuedBytes)} queued` : "";
  const idle = connection.idleMs === null ? "no messages" : `last message ${span(connection.idleMs)} ago`;
  setText(entry.numbers, `connected for ${span(connection.connectedMs)} · ${idle}${queued}`);
}

function makeRoom() {
  const entry = { ...instantiate("room-template"), list: new Map() };
  entry.only.addEventListener("click", () => find(entry.room.id));
  entry.end.addEventListener("click", () => confirmCloseRoom(entry.room));
  entry.details.addEventListener("toggle", () => showMembers(entry));
  return entry;
}

function showRoom(entry, room, now) {
  entry.room = room;
  setText(entry.dialect, room.dialect);
  setText(entry.name, visible(room.name || room.id));
  setText(entry.id, room.name && room.name !== room.id ? visible(room.id) : "");
  setText(entry.lock, room.protected ? (room.dialect === "jamjam" ? "needs a password" : "needs a token") : "");
  setText(entry.size, count(room.memberCount, "member"));
  setText(entry.age, `created ${span(now - room.createdAt)} ago`);
  showMembers(entry);
}

function showMembers({ room, members, list, details, more }) {
  updateList(members, list, details.open ? room.members : [], (one) => one.connection, makeConnection, showConnection);
  const hidden = room.memberCount - room.members.length;
  const none = room.memberCount === 0 ? "No members." : "";
  setText(more, hidden ? `${count(hidden, "more member")} not shown.` : none);
}

function showRooms(state, isNewFilter) {
  const keyOf = ({ dialect, id }) => `${dialect}/${id}`;
  const isFew = state.rooms.length <= MAX_OPEN_ROOMS;
  const known = new Set(rooms.keys());
  updateList($("rooms"), rooms, state.rooms, keyOf, makeRoom, (entry, room) => {
    if (isNewFilter || !known.has(keyOf(room))) entry.details.open = isFew;
    showRoom(entry, room, state.time);
  });
  const members = state.rooms.reduce((sum, { memberCount }) => sum + memberCount, 0);
  const more = state.omittedRooms ? `, ${whole.format(state.omittedRooms)} more not shown` : "";
  setText($("rooms-count"), `${count(state.rooms.length, "room")}, ${count(members, "member")}${more}`);
  $("rooms-empty").hidden = state.rooms.length > 0;
  setText($("rooms-empty"), filterText()
    ? "No matching room or member. Press Esc to see all."
    : `No rooms. Connect a client to ${serverUrl()}/, or for WebRTC to ${serverUrl()}/?roomId=jam&userId=me&userName=Me`);
  updateList($("outside"), outside, state.unjoined, (one) => one.connection, makeConnection, showConnection);
  const omitted = state.omittedUnjoined ? `, ${whole.format(state.omittedUnjoined)} more not shown` : "";
  setText($("outside-count"), `${count(state.unjoined.length, "connection")}${filterText() ? " found" : ""}${omitted}`);
}

// ---- Activity

const KINDS = { connect: "connected", close: "connection closed", post: "posted over HTTP" };
const MARKS = { connect: "+", close: "−", post: "⇥" };
const OUTCOMES = { accepted: "", ignored: "△ ignored", rejected: "✕ rejected" };

// The entries on the page, the oldest first: an activity, or a gap without one.
let notes = [];
let paused = false;
// The numbers of the last activity on the page, and in the last state, which differ while the page is paused.
let shownActivity = 0;
let lastActivity = 0;
let updatedAt = null;

const isMessage = ({ kind }) => kind !== "connect" && kind !== "close";
const isHidden = (note) => isMessage(note) && note.protected && !$("content").checked;

// Accepted messages and other entries are limited separately, as on the server. A ping that the server ignored or rejected is a problem.
function groupOf({ note }) {
  if (note?.outcome !== "accepted" || !isMessage(note)) return "other";
  return PING_TYPES.has(note.messageType?.toLowerCase()) ? "ping" : "message";
}

function isWanted(entry) {
  const { note } = entry;
  // Gaps are always shown.
  if (!note) return true;
  const kinds = $("kinds").value;
  if (kinds === "default" && groupOf(entry) === "ping") return false;
  if (kinds === "problems" && note.outcome === "accepted") return false;
  const text = filterText();
  if (/^#\d+$/.test(text)) return text === `#${note.connection}`;
  const room = rooms.get(`${note.dialect}/${note.room}`)?.room;
  const texts = [note.room, room?.name, note.address, note.messageType, note.reason, note.text, names.get(note.connection)?.all];
  return !text || text === String(note.connection) || texts.some((one) => one?.toLowerCase().includes(text));
}

function openNote(entry) {
  const { note, details } = entry;
  if (!details.open) return;
  const who = names.get(note.connection)?.all;
  const whose = note.connection === null ? "over HTTP" : `connection #${note.connection}${who ? ` (${visible(who)})` : ""}`;
  const from = note.address ? ` from ${note.address}` : "";
  setText(entry.where, `${whose}${from}${note.room ? ` in room ${visible(note.room)}` : ""}, ${new Date(note.time).toISOString()}`);
  let text = "";
  if (note.text !== null) text = visibleLines(JSON.stringify(JSON.parse(note.text), null, 2));
  else if (isHidden(note)) text = "Hidden: the room needs a password or a token. Use the switch above to show the content.";
  else if (isMessage(note)) text = `${bytes(note.bytes)} that are not JSON, or too long to show.`;
  setText(entry.text, text);
  entry.text.parentElement.hidden = !text;
}

function makeNote(note) {
  const entry = { ...instantiate("note-template"), note };
  const [onlyRoom, onlyMember] = [entry["only-room"], entry["only-member"]];
  onlyRoom.hidden = !note.room;
  onlyRoom.addEventListener("click", () => find(note.room));
  onlyMember.hidden = note.connection === null;
  onlyMember.addEventListener("click", () => find(`#${note.connection}`));
  setText(onlyMember, `Only #${note.connection}`);
  entry.element.classList.add(note.outcome);
  const time = entry.element.querySelector("time");
  setText(time, clock(note.time));
  time.dateTime = new Date(note.time).toISOString();
  setText(entry.mark, MARKS[note.kind] ?? "→");
  setText(entry.outcome, OUTCOMES[note.outcome]);
  setText(entry.kind, note.messageType ? visible(note.messageType) : (KINDS[note.kind] ?? "message"));
  setText(entry.number, note.connection === null ? "HTTP" : `#${note.connection}`);
  setText(entry.who, visible(names.get(note.connection)?.name ?? ""));
  setText(entry.dialect, note.dialect);
  setText(entry.lock, isHidden(note) ? "content hidden" : "");
  const room = rooms.get(`${note.dialect}/${note.room}`)?.room;
  setText(entry.room, visible(room?.name || note.room || ""));
  setText(entry.size, isMessage(note) ? bytes(note.bytes) : "");
  setText(entry.reason, visible(note.reason ?? ""));
  entry.details.addEventListener("toggle", () => openNote(entry));
  return entry;
}

const makeGap = (text) => ({ element: element("li", { className: "gap hint" }, text), note: null });

// The page lists the newest entry first.
function add(entries) {
  notes.push(...entries);
  for (const entry of entries) $("notes").prepend(entry.element);
  for (const group of ["ping", "message", "other"]) {
    const all = notes.filter((entry) => groupOf(entry) === group);
    for (const { element: oldest } of all.slice(0, -MAX_ENTRIES)) oldest.remove();
  }
  notes = notes.filter((entry) => entry.element.isConnected);
  filterNotes();
}

function addActivity({ activity, lastActivity: last }) {
  lastActivity = last;
  if (paused) return;
  const entries = [];
  const missed = shownActivity > 0 ? last - shownActivity - activity.length : 0;
  if (missed > 0) entries.push(makeGap(`${count(missed, "more entry", "more entries")} not recorded.`));
  if (updatedAt && performance.now() - updatedAt > RETENTION_MS) {
    entries.push(makeGap(`No activity was recorded for ${span(performance.now() - updatedAt)} while the page was hidden.`));
  }
  shownActivity = last;
  add([...entries, ...activity.map(makeNote)]);
}

function filterNotes() {
  for (const entry of notes) entry.element.hidden = !isWanted(entry);
  $("notes-empty").hidden = notes.some((entry) => !entry.element.hidden);
  setText($("notes-empty"), notes.length
    ? "No matching activity. Press Esc, or show everything."
    : `No activity yet. Connect a client to ${serverUrl()}/`);
}

function clearActivity() {
  notes = [];
  $("notes").replaceChildren();
  shownActivity = lastActivity = 0;
}

function setPaused(value) {
  paused = value;
  $("pause").setAttribute("aria-pressed", String(paused));
  setText($("spoken"), paused ? "Activity paused." : "Activity resumed.");
  poll();
}

// ---- Requests

let runId = null;
let timer;
let polling = new AbortController();
let appliedFilter = "";

function setLink(state, text) {
  if ($("link").dataset.state !== state) setText($("spoken"), text);
  $("link").dataset.state = state;
  setText($("link"), text);
}

function show(state) {
  const used = state.resources ? ` · ${bytes(state.resources.rssBytes)} of memory · ${count(state.resources.openFiles, "open file")}` : "";
  setText($("facts"), `version ${state.version} · up ${span(state.uptimeMs)}${used}`);
  const isNewFilter = appliedFilter !== filterText();
  appliedFilter = filterText();
  showCounters(state.counters);
  for (const room of state.rooms) room.members.forEach(remember);
  showRooms(filtered(state), isNewFilter);
  addActivity(state);
  updatedAt = performance.now();
  if (isNewFilter && appliedFilter) setText($("spoken"), `Found: ${$("rooms-count").textContent}.`);
  const waiting = lastActivity - shownActivity;
  setText($("pause"), paused ? `Resume${waiting ? ` (${whole.format(waiting)} new)` : ""}` : "Pause");
}

// After a restart, numbers of connections and activity start again, so an open confirmation could concern another client.
function forgetRun(state) {
  clearActivity();
  names.clear();
  updatedAt = null;
  hasLinks = true;
  $("confirm").close();
  if (runId !== null) add([makeGap("The server was restarted.")]);
  runId = state.runId;
}

// Polls now, and aborts a request that is still in progress, whose response no longer applies.
async function poll() {
  clearTimeout(timer);
  polling.abort();
  if (document.hidden) return;
  polling = new AbortController();
  const { signal: aborted } = polling;
  const signal = AbortSignal.any([aborted, AbortSignal.timeout(REQUEST_TIMEOUT_MS)]);
  const after = paused ? lastActivity : shownActivity;
  const query = new URLSearchParams({ after, content: $("content").checked });
  let state, links;
  try {
    state = await request("GET", `/console/state?${query}`, undefined, { signal });
    if (state.ok && hasLinks) links = await request("GET", "/admin/links", undefined, { signal });
  } catch {
    if (aborted.aborted) return;
  }
  if (state?.status === 401) {
    setLink("gone", "The login is no longer valid. Reload the page to log in again.");
    return;
  }
  if (!state?.ok) {
    const what = state ? `The server returned HTTP ${state.status}.` : "The server does not respond.";
    setLink("gone", `${what} Trying again in ${RETRY_INTERVAL_S} s.`);
    timer = setTimeout(poll, RETRY_INTERVAL_S * 1000);
    return;
  }
  if (runId !== state.answer.runId) {
    const isFirst = runId === null;
    forgetRun(state.answer);
    if (!isFirst) return poll();
  }
  show(state.answer);
  if (links?.ok) showLinks(links.answer);
  setLink("live", "Live");
  timer = setTimeout(poll, POLL_INTERVAL_MS);
}

// Sends an operation. Returns the error, or an empty text.
async function send(path, body) {
  try {
    const { ok, answer } = await request("POST", path, body, { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
    return ok ? "" : answer.error;
  } catch {
    return "The server does not respond. Try again.";
  }
}

// ---- Operations that need a confirmation

// The operation that waits for confirmation.
let operation = null;

function confirmOperation(heading, text, label, path, body) {
  // After a restart of the server, the number may belong to another client. The server then rejects the operation.
  operation = { path, body: { ...body, runId } };
  setText($("confirm-heading"), heading);
  setText($("confirm-text"), text);
  setText($("confirm-do"), label);
  $("confirm-error").hidden = true;
  $("confirm").showModal();
}

function confirmDisconnect({ connection, name, id, address }) {
  const who = [name, id, address].filter(Boolean).map(visible).join(", ");
  const text = `${who}. The connection is closed with code 1008. The client can connect again.`;
  confirmOperation(`Disconnect #${connection}?`, text, "Disconnect", "/console/disconnect", { connection });
}

function confirmCloseRoom({ dialect, id, name, memberCount }) {
  const text = `${dialect} room ${visible(name || id)}. ${count(memberCount, "member")} will be disconnected. Clients can create the room again.`;
  confirmOperation("Close this room?", text, "Close room", "/console/close-room", { dialect, room: id });
}

async function operate() {
  $("confirm-do").disabled = true;
  const error = await send(operation.path, operation.body);
  $("confirm-do").disabled = false;
  setText($("confirm-error"), visible(error));
  $("confirm-error").hidden = !error;
  if (error) return;
  $("confirm").close();
  setText($("spoken"), "Done.");
  poll();
}

// ---- Input

let typing;
setText($("host"), location.host);
$("find").addEventListener("input", () => {
  filterNotes();
  clearTimeout(typing);
  typing = setTimeout(poll, 200);
});
$("kinds").addEventListener("change", filterNotes);
$("pause").addEventListener("click", () => setPaused(!paused));
$("confirm-cancel").addEventListener("click", () => $("confirm").close());
$("confirm-do").addEventListener("click", operate);
// Browsers may restore the setting after a reload.
$("content").checked = false;
$("content").addEventListener("change", () => {
  clearActivity();
  setPaused(false);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if ($("confirm").open) {
    if (event.key === "Escape") $("confirm").close();
    return;
  }
  if (event.key === "Escape") find("");
  if (event.target.closest("input, select, textarea")) return;
  if (event.key === "/") {
    event.preventDefault();
    $("find").focus();
    $("find").select();
  } else if (event.key === "p") {
    setPaused(!paused);
  }
});
document.addEventListener("visibilitychange", poll);
poll();
