"use strict";
// Polls the state once a second while the page is visible. Text from the network becomes text nodes, never markup.

const POLL_INTERVAL_MS = 1000;
const REQUEST_TIMEOUT_MS = 8000;
const RETRY_DELAYS_S = [1, 2, 4, 8, 15, 30];
// How long the server records activity after a request.
const RETENTION_MS = 10000;
// Rates are averaged over this many intervals.
const RATE_INTERVALS = 5;
// Maximum number of entries on the page, and maximum number held while the page is paused.
const MAX_ENTRIES = 500;
// Rooms are expanded if there are at most this many, without and with a filter.
const MAX_OPEN_ROOMS = 3;
const MAX_OPEN_FILTERED_ROOMS = 10;
const MAX_NAMES = 5000;
// Types of messages that only keep a connection open, in lower case.
const PING_TYPES = new Set(["ping", "pong", "keepalive", "keep-alive", "heartbeat"]);

const $ = (id) => document.getElementById(id);
const setText = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};
const instantiate = (id) => $(id).content.firstElementChild.cloneNode(true);

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
const tenth = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const rate = (n) => (n >= 100 || n === 0 ? whole.format(Math.round(n)) : tenth.format(n));

function bytes(n) {
  if (n < 1024) return `${n} B`;
  const unit = n < 1 << 20 ? "KiB" : n < 2 ** 30 ? "MiB" : "GiB";
  const value = n / { KiB: 1024, MiB: 1 << 20, GiB: 2 ** 30 }[unit];
  return `${value < 10 ? tenths.format(value) : whole.format(Math.round(value))} ${unit}`;
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
  const two = (n) => String(n).padStart(2, "0");
  const parts = [time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join(":");
  return `${parts}.${String(time.getMilliseconds()).padStart(3, "0")}`;
}

function announce(text) {
  setText($("spoken"), text);
}

// ---- State

let runId = null;
let lastActivity = 0;
let updatedAt = null;
// Responses to requests of an earlier epoch are discarded.
let epoch = 0;
let paused = false;
let held = [];
let heldDropped = 0;
let samples = [];
const rooms = new Map();
const unjoinedPeople = new Map();
// Names of connections, kept even after they are closed.
const names = new Map();
const notes = [];
// What is shown exclusively: `{ room, name }` or `{ connection }`; null if everything is shown.
let scope = null;

const filterText = () => $("find").value.trim().toLowerCase();
const matchesDialect = (dialect) => !$("dialect").value || $("dialect").value === dialect;
const scopeKey = () => (scope ? (scope.room ?? `#${scope.connection}`) : "");
const isInScope = ({ dialect, id }) => !scope?.room || scope.room === keyOfRoom({ dialect, id });

function remember({ connection, name, id }) {
  if (!name && !id) return;
  names.delete(connection);
  // The start of a UUID is distinctive enough.
  const short = id?.length > 20 ? `${[...id].slice(0, 8).join("")}…` : id;
  names.set(connection, { name: name || short, all: [name, id].filter(Boolean).join(" ") });
  if (names.size > MAX_NAMES) names.delete(names.keys().next().value);
}

const nameOf = (connection) => names.get(connection)?.name ?? "";

// ---- Updates a list without losing focus or open details

function updateList(list, known, items, keyOf, make, update) {
  const focused = document.activeElement;
  const gone = new Set(known.keys());
  let next = list.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    gone.delete(key);
    let entry = known.get(key);
    if (!entry) {
      entry = make(item);
      known.set(key, entry);
    }
    update(entry, item);
    if (entry.element === next) {
      next = next.nextElementSibling;
    } else {
      list.insertBefore(entry.element, next);
    }
  }
  for (const key of gone) {
    known.get(key).element.remove();
    known.delete(key);
  }
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}

function parts(element) {
  const named = {};
  for (const child of element.querySelectorAll("[class]")) named[child.className] ??= child;
  return { element, ...named };
}

// ---- Counters

const COLUMNS = [
  ["connections"],
  ["rooms"],
  ["members"],
  ["messages_received", "rate"],
  ["messages_received"],
  ["messages_sent", "rate"],
  ["messages_sent"],
  ["messages_ignored"],
  ["requests_limited"],
  ["queued_bytes", "bytes"],
];

