// The control surface: joins a room by its code, and shows the parameters of the host program.
//
// The page sends `join`, `sync`, `param`, `trigger` and `leave`. The server sends `welcome`,
// `state`, `update`, `visualization`, `closed` and `error`. The first message selects the dialect,
// because other clients connect to the same URL.

import * as shared from "./shared.js";

const { $, element, named } = shared;

// The slider and the number of each parameter, by its name.
const sliders = new Map();
let connection;

function join() {
  connection?.close();
  const joined = (connection = shared.connect("/", {}, {
    onOpen: () => joined.send({ type: "join", room_code: $("code").value, client_name: "Page" }),
    onMessage: (message) => joined === connection && handlers[message.type]?.(message),
    onClose(event) {
      if (joined !== connection) return;
      connection = undefined;
      // After an error or the end of the room, that reason stays visible.
      if ($("status").dataset.state !== "gone") shared.setStatus("idle", shared.closeText(event));
      showControls([]);
      $("leave").disabled = true;
    },
  }));
}

const handlers = {
  welcome() {
    shared.setStatus("live", `In room ${$("code").value}`);
    $("leave").disabled = false;
    // The room is in the URL, so that a reload joins it again.
    const url = new URL(location.href);
    url.search = new URLSearchParams({ room: $("code").value });
    history.replaceState(null, "", url);
    connection.send({ type: "sync" });
  },

  // All parameters, as an answer to `sync`.
  state: ({ params }) => showControls(params),

  // Another control surface or the host program has set a parameter.
  update({ param, value }) {
    if (sliders.has(param)) showValue(param, value);
    else connection.send({ type: "sync" });
  },

  visualization({ data }) {
    $("level-row").hidden = false;
    $("level").value = data[0] ?? 0;
  },

  closed: () => shared.setStatus("gone", "The host program closed the room."),

  // For example "Invalid room code" or "Room is at capacity".
  error: ({ message }) => shared.setStatus("gone", message),
};

function showControls(params) {
  sliders.clear();
  $("controls").replaceChildren(...params.map(createControl));
  $("no-controls").hidden = params.length > 0;
}

// In this example, a parameter whose range has only one value is a button: there is nothing to
// slide. A button sends `trigger`, a slider sends `param`.
function createControl({ name, value, min, max }) {
  if (min === max) {
    const button = element("button", {}, name);
    button.addEventListener("click", () => connection?.send({ type: "trigger", name }));
    return element("li", {}, button);
  }
  const slider = element("input", { type: "range", min, max, step: "any", ariaLabel: name });
  const number = element("output");
  slider.addEventListener("input", () => {
    const chosen = Number(slider.value);
    number.textContent = format(chosen);
    connection?.send({ type: "param", param: name, value: chosen });
  });
  sliders.set(name, { slider, number });
  showValue(name, value);
  return element("li", { className: "row" }, named(name), slider, number);
}

// The value may be outside the range. Then the slider is at its end, and the number is exact.
function showValue(name, value) {
  const { slider, number } = sliders.get(name);
  slider.value = value;
  number.textContent = format(value);
}

const format = (value) => String(Number(value.toPrecision(3)));

shared.onSubmit("join", join);
$("leave").addEventListener("click", () => connection?.send({ type: "leave" }));

// The QR code contains the room.
const code = new URLSearchParams(location.search).get("room");
if (code) {
  $("code").value = code;
  join();
}
