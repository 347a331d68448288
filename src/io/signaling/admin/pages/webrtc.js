// Calls every other participant of a room. Each call has an audio track and a data channel.
//
// The server relays `offer`, `answer` and `ice-candidate` to the participant in `targetUserId`,
// and adds `fromUserId`. The participant who joins later sends the offers. Therefore, two
// participants never send offers to each other at the same time.

import * as shared from "./shared.js";

const { $ } = shared;
const STATISTICS_INTERVAL_MS = 500;
// The close codes of a connection without a token, and with a token that the server rejects.
const AUTHENTICATION_REQUIRED = 4001;
const INVALID_TOKEN = 4002;

// This tab. A second connection with the same id would replace the first one.
const userId = shared.randomId();
// Calls by the id of the other participant: `{ peer, channel, item }`.
const calls = new Map();
let signaling;
let toneStream;
// The token, and the room for which it is valid.
let token;
let tokenRoom;
// Messages are handled one after the other, in the order of arrival.
let handled = Promise.resolve();

// A stream with a quiet sine tone. Browsers start audio only after a click or a key.
function createTone() {
  const context = new AudioContext();
  const frequency = 220 + Math.floor(Math.random() * 220);
  const oscillator = new OscillatorNode(context, { frequency });
  const destination = new MediaStreamAudioDestinationNode(context);
  oscillator.connect(new GainNode(context, { gain: 0.05 })).connect(destination);
  oscillator.start();
  return destination.stream;
}

async function join() {
  toneStream ??= createTone();
  const parameters = { roomId: $("room").value, userId, userName: $("user-name").value };
  enableButtons({ join: false, leave: false });
  if ($("issuer-key").value) parameters.token = await getToken();
  signaling = shared.connect("/", parameters, {
    onOpen: () => shared.setStatus("live", "Connected"),
    onMessage(message) {
      handled = handled.then(() => handlers[message.type]?.(message)).catch((error) => {
        shared.log("info", `cannot handle ${message.type}`, String(error));
      });
    },
    onClose(event) {
      [...calls.keys()].forEach(endCall);
      enableButtons({ join: true, leave: false });
      if (event.code === INVALID_TOKEN) token = undefined;
      if (event.code !== AUTHENTICATION_REQUIRED) {
        shared.setStatus("gone", shared.closeText(event));
        return;
      }
      const advice = "If it has a token issuer key, enter the key and join again.";
      shared.setStatus("gone", `This server requires a token. ${advice}`);
      $("issuer").hidden = false;
      $("issuer-key").focus();
    },
  });
  enableButtons({ join: false, leave: true });
}

// A server with the option `--webrtc-auth token` requires a token for this room and this user.
// Usually, the server of a web application holds the token issuer key and requests the tokens.
// The server limits token requests. Therefore, a token is used until the server rejects it.
async function getToken() {
  const room = $("room").value;
  if (token && room === tokenRoom) return token;
  const body = { clientId: userId, room, audience: "webrtc" };
  const { ok, answer } = await shared.loggedRequest("POST", "/auth/token", body, $("issuer-key").value);
  if (!ok) throw new Error(answer.error);
  [token, tokenRoom] = [answer.token, room];
  return token;
}

const handlers = {
  // Sent to this participant if others are already in the room: call them.
  async "existing-participants"({ participants }) {
    for (const { id, name } of participants) {
      const call = startCall(id, name);
      useChannel(call, call.peer.createDataChannel("text"));
      await call.peer.setLocalDescription();
      signaling.send({ type: "offer", targetUserId: id, sdp: call.peer.localDescription });
    }
  },

  // Its offer follows.
  "participant-joined": ({ userId: id, userName }) => void startCall(id, userName),

  "participant-left": ({ userId: id }) => endCall(id),

  async offer({ fromUserId, sdp }) {
    const call = calls.get(fromUserId);
    await call.peer.setRemoteDescription(sdp);
    await call.peer.setLocalDescription();
    const answer = call.peer.localDescription;
    signaling.send({ type: "answer", targetUserId: fromUserId, sdp: answer });
  },

  answer: ({ fromUserId, sdp }) => calls.get(fromUserId).peer.setRemoteDescription(sdp),

  "ice-candidate": ({ fromUserId, candidate }) =>
    calls.get(fromUserId).peer.addIceCandidate(candidate),
};