function showCounters({ counters, uptimeMs }) {
  samples.push({ counters, at: uptimeMs });
  samples = samples.slice(-RATE_INTERVALS - 1);
  const [first] = samples;
  const seconds = (uptimeMs - first.at) / 1000;
  const total = (of, what) => Object.values(of).reduce((sum, one) => sum + one[what], 0);
  const body = $("counters").tBodies[0];
  const dialects = Array.from($("dialect").options, ({ value }) => value).filter(Boolean);
  [...dialects, "all"].forEach((dialect, index) => {
    const row = body.rows[index] ?? body.insertRow();
    if (!row.cells.length) {
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = dialect;
      row.append(head, ...COLUMNS.map(() => document.createElement("td")));
      row.className = dialect === "all" ? "all" : "";
    }
    const read = (of, what) => (dialect === "all" ? total(of, what) : (of[dialect]?.[what] ?? 0));
    COLUMNS.forEach(([what, kind], column) => {
      const now = read(counters, what);
      let text = whole.format(now);
      if (kind === "rate") text = seconds > 0 ? rate((now - read(first.counters, what)) / seconds) : "…";
      if (kind === "bytes") text = bytes(now);
      const cell = row.cells[column + 1];
      setText(cell, text);
      cell.className = /^0( B)?$/.test(text) ? "zero" : "";
    });
  });
}

// ---- Rooms and members

const keyOfRoom = ({ dialect, id }) => `${dialect}/${id}`;
const serverUrl = () => `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}`;

function makeConnection() {
  const entry = parts(instantiate("member-template"));
  entry.number.addEventListener("click", () => toggleScope({ connection: entry.connection.connection }));
  entry.end.addEventListener("click", () => confirmDisconnect(entry.connection));
  return entry;
}

function showConnection(entry, connection, isInRoom) {
  const { number, dialect, name, id, address, numbers } = entry;
  entry.connection = connection;
  setText(number, `#${connection.connection}`);
  number.title = `Show only #${connection.connection}`;
  number.setAttribute("aria-pressed", String(scope?.connection === connection.connection));
  entry.end.setAttribute("aria-label", `Disconnect #${connection.connection}`);
  setText(dialect, isInRoom ? (connection.isControlChannel ? "control channel" : "") : connection.dialect);
  setText(name, visible(connection.name ?? ""));
  setText(id, visible(connection.id ?? ""));
  setText(address, connection.address);
  const queued = connection.queuedBytes ? ` · ${bytes(connection.queuedBytes)} queued` : "";
  const idle = connection.idleMs === null ? "no messages" : `last message ${span(connection.idleMs)} ago`;
  setText(numbers, `connected for ${span(connection.connectedMs)} · ${idle}${queued}`);
}

function showMembers(entry) {
  const { room } = entry;
  const update = (one, connection) => showConnection(one, connection, true);
  const isOpen = entry.details.open;
  updateList(entry.list, entry.members, isOpen ? room.members : [], (one) => one.connection, makeConnection, update);
  const hidden = room.memberCount - room.members.length;
  const none = room.memberCount === 0 ? "No members." : "";
  setText(entry.more, hidden ? `${count(hidden, "more member")} not shown${filterText() ? "; matching members come first" : ""}.` : none);
}

function makeRoom() {
  const entry = parts(instantiate("room-template"));
  entry.details = entry.element.querySelector("details");
  entry.list = entry.element.querySelector("ul");
  entry.members = new Map();
  entry.only.addEventListener("click", () => toggleScope({ room: keyOfRoom(entry.room), name: entry.room.name || entry.room.id }));
  entry.end.addEventListener("click", () => confirmCloseRoom(entry.room));
  entry.details.addEventListener("toggle", () => showMembers(entry));
  return entry;
}

