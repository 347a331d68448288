// The host program: creates a room, declares its parameters, and receives what control surfaces
// send. An audio program sends the same HTTP requests. All of them need the operator's login.

import * as shared from "./shared.js";

const { $, element, named } = shared;

// The parameters of this host program. A range with one value is a button.
const PARAMETERS = [
  { name: "volume", min: 0, max: 1, value: 0.8 },
  { name: "cutoff", min: 20, max: 20000, value: 1000 },
  { name: "pan", min: -1, max: 1, value: 0 },
  { name: "tap", min: 0, max: 0, value: 0 },
];

// The code of the room, and the stream of its events.
let room;
let events;
// The last value of each parameter, and the number of presses of each button.
const values = new Map();

class LoginNeeded extends Error {}

// Sends a request and returns its JSON response. The browser adds the login.
async function request(method, path, body) {
  const { ok, status, answer } = await shared.loggedRequest(method, path, body);
  if (status === 401) throw new LoginNeeded(answer.error);
  if (!ok) throw new Error(answer.error);
  return answer;
}

async function createRoom() {
  const { code } = await request("POST", "/admin/bbx/rooms", {});
  for (const { name, min, max } of PARAMETERS) {
    // A range applies to the parameter in all rooms, a value to this room.
    await request("PUT", `/admin/bbx/params/${name}`, { min, max });
  }
  room = code;
  await setDefaults();
  await showRoom();
  // The control surface on this page joins the room.
  $("code").value = code;
  $("join").requestSubmit();
}

async function setDefaults() {
  for (const { name, value } of PARAMETERS) {
    await request("POST", "/admin/bbx/param", { room, name, value });
  }
  values.clear();
  showValues();
}

// Watches a room that another program created, for example the option --bbx-room.
async function watchRoom() {
  const { rooms } = await request("GET", "/admin/bbx/rooms");
  const code = $("code").value;
  if (!rooms.some((open) => open.code === code)) throw new Error(`There is no room "${code}".`);
  room = code;
  values.clear();
  await showRoom();
}

async function showRoom() {
  const url = await phoneUrl();
  $("phone-link").href = url;
  $("phone-link").textContent = url;
  $("qr").src = `/examples/qr.svg?${new URLSearchParams({ url })}`;
  $("host").hidden = false;
  $("host-state").textContent = `Host program of room ${room}`;
  showValues();
  receiveEvents();
}

// The URL of this page for a phone. Instead of localhost, it contains the address of this machine.
async function phoneUrl() {
  const url = new URL(location.pathname, location.href);
  url.search = new URLSearchParams({ room });
  if (shared.isLocal(url.hostname)) {
    const { address, port } = await request("GET", "/admin/bbx/rooms");
    const pagePort = url.port || { "http:": 80, "https:": 443 }[url.protocol];
    $("only-local").hidden = Boolean(address);
    $("other-port").hidden = !address || Number(pagePort) === port;
    $("server-port").textContent = port;
    if (address) url.hostname = address.includes(":") ? `[${address}]` : address;
  }
  return url.href;
}

// The stream reports events of all rooms.
function receiveEvents() {
  events?.close();
  events = new EventSource("/admin/bbx/events");
  events.onmessage = ({ data }) => {
    const event = JSON.parse(data);
    if (event.room !== room) return;
    shared.log("received", `event ${event.kind} ${event.name}`, event);
    const presses = (values.get(event.name) ?? 0) + 1;
    values.set(event.name, event.kind === "trigger" ? presses : event.value);
    showValues();
  };
}

function showValues() {
  const items = [...values].map(([name, value]) => element("li", {}, named(name), ` ${Number(value.toPrecision(3))}`));
  $("values").replaceChildren(...(items.length ? items : [element("li", { className: "hint" }, "none yet")]));
}

// A level meter that swings for two seconds. A real program sends the levels of its output.
async function sendLevel() {
  for (const level of [0.2, 0.6, 1, 0.7, 0.4, 0.3]) {
    await request("POST", "/admin/bbx/visualization", { room, data: [level] });
    await new Promise((resume) => setTimeout(resume, 300));
  }
}

async function closeRoom() {
  await request("DELETE", `/admin/bbx/rooms/${room}`);
  events?.close();
  room = events = undefined;
  $("host").hidden = true;
  $("host-state").textContent = "The room is closed.";
}

// Runs an action of a button, and shows how to log in or what failed.
function onClick(id, action) {
  $(id).addEventListener("click", async () => {
    $("login").hidden = true;
    try {
      await action();
    } catch (error) {
      const isLogin = error instanceof LoginNeeded;
      $("login").hidden = !isLogin;
      $(isLogin ? "login-error" : "host-state").replaceChildren(...shared.prose(error.message));
    }
  });
}

onClick("create", createRoom);
onClick("watch", watchRoom);
onClick("defaults", setDefaults);
onClick("show-level", sendLevel);
onClick("close-room", closeRoom);
