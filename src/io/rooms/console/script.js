"use strict";
// Asks for the state once a second while somebody can see the page, and shows it. What strangers wrote becomes text nodes, never markup.

const EVERY_MS = 1000;
const PATIENCE_MS = 8000;
const PAUSES_S = [1, 2, 4, 8, 15, 30];
// What the server keeps after a look, in milliseconds.
const KEPT_MS = 10000;
// Rates are over so many looks.
const SAMPLES = 5;
// Notes on the page, and notes that wait while it is paused.
const MOST_NOTES = 500;
// So few rooms are shown open.
const FEW_ROOMS = 3;
const FEW_FOUND = 10;
const MOST_NAMES = 5000;

const $ = (id) => document.getElementById(id);
const put = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};
const stamp = (id) => $(id).content.firstElementChild.cloneNode(true);

// ---- Words

// Characters that are not seen, or that turn the direction of writing: they are spelled out.
const UNSEEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\u{e0000}-\u{e0fff}]/gu;
const spelled = (letter) => `⟨U+${letter.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
const visible = (text) => text.replace(UNSEEN, spelled);
// The same with line breaks and indents left as they are.
const visibleLines = (text) => text.replace(UNSEEN, (letter) => (letter === "\n" || letter === "\t" ? letter : spelled(letter)));

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

// JSON with a line for each member. Not parsed and written again: numbers and names stay as they came, also where the end is missing.
function pretty(text, isCut) {
  if (!isCut) {
    try {
      JSON.parse(text);
    } catch {
      return text;
    }
  }
  const tokens = text.match(/"(?:[^"\\]|\\.)*"?|[{}[\],:]|[^\s"{}[\],:]+/gs) ?? [];
  let depth = 0;
  const line = () => `\n${"  ".repeat(Math.min(depth, 32))}`;
  let written = "";
  tokens.forEach((token, index) => {
    const isEmpty = /^[}\]]/.test(tokens[index + 1] ?? "") && /^[{[]$/.test(token);
    if (/^[{[]$/.test(token)) {
      depth += 1;
      written += isEmpty ? token : token + line();
    } else if (/^[}\]]$/.test(token)) {
      depth = Math.max(0, depth - 1);
      written += /[{[]$/.test(written) && /^[{[]$/.test(tokens[index - 1]) ? token : line() + token;
    } else if (token === ",") {
      written += token + line();
    } else {
      written += token === ":" ? ": " : token;
    }
  });
  return isCut ? `${written} …` : written;
}

const CLOSE_CODES = {
  1000: "normal",
  1001: "going away",
  1002: "protocol broken",
  1005: "no code",
  1007: "text is not UTF-8",
  1008: "policy",
  1009: "message too long",
  1013: "try again later",
};

function speak(text) {
  put($("spoken"), text);
}

// ---- What has been seen

let run = null;
let since = 0;
let lookedAt = null;
// Whatever was asked for before this was raised is not wanted any more.
let epoch = 0;
let paused = false;
let held = [];
let heldLost = 0;
let samples = [];
const rooms = new Map();
const people = { outside: new Map(), addresses: new Map() };
// What connections are called, also when they are gone.
const names = new Map();
const notes = [];

const finding = () => $("find").value.trim().toLowerCase();
const isSpoken = (dialect) => !$("dialect").value || $("dialect").value === dialect;

function remember({ connection, name, id }) {
  if (!name && !id) return;
  names.delete(connection);
  // Of a UUID the beginning tells it apart well enough.
  const short = id?.length > 20 ? `${[...id].slice(0, 8).join("")}…` : id;
  names.set(connection, { name: name || short, all: [name, id].filter(Boolean).join(" ") });
  if (names.size > MOST_NAMES) names.delete(names.keys().next().value);
}

const nameOf = (connection) => names.get(connection)?.name ?? "";

// ---- Lists that are kept in step with the state without losing focus, or what is open

function keep(list, known, items, keyOf, make, update) {
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
  ["messages_in", "rate"],
  ["messages_in"],
  ["messages_out", "rate"],
  ["messages_out"],
  ["ignored"],
  ["refused"],
  ["queue_bytes", "bytes"],
];

function showCounters({ counts, uptimeMs }) {
  samples.push({ counts, at: uptimeMs });
  samples = samples.slice(-SAMPLES - 1);
  const [first] = samples;
  const seconds = (uptimeMs - first.at) / 1000;
  const total = (of, what) => Object.values(of).reduce((sum, one) => sum + one[what], 0);
  const body = $("counters").tBodies[0];
  const rows = ["jamjam", "broadcast", "bbx", "webrtc", "undecided", "all"];
  rows.forEach((dialect, index) => {
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
      const now = read(counts, what);
      let text = whole.format(now);
      if (kind === "rate") text = seconds > 0 ? rate((now - read(first.counts, what)) / seconds) : "…";
      if (kind === "bytes") text = bytes(now);
      const cell = row.cells[column + 1];
      put(cell, text);
      cell.className = /^0( B)?$/.test(text) ? "zero" : "";
    });
  });
}

// ---- Rooms and who is in them

const keyOfRoom = ({ dialect, id }) => `${dialect}/${id}`;
const address = () => `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}`;

function showPerson(entry, seen, isInRoom) {
  const { number, dialect, name, id, address, numbers } = entry;
  put(number, `#${seen.connection}`);
  put(dialect, isInRoom ? (seen.control ? "control channel" : "") : seen.dialect);
  put(name, visible(seen.name ?? ""));
  put(id, visible(seen.id ?? ""));
  put(address, seen.address);
  const waiting = seen.waitingBytes ? ` · ${bytes(seen.waitingBytes)} waiting` : "";
  const quiet = seen.quietMs === null ? "has said nothing" : `last message ${span(seen.quietMs)} ago`;
  put(numbers, `connected for ${span(seen.connectedMs)} · ${quiet}${waiting}`);
}