function showRooms(state, isNewFilter) {
  const hasMember = ({ members }) => scope?.connection === undefined || members.some((one) => one.connection === scope.connection);
  let shown = state.rooms.filter((room) => matchesDialect(room.dialect) && isInScope(room) && hasMember(room));
  const isFew = shown.length <= (filterText() || scope ? MAX_OPEN_FILTERED_ROOMS : MAX_OPEN_ROOMS);
  const order = $("order").value;
  if (order !== "createdAt") shown = shown.sort((a, b) => b[order] - a[order]);
  updateList($("rooms"), rooms, shown, keyOfRoom, (room) => {
    const entry = makeRoom();
    entry.details.open = isFew;
    return entry;
  }, (entry, room) => {
    entry.room = room;
    if (isNewFilter) entry.details.open = isFew;
    setText(entry.dialect, room.dialect);
    setText(entry.name, visible(room.name || room.id));
    setText(entry.id, room.name && room.name !== room.id ? visible(room.id) : "");
    setText(entry.lock, room.protected ? (room.dialect === "jamjam" ? "needs a password" : "needs a token") : "");
    setText(entry.size, count(room.memberCount, "member"));
    setText(entry.age, `created ${span(state.time - room.createdAt)} ago`);
    entry.only.setAttribute("aria-pressed", String(scope?.room === keyOfRoom(room)));
    showMembers(entry);
  });
  const members = shown.reduce((sum, { memberCount }) => sum + memberCount, 0);
  const more = state.omittedRooms ? `, ${whole.format(state.omittedRooms)} more not shown` : "";
  setText($("rooms-count"), `${count(shown.length, "room")}, ${count(members, "member")}${more}`);
  const isFiltered = filterText() || $("dialect").value || scope;
  $("rooms-empty").hidden = shown.length > 0;
  setText($("rooms-empty"), isFiltered
    ? (scope?.room ? "This room is closed or not in the list." : "No matching room or member. Press Esc in “Find” to see all.")
    : `No rooms. Connect a client to ${serverUrl()}/, or for WebRTC to ${serverUrl()}/?roomId=jam&userId=me&userName=Me`);
  for (const room of state.rooms) room.members.forEach(remember);

  const isShown = (one) => !scope || scope.connection === one.connection;
  const unjoined = state.unjoined.filter((one) => matchesDialect(one.dialect) && isShown(one));
  updateList($("outside"), unjoinedPeople, unjoined, (one) => one.connection, makeConnection, showConnection);
  const beyond = state.omittedUnjoined && !scope ? ` and ${whole.format(state.omittedUnjoined)} more` : "";
  setText($("outside-count"), unjoined.length ? `${count(unjoined.length, "connection")}${beyond}` : "");
  $("outside-empty").hidden = unjoined.length > 0;
  setText($("outside-empty"), isFiltered ? "No matching connection without a room." : "Every connection is in a room.");

}

// ---- Activity

const KINDS = { connect: "connected", close: "connection closed", post: "posted over HTTP" };
const MARKS = { connect: "+", close: "−", post: "⇥" };
const OUTCOMES = { accepted: "", ignored: "△ ignored", rejected: "✕ rejected" };

const isMessage = ({ kind }) => kind !== "connect" && kind !== "close";
const isHidden = (note) => isMessage(note) && note.protected && !$("content").checked;

// A ping that the server ignored or rejected is a problem, and is always shown.
const isPing = ({ note }) => note?.outcome === "accepted" && PING_TYPES.has(note.messageType?.toLowerCase());

function isWanted(entry) {
  return isMatching(entry) && (!isPing(entry) || $("pings").checked);
}

