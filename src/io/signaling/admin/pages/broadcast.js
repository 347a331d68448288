// A listener and a poster of a broadcast room.
//
// The listener is a WebSocket at /rooms/ROOM?token=TOKEN. The poster is an HTTP request with the
// token in its `Authorization` header. A token is valid for one room.

import * as shared from "./shared.js";

const { $ } = shared;

// The token, and the room for which it is valid.
let token;
let room;
let listener;
let controlChannel;

async function getToken() {
  const wanted = $("room").value;
  const body = { clientId: $("client-id").value, room: wanted, expiresIn: 3600 };
  const { ok, status, answer } = await shared.loggedRequest("POST", "/auth/token", body, $("issuer-key").value);
  if (!ok) {
    showState("token-state", answer.error, true);
    // The server has a token issuer key, and the request did not contain it.
    if (status === 401) $("issuer-key").focus();
    return;
  }
  disconnect();
  token = answer.token;
  room = wanted;
  const until = new Date(answer.expiresAt).toTimeString().slice(0, 5);
  showState("token-state", `The token for room ${room} is valid until ${until}.`);
  $("listen").disabled = false;
  $("post").disabled = false;
}

function listen() {
  const path = `/rooms/${encodeURIComponent(room)}`;
  $("listen").disabled = true;
  $("stop").disabled = false;
  shared.setStatus("idle", "Connecting");
  const opened = shared.connect(path, { token }, {
    onOpen: () => shared.setStatus("live", `Listening to ${room}`),
    onMessage: showContent,
    onClose(event) {
      // With a new token, another listener may already be open.
      if (listener && listener !== opened) return;
      shared.setStatus("gone", shared.closeText(event));
      disconnect();
    },
  });
  listener = opened;
  if (!$("control").checked) return;
  // The control channel receives commands for a player, never content.
  controlChannel = shared.connect(`${path}/remotecontrol`, { token }, {
    onMessage({ rc }) {
      if (rc) shared.addChatLine("control channel", `${rc.action} for ${rc["max-duration"]} s`);
    },
  });
}

// The type of relayed content depends on --broadcast-envelope, so that it is not compared.
function showContent({ from = "server", content }) {
  if (content === undefined) return;
  const text = content?.text;
  shared.addChatLine(from, typeof text === "string" ? text : JSON.stringify(content));
}

function disconnect() {
  listener?.close();
  controlChannel?.close();
  listener = controlChannel = undefined;
  $("stop").disabled = true;
  $("listen").disabled = !token;
}

async function postContent() {
  const body = { type: "post", content: { id: shared.randomId(), text: $("text").value } };
  const seconds = Number($("slot").value);
  if (seconds > 0) body.expectedSlotDurationMs = seconds * 1000;
  const path = `/${encodeURIComponent(room)}/postcontent`;
  const { ok, answer } = await shared.loggedRequest("POST", path, body, token);
  if (ok) showState("post-state", `Posted to ${answer.clientCount} listener(s).`);
  else showState("post-state", answer.error, true);
}

function showState(id, text, isError = false) {
  $(id).textContent = text;
  $(id).className = isError ? "notice" : "hint";
}

// Reports a failed request, for example if the server was stopped.
const reporting = (id, action) => () =>
  action().catch((error) => showState(id, `The request failed: ${error.message}`, true));

shared.onSubmit("token-form", reporting("token-state", getToken));
shared.onSubmit("post-form", reporting("post-state", postContent));
$("listen").addEventListener("click", listen);
$("stop").addEventListener("click", disconnect);
$("client-id").value = `page-${shared.randomId().slice(0, 4)}`;