function showMembers(entry) {
  const { room } = entry;
  const make = () => parts(stamp("member-template"));
  const update = (one, seen) => showPerson(one, seen, true);
  const isOpen = entry.details.open;
  keep(entry.list, entry.members, isOpen ? room.members : [], (seen) => seen.connection, make, update);
  const hidden = room.size - room.members.length;
  const none = room.size === 0 ? "Nobody is in it." : "";
  put(entry.more, hidden ? `${count(hidden, "more member")} not shown${finding() ? ": what is found comes first" : ""}.` : none);
}

function makeRoom() {
  const entry = parts(stamp("room-template"));
  entry.details = entry.element.querySelector("details");
  entry.list = entry.element.querySelector("ul");
  entry.members = new Map();
  entry.samples = [];
  entry.details.addEventListener("toggle", () => showMembers(entry));
  return entry;
}

function rateOf(entry, messages, at) {
  entry.samples.push({ messages, at });
  entry.samples = entry.samples.slice(-SAMPLES - 1);
  const [first] = entry.samples;
  return at > first.at ? Math.max(0, (messages - first.messages) / ((at - first.at) / 1000)) : 0;
}

function showRooms(state, isNewSearch) {
  let shown = state.rooms.filter(({ dialect }) => isSpoken(dialect));
  const isFew = shown.length <= (finding() ? FEW_FOUND : FEW_ROOMS);
  for (const room of shown) {
    const known = rooms.get(keyOfRoom(room));
    room.rate = known ? rateOf(known, room.messages, state.uptimeMs) : 0;
  }
  const order = $("order").value;
  if (order !== "made") shown = shown.sort((a, b) => b[order] - a[order]);
  keep($("rooms"), rooms, shown, keyOfRoom, (room) => {
    const entry = makeRoom();
    rateOf(entry, room.messages, state.uptimeMs);
    entry.details.open = isFew;
    return entry;
  }, (entry, room) => {
    entry.room = room;
    if (isNewSearch) entry.details.open = isFew;
    put(entry.dialect, room.dialect);
    put(entry.name, visible(room.name || room.id));
    put(entry.id, room.name && room.name !== room.id ? visible(room.id) : "");
    put(entry.lock, room.protected ? (room.dialect === "jamjam" ? "needs a password" : "needs a token") : "");
    put(entry.size, count(room.size, "member"));
    put(entry.rate, `${rate(room.rate)} msg/s`);
    put(entry.age, `made ${span(state.time - room.since)} ago`);
    showMembers(entry);
  });
  const members = shown.reduce((sum, { size }) => sum + size, 0);
  const more = state.moreRooms ? `, ${whole.format(state.moreRooms)} more not shown` : "";
  put($("rooms-count"), `${count(shown.length, "room")}, ${count(members, "member")}${more}`);
  const isFiltered = finding() || $("dialect").value;
  $("rooms-empty").hidden = shown.length > 0;
  put($("rooms-empty"), isFiltered
    ? "No room and nobody in one is found. Is the client still connected? Press Esc in “Find” to see all."
    : `No rooms. Connect a client to ${address()}/, or for WebRTC to ${address()}/?roomId=jam&userId=me&userName=Me`);
  for (const room of state.rooms) room.members.forEach(remember);

  const outside = state.outside.filter(({ dialect }) => isSpoken(dialect));
  keep($("outside"), people.outside, outside, (seen) => seen.connection, () => parts(stamp("member-template")), showPerson);
  const beyond = state.moreOutside ? ` and ${whole.format(state.moreOutside)} more` : "";
  put($("outside-count"), outside.length ? `${count(outside.length, "connection")}${beyond}` : "");
  $("outside-empty").hidden = outside.length > 0;
  put($("outside-empty"), isFiltered ? "No such connection is outside a room." : "No connection is outside a room.");

  keep($("addresses"), people.addresses, state.addresses, (crowd) => crowd.address, () => parts(stamp("member-template")), (entry, crowd) => {
    put(entry.address, crowd.address);
    put(entry.numbers, `${count(crowd.connections, "connection")} · ${count(crowd.rooms, "room")} made`);
  });
  $("addresses-empty").hidden = state.addresses.length > 0;
}