function isMatching({ note }) {
  // Gaps are always shown.
  if (!note) return true;
  if (scope?.room && (!note.room || !isInScope({ dialect: note.dialect, id: note.room }))) return false;
  if (scope?.connection !== undefined && note.connection !== scope.connection) return false;
  const kinds = $("kinds").value;
  if (!matchesDialect(note.dialect)) return false;
  if (kinds === "messages" && !isMessage(note)) return false;
  if (kinds === "problems" && note.outcome === "accepted") return false;
  const find = filterText();
  if (!find) return true;
  if (note.connection !== null && find.replace(/^#/, "") === String(note.connection)) return true;
  const room = note.room && rooms.get(keyOfRoom({ dialect: note.dialect, id: note.room }))?.room;
  const texts = [note.room, room?.name, note.address, note.messageType, note.reason, note.text, names.get(note.connection)?.all];
  return texts.some((text) => text?.toLowerCase().includes(find));
}

function openNote(entry) {
  const { note, details } = entry;
  if (!details.open) return;
  const who = names.get(note.connection)?.all;
  const whose = note.connection === null ? "over HTTP" : `connection #${note.connection}${who ? ` (${visible(who)})` : ""}`;
  const from = note.address ? ` from ${note.address}` : "";
  entry.onlyRoom.hidden = !note.room;
  entry.onlyMember.hidden = note.connection === null;
  setText(entry.onlyMember, `Only #${note.connection}`);
  setText(entry.where, `${whose}${from}${note.room ? ` in room ${visible(note.room)}` : ""}, ${new Date(note.time).toISOString()}`);
  let text = "";
  if (note.text !== null) text = visibleLines(JSON.stringify(JSON.parse(note.text), null, 2));
  else if (isHidden(note)) text = "Hidden: the room needs a password or a token. Use the switch above to show the content.";
  else if (isMessage(note)) text = `${bytes(note.bytes)} that are not JSON, or too long to show.`;
  setText(entry.text, text);
  entry.element.querySelector("pre").hidden = !text;
}

function makeNote(note) {
  const entry = parts(instantiate("note-template"));
  entry.note = note;
  entry.onlyRoom = entry["only-room"];
  entry.onlyMember = entry["only-member"];
  entry.onlyRoom.addEventListener("click", () => {
    const id = { dialect: note.dialect, id: note.room };
    setScope({ room: keyOfRoom(id), name: rooms.get(keyOfRoom(id))?.room.name || note.room });
  });
  entry.onlyMember.addEventListener("click", () => setScope({ connection: note.connection }));
  entry.details = entry.element.querySelector("details");
  entry.element.classList.add(note.outcome, "fresh");
  const time = entry.element.querySelector("time");
  setText(time, clock(note.time));
  time.dateTime = new Date(note.time).toISOString();
  setText(entry.mark, MARKS[note.kind] ?? "→");
  setText(entry.outcome, OUTCOMES[note.outcome]);
  setText(entry.kind, note.messageType ? visible(note.messageType) : (KINDS[note.kind] ?? "message"));
  setText(entry.number, note.connection === null ? "HTTP" : `#${note.connection}`);
  setText(entry.who, visible(nameOf(note.connection)));
  setText(entry.dialect, note.dialect);
  setText(entry.lock, isHidden(note) ? "content hidden" : "");
  const room = note.room && rooms.get(keyOfRoom({ dialect: note.dialect, id: note.room }))?.room;
  setText(entry.room, note.room ? visible(room?.name || note.room) : "");
  setText(entry.size, isMessage(note) ? bytes(note.bytes) : "");
  setText(entry.reason, visible(note.reason ?? ""));
  entry.details.addEventListener("toggle", () => openNote(entry));
  return entry;
}

function makeGap(text) {
  const element = document.createElement("li");
  element.className = "gap";
  element.textContent = text;
  return { element, note: null };
}

// The page lists the newest entry first; `notes` starts with the oldest.
function add(entries) {
  const list = $("notes");
  for (const entry of entries) {
    entry.element.hidden = !isWanted(entry);
    notes.push(entry);
    list.prepend(entry.element);
  }
  dropOldest(isOrdinary);
  dropOldest((entry) => !isOrdinary(entry));
}

// Accepted messages and other entries are limited separately, as on the server.
const isOrdinary = ({ note }) => note?.outcome === "accepted" && isMessage(note);

// If there are more than MAX_ENTRIES of these entries, removes the oldest, starting with hidden entries.
function dropOldest(isCounted) {
  let excess = notes.filter(isCounted).length - MAX_ENTRIES;
  for (const isHidden of [true, false]) {
    for (let index = 0; excess > 0 && index < notes.length; ) {
      if (isCounted(notes[index]) && notes[index].element.hidden === isHidden) {
        notes.splice(index, 1)[0].element.remove();
        excess -= 1;
      } else {
        index += 1;
      }
    }
  }
}

function addActivity(state) {
  const entries = [];
  const missed = lastActivity > 0 ? state.lastActivity - lastActivity - state.activity.length : 0;
  if (missed > 0) entries.push(makeGap(`${count(missed, "more entry", "more entries")} not recorded.`));
  if (updatedAt && performance.now() - updatedAt > RETENTION_MS) {
    entries.push(makeGap(`No activity was recorded for ${span(performance.now() - updatedAt)} while the page was hidden.`));
  }
  entries.push(...state.activity.map((note) => ({ note })));
  if (paused) {
    held.push(...entries);
    heldDropped += Math.max(0, held.length - MAX_ENTRIES);
    held = held.slice(-MAX_ENTRIES);
  } else {
    add(entries.map((entry) => (entry.element ? entry : makeNote(entry.note))));
  }
}

function filterNotes() {
  for (const entry of notes) entry.element.hidden = !isWanted(entry);
  showNotesEmpty();
}

function showNotesEmpty() {
  const isEmpty = notes.every(({ element }) => element.hidden);
  const hiddenPings = $("pings").checked ? 0 : notes.filter((entry) => isPing(entry) && isMatching(entry)).length;
  setText($("pings-count"), hiddenPings ? `${whole.format(hiddenPings)} hidden` : "");
  $("notes-empty").hidden = !isEmpty;
  setText($("notes-empty"), notes.length
    ? (hiddenPings ? "Only pings, which are hidden." : "No matching activity. Press Esc in “Find”, or show everything.")
    : `No activity yet. Connect a client to ${serverUrl()}/`);
  setText($("pause").firstChild, paused ? `Resume${held.length ? ` (${held.length} new)` : ""} ` : "Pause ");
}

function clearActivity() {
  for (const { element } of notes.splice(0)) element.remove();
  held = [];
  heldDropped = 0;
  lastActivity = 0;
}

function setPaused(value) {
  if (paused === value) return;
  paused = value;
  $("pause").setAttribute("aria-pressed", String(paused));
  announce(paused ? "Activity paused." : "Activity resumed.");
  if (!paused) {
    const entries = heldDropped ? [makeGap(`${count(heldDropped, "more entry", "more entries")} dropped while paused.`)] : [];
    entries.push(...held.map((entry) => (entry.element ? entry : makeNote(entry.note))));
    held = [];
    heldDropped = 0;
    add(entries);
  }
  showNotesEmpty();
}

// ---- Requests

let timer = null;
let countdown = null;
let isRequesting = false;
let isRequestPending = false;
let failures = 0;
let appliedFilter = "";

function showLink(state, mark, words) {
  $("link").dataset.state = state;
  setText($("link-mark"), mark);
  if (state !== "waiting" && $("link-words").dataset.announced !== state) announce(words);
  $("link-words").dataset.announced = state;
  setText($("link-words"), words);
  $("retry").hidden = state === "live";
}

function show(state) {
  if (runId !== null && runId !== state.runId) {
    clearActivity();
    samples = [];
    updatedAt = null;
    names.clear();
    // Numbers of connections start again, so an open confirmation could concern another client.
    $("confirm").close();
    if (scope?.connection !== undefined) setScope(null);
    add([makeGap("The server was restarted.")]);
  }
  runId = state.runId;
  const resources = state.resources;
  const used = resources ? ` · ${bytes(resources.rssBytes)} of memory · ${count(resources.openFiles, "open file")}` : "";
  setText($("facts"), `version ${state.version} · up ${span(state.uptimeMs)}${used}`);
  const filter = [filterText(), $("dialect").value, scopeKey()].join("");
  const isNewFilter = appliedFilter !== filter;
  appliedFilter = filter;
  showCounters(state);
  showRooms(state, isNewFilter);
  addActivity(state);
  lastActivity = state.lastActivity;
  updatedAt = performance.now();
  if (isNewFilter) {
    filterNotes();
    if (appliedFilter) announce(`Found: ${$("rooms-count").textContent}.`);
  }
  showNotesEmpty();
}

function schedule(ms) {
  clearTimeout(timer);
  timer = setTimeout(poll, ms);
}

function wait(words, seconds) {
  clearInterval(countdown);
  let left = seconds;
  const tick = () => showLink("gone", "✕", `${words} Trying again ${left > 0 ? `in ${left} s` : "now"}.`);
  tick();
  countdown = setInterval(() => {
    left = Math.max(0, left - 1);
    tick();
  }, 1000);
  schedule(seconds * 1000);
}

async function poll() {
  clearTimeout(timer);
  if (document.hidden) return;
  if (isRequesting) {
    isRequestPending = true;
    return;
  }
  isRequesting = true;
  const requestEpoch = epoch;
  const query = new URLSearchParams({ after: String(lastActivity) });
  if (filterText()) query.set("filter", filterText());
  else if (scope?.connection !== undefined) query.set("filter", `#${scope.connection}`);
  if ($("content").checked) query.set("content", "true");
  try {
    const response = await fetch(`${location.origin}/console/state?${query}`, { cache: "no-store", signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
    if (response.status === 401) {
      clearInterval(countdown);
      showLink("gone", "✕", "The login is no longer valid. Reload the page to log in again.");
    } else if (!response.ok) {
      failures += 1;
      const retryAfter = Number(response.headers.get("retry-after")) || 0;
      const pause = RETRY_DELAYS_S[Math.min(failures, RETRY_DELAYS_S.length) - 1];
      wait(`The server returned HTTP ${response.status}.`, Math.max(retryAfter, pause));
    } else {
      const state = await response.json();
      failures = 0;
      clearInterval(countdown);
      if (requestEpoch === epoch) show(state);
      showLink("live", "●", "Live");
      schedule(POLL_INTERVAL_MS);
    }
  } catch {
    failures += 1;
    // A persistent connection may just have been closed, so the first failure is retried at once.
    if (failures === 1) schedule(200);
    else wait("The server does not respond.", RETRY_DELAYS_S[Math.min(failures - 1, RETRY_DELAYS_S.length) - 1]);
  } finally {
    isRequesting = false;
    if (isRequestPending) {
      isRequestPending = false;
      schedule(0);
    }
  }
}

// Polls now, and discards the response to a request that is still in progress.
function pollNow() {
  epoch += 1;
  poll();
}

// ---- One room or one member

function setScope(value) {
  scope = value;
  $("scope").hidden = !scope;
  if (scope) {
    const name = scope.room ? scope.name : nameOf(scope.connection);
    setText($("scope-kind"), scope.room ? "Only room" : `Only #${scope.connection}`);
    setText($("scope-name"), visible(name));
  }
  filterNotes();
  pollNow();
}

const toggleScope = (value) => setScope(scopeKey() === (value.room ?? `#${value.connection}`) ? null : value);

// ---- Operations

// The operation that waits for confirmation.
let operation = null;

function confirmOperation(heading, text, label, path, body) {
  // After a restart of the server, the number may belong to another client. The server then rejects the operation.
  operation = { path, body: { ...body, runId } };
  setText($("confirm-heading"), heading);
  setText($("confirm-text"), text);
  setText($("confirm-do"), label);
  $("confirm-do").disabled = false;
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
  const { path, body } = operation;
  $("confirm-do").disabled = true;
  let error = "The server does not respond. Try again.";
  try {
    const response = await fetch(location.origin + path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
    });
    if (response.ok) {
      $("confirm").close();
      announce(path.endsWith("disconnect") ? `#${body.connection} was disconnected.` : "The room was closed.");
      pollNow();
      return;
    }
    error = (await response.json()).error;
  } catch {
    // The error above applies.
  }
  setText($("confirm-error"), visible(error));
  $("confirm-error").hidden = false;
  $("confirm-do").disabled = false;
}

// ---- Input

let typing = null;
setText($("host"), location.host);
$("find").addEventListener("input", () => {
  filterNotes();
  clearTimeout(typing);
  typing = setTimeout(pollNow, 200);
});
$("find").addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  event.preventDefault();
  $("find").value = "";
  filterNotes();
  pollNow();
});
$("dialect").addEventListener("change", () => {
  filterNotes();
  pollNow();
});
$("order").addEventListener("change", pollNow);
$("kinds").addEventListener("change", filterNotes);
$("scope-clear").addEventListener("click", () => {
  setScope(null);
  $("find").focus();
});
$("confirm-cancel").addEventListener("click", () => $("confirm").close());
$("confirm-do").addEventListener("click", operate);
// Browsers may restore the setting after a reload.
$("pings").checked = false;
$("pings").addEventListener("change", filterNotes);
$("pause").addEventListener("click", () => setPaused(!paused));
$("retry").addEventListener("click", () => {
  failures = 0;
  poll();
});
// Browsers may restore the setting after a reload.
$("content").checked = false;
$("content").addEventListener("change", () => {
  setPaused(false);
  clearActivity();
  pollNow();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if ($("confirm").open) {
    if (event.key === "Escape") $("confirm").close();
    return;
  }
  if (event.key === "Escape" && scope) setScope(null);
  if (event.target.closest("input, select, textarea")) return;
  if (event.key === "/") {
    event.preventDefault();
    $("find").focus();
    $("find").select();
  } else if (event.key === "p") {
    setPaused(!paused);
  }
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) poll();
});
poll();