function startCall(id, name) {
  endCall(id);
  // Without STUN and TURN servers: enough for one machine or one local network.
  const peer = new RTCPeerConnection();
  const item = $("peer-template").content.firstElementChild.cloneNode(true);
  item.querySelector(".name").textContent = name;
  $("peers").append(item);
  const call = { name, peer, item, channel: undefined };
  calls.set(id, call);
  for (const track of toneStream.getTracks()) peer.addTrack(track, toneStream);
  peer.onicecandidate = ({ candidate }) => {
    if (candidate) signaling.send({ type: "ice-candidate", targetUserId: id, candidate });
  };
  peer.ontrack = ({ streams }) => {
    item.querySelector("audio").srcObject = streams[0];
  };
  peer.ondatachannel = ({ channel }) => useChannel(call, channel);
  peer.onconnectionstatechange = () => showState(call, "connection", peer.connectionState);
  peer.oniceconnectionstatechange = () => showState(call, "ice", peer.iceConnectionState);
  peer.onsignalingstatechange = () => showState(call, "signaling", peer.signalingState);
  $("no-peers").hidden = true;
  return call;
}

function useChannel(call, channel) {
  call.channel = channel;
  channel.onopen = () => showState(call, "channel", "open");
  channel.onclose = () => showState(call, "channel", "closed");
  channel.onmessage = ({ data }) => shared.addChatLine(call.name, String(data));
}

function endCall(id) {
  const call = calls.get(id);
  call?.peer.close();
  call?.item.remove();
  calls.delete(id);
  $("no-peers").hidden = calls.size > 0;
}

function showState({ item }, name, value) {
  item.querySelector(`[data-state="${name}"]`).textContent = value;
}

// Shows the level and the number of bytes of the received audio.
async function showStatistics({ peer, item }) {
  for (const entry of (await peer.getStats()).values()) {
    if (entry.type !== "inbound-rtp" || entry.kind !== "audio") continue;
    item.querySelector("meter").value = entry.audioLevel ?? 0;
    item.querySelector(".bytes").textContent = entry.bytesReceived;
  }
}

// During a token request, both buttons are disabled.
function enableButtons({ join, leave }) {
  for (const id of ["room", "user-name", "issuer-key", "join-button"]) $(id).disabled = !join;
  $("leave").disabled = !leave;
}

// The room is in the URL, so that the URL can be opened in another tab or sent to somebody else.
function showRoomInUrl() {
  const url = new URL(location.href);
  url.search = new URLSearchParams({ room: $("room").value });
  history.replaceState(null, "", url);
  $("second-tab").href = url;
}

shared.onSubmit("send", () => {
  const text = $("text").value.trim();
  const open = [...calls.values()].filter(({ channel }) => channel?.readyState === "open");
  if (!text || !open.length) return;
  for (const { channel } of open) channel.send(text);
  shared.addChatLine("you", text);
  $("text").value = "";
});

shared.onSubmit("join", () =>
  join().catch((error) => {
    shared.setStatus("gone", `Cannot join: ${error.message}`);
    enableButtons({ join: true, leave: false });
  }),
);
$("leave").addEventListener("click", () => signaling.close());
$("room").addEventListener("input", showRoomInUrl);
$("room").value = new URLSearchParams(location.search).get("room") || shared.randomId().slice(0, 6);
$("user-name").value = `Guest ${userId.slice(0, 3)}`;
showRoomInUrl();
setInterval(() => [...calls.values()].forEach(showStatistics), STATISTICS_INTERVAL_MS);