// ---- What has happened

const WHATS = { connect: "connected", end: "connection ended", binary: "binary message", post: "posted over HTTP" };
const OUTCOMES = { taken: "", ignored: "△ ignored", refused: "✕ refused" };

function isWanted({ note }) {
  // A line about what is not there is always wanted.
  if (!note) return true;
  const kinds = $("kinds").value;
  if (!isSpoken(note.dialect)) return false;
  if (kinds === "messages" && (note.what === "connect" || note.what === "end")) return false;
  if (kinds === "trouble" && note.outcome === "taken") return false;
  const find = finding();
  if (!find) return true;
  if (note.connection !== null && find.replace(/^#/, "") === String(note.connection)) return true;
  const room = note.room && rooms.get(keyOfRoom({ dialect: note.dialect, id: note.room }))?.room;
  const said = [note.room, room?.name, note.address, note.type, note.reason, note.text, names.get(note.connection)?.all];
  return said.some((text) => text?.toLowerCase().includes(find));
}

function openNote(entry) {
  const { note, details } = entry;
  if (!details.open) return;
  const who = names.get(note.connection)?.all;
  const whose = note.connection === null ? "over HTTP" : `connection #${note.connection}${who ? ` (${visible(who)})` : ""}`;
  const from = note.address ? ` from ${note.address}` : "";
  put(entry.where, `${whose}${from}${note.room ? ` in room ${visible(note.room)}` : ""}, ${new Date(note.time).toISOString()}`);
  let text = visibleLines(pretty(note.text ?? "", note.cut));
  if (note.text === null) text = "Not shown: the room has a password or a token. The switch above shows it.";
  if (note.text === "") text = "Nothing was said.";
  if (note.what === "binary") text = "Binary messages are not kept: no dialect has any.";
  put(entry.text, text);
}

function makeNote(note) {
  const entry = parts(stamp("note-template"));
  entry.note = note;
  entry.details = entry.element.querySelector("details");
  entry.element.classList.add(note.outcome, "fresh");
  const time = entry.element.querySelector("time");
  put(time, clock(note.time));
  time.dateTime = new Date(note.time).toISOString();
  put(entry.outcome, OUTCOMES[note.outcome]);
  put(entry.kind, note.type ? visible(note.type) : (WHATS[note.what] ?? "message"));
  put(entry.number, note.connection === null ? "HTTP" : `#${note.connection}`);
  put(entry.who, visible(nameOf(note.connection)));
  put(entry.dialect, note.dialect);
  put(entry.lock, note.text === null ? "content hidden" : "");
  const room = note.room && rooms.get(keyOfRoom({ dialect: note.dialect, id: note.room }))?.room;
  put(entry.room, note.room ? visible(room?.name || note.room) : "");
  const isMessage = note.what !== "connect" && note.what !== "end";
  put(entry.size, isMessage && note.what !== "binary" ? bytes(note.bytes) + (note.cut ? ", cut to 2 KiB" : "") : "");
  const reason = (note.reason ?? "").replace(/^closed with (\d+)/, (all, code) => (CLOSE_CODES[code] ? `${all} (${CLOSE_CODES[code]})` : all));
  put(entry.reason, visible(reason));
  entry.details.addEventListener("toggle", () => openNote(entry));
  return entry;
}

function makeGap(words) {
  const element = document.createElement("li");
  element.className = "gap";
  element.textContent = words;
  return { element, note: null };
}

// Newest first on the page; `notes` has the oldest first.
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

// A message that had its effect. The server keeps so many of these and so many others, and so does the page.
const isOrdinary = ({ note }) => note?.outcome === "taken" && !["connect", "end"].includes(note.what);

// Leaves at most MOST_NOTES of these; what the filter hides goes first.
function dropOldest(isMeant) {
  let excess = notes.filter(isMeant).length - MOST_NOTES;
  for (const isHidden of [true, false]) {
    for (let index = 0; excess > 0 && index < notes.length; ) {
      if (isMeant(notes[index]) && notes[index].element.hidden === isHidden) {
        notes.splice(index, 1)[0].element.remove();
        excess -= 1;
      } else {
        index += 1;
      }
    }
  }
}

function takeNotes(state) {
  const entries = [];
  const lost = since > 0 ? state.last - since - state.notes.length : 0;
  if (lost > 0) entries.push(makeGap(`${count(lost, "thing")} more happened here than are kept between two looks.`));
  if (lookedAt && performance.now() - lookedAt > KEPT_MS) {
    entries.push(makeGap(`Nobody looked for ${span(performance.now() - lookedAt)}: what happened then is not kept.`));
  }
  entries.push(...state.notes.map((note) => ({ note })));
  if (paused) {
    held.push(...entries);
    heldLost += Math.max(0, held.length - MOST_NOTES);
    held = held.slice(-MOST_NOTES);
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
  $("notes-empty").hidden = !isEmpty;
  put($("notes-empty"), notes.length
    ? "Nothing that was kept is found. Press Esc in “Find”, or show everything."
    : `Nothing has happened since this page looks. Have a client say something to ${address()}/`);
  put($("pause").firstChild, paused ? `Go on${held.length ? ` (${held.length} new)` : ""} ` : "Pause ");
}

function forgetNotes() {
  for (const { element } of notes.splice(0)) element.remove();
  held = [];
  heldLost = 0;
  since = 0;
}

function setPaused(value) {
  if (paused === value) return;
  paused = value;
  $("pause").setAttribute("aria-pressed", String(paused));
  speak(paused ? "Messages are paused." : "Messages go on.");
  if (!paused) {
    const entries = heldLost ? [makeGap(`${count(heldLost, "thing")} more happened while this was paused.`)] : [];
    entries.push(...held.map((entry) => (entry.element ? entry : makeNote(entry.note))));
    held = [];
    heldLost = 0;
    add(entries);
  }
  showNotesEmpty();
}

// ---- Asking

let timer = null;
let ticking = null;
let isAsking = false;
let isAskedAgain = false;
let failures = 0;
let searched = "";

function showLink(state, mark, words) {
  $("link").dataset.state = state;
  put($("link-mark"), mark);
  if (state !== "waiting" && $("link-words").dataset.said !== state) speak(words);
  $("link-words").dataset.said = state;
  put($("link-words"), words);
  $("retry").hidden = state === "live";
}

function show(state) {
  if (run !== null && run !== state.run) {
    forgetNotes();
    samples = [];
    lookedAt = null;
    for (const entry of rooms.values()) entry.samples = [];
    names.clear();
    add([makeGap("The server was started anew.")]);
  }
  run = state.run;
  const resources = state.resources;
  const used = resources ? ` · ${bytes(resources.rssBytes)} of memory · ${count(resources.openFiles, "open file")}` : "";
  put($("facts"), `version ${state.version} · up ${span(state.uptimeMs)}${used}`);
  const isNewSearch = searched !== finding() + $("dialect").value;
  searched = finding() + $("dialect").value;
  showCounters(state);
  showRooms(state, isNewSearch);
  takeNotes(state);
  since = state.last;
  lookedAt = performance.now();
  if (isNewSearch) {
    filterNotes();
    if (searched) speak(`Found: ${$("rooms-count").textContent}.`);
  }
  showNotesEmpty();
}

function later(ms) {
  clearTimeout(timer);
  timer = setTimeout(ask, ms);
}

function wait(words, seconds) {
  clearInterval(ticking);
  let left = seconds;
  const tick = () => showLink("gone", "✕", `${words} Trying again ${left > 0 ? `in ${left} s` : "now"}.`);
  tick();
  ticking = setInterval(() => {
    left = Math.max(0, left - 1);
    tick();
  }, 1000);
  later(seconds * 1000);
}

async function ask() {
  clearTimeout(timer);
  if (document.hidden) return;
  if (isAsking) {
    isAskedAgain = true;
    return;
  }
  isAsking = true;
  const asked = epoch;
  const query = new URLSearchParams({ since: String(since) });
  if (finding()) query.set("find", finding());
  if ($("content").checked) query.set("content", "true");
  try {
    const answer = await fetch(`${location.origin}/console/state?${query}`, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (answer.status === 401) {
      clearInterval(ticking);
      showLink("gone", "✕", "The login is not accepted any more. Reload the page to log in again.");
    } else if (!answer.ok) {
      failures += 1;
      const asks = Number(answer.headers.get("retry-after")) || 0;
      const pause = PAUSES_S[Math.min(failures, PAUSES_S.length) - 1];
      wait(`The server answers with ${answer.status}.`, Math.max(asks, pause));
    } else {
      const state = await answer.json();
      failures = 0;
      clearInterval(ticking);
      if (asked === epoch) show(state);
      showLink("live", "●", "Live");
      later(EVERY_MS);
    }
  } catch {
    failures += 1;
    // A connection that was kept may have ended just then: one failure is none.
    if (failures === 1) later(200);
    else wait("The server does not answer.", PAUSES_S[Math.min(failures - 1, PAUSES_S.length) - 1]);
  } finally {
    isAsking = false;
    if (isAskedAgain) {
      isAskedAgain = false;
      later(0);
    }
  }
}

// Asks anew, whatever is on its way.
function askAnew() {
  epoch += 1;
  ask();
}

// ---- Hands

let typing = null;
put($("host"), location.host);
$("find").addEventListener("input", () => {
  filterNotes();
  clearTimeout(typing);
  typing = setTimeout(askAnew, 200);
});
$("find").addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  event.preventDefault();
  $("find").value = "";
  filterNotes();
  askAnew();
});
$("dialect").addEventListener("change", () => {
  filterNotes();
  askAnew();
});
$("order").addEventListener("change", askAnew);
$("kinds").addEventListener("change", filterNotes);
$("pause").addEventListener("click", () => setPaused(!paused));
$("retry").addEventListener("click", () => {
  failures = 0;
  ask();
});
// Browsers may keep what was set before a reload.
$("content").checked = false;
$("content").addEventListener("change", () => {
  setPaused(false);
  forgetNotes();
  askAnew();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  if (event.key === "/") {
    event.preventDefault();
    $("find").focus();
    $("find").select();
  } else if (event.key === "p") {
    setPaused(!paused);
  }
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) ask();
});
ask();
