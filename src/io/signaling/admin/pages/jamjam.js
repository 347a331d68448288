// A client of jamjam rooms: list, create, join, chat, leave.
//
// Messages are JSON: { "type": "JoinRoom", "data": { ... } }. The first message selects the
// dialect, because other clients connect to the same URL.

import * as shared from "./shared.js";

const { $, element, named } = shared;

// The participants of the current room by id.
const participants = new Map();
let connection;
// The room that was created or joined: `id`, `peerId` and `inviteCode`.
let room;
// The name that the list showed for the room to join, and for the room to create.
let requestedName = "";

const peerName = () => $("peer-name").value.trim() || "Guest";
const listRooms = () => connection.send({ type: "ListRooms" });

function open() {
  $("reconnect").hidden = true;
  connection = shared.connect("/", {}, {
    onOpen() {
      shared.setStatus("live", "Connected");
      listRooms();
    },
    onMessage: ({ type, data }) => handlers[type]?.(data),
    onClose(event) {
      shared.setStatus("gone", shared.closeText(event));
      showRoom(undefined);
      $("reconnect").hidden = false;
    },
  });
}

const handlers = {
  RoomList: ({ rooms }) => showRooms(rooms),

  RoomCreated({ room_id, peer_id, invite_code }) {
    participants.clear();
    showRoom({ id: room_id, peerId: peer_id, inviteCode: invite_code });
    listRooms();
  },

  RoomJoined({ room_id, peer_id, peers }) {
    participants.clear();
    // `peers` are those that were in the room before.
    for (const peer of peers) participants.set(peer.id, peer.name);
    showRoom({ id: room_id, peerId: peer_id });
    listRooms();
  },

  PeerJoined: ({ peer }) => showParticipant(peer),

  // A real client uses the addresses in `peer` to send audio to this participant.
  PeerUpdated: ({ peer }) => showParticipant(peer),

  PeerLeft({ peer_id }) {
    participants.delete(peer_id);
    showParticipants();
  },

  ChatMessage: ({ sender_name, content }) => shared.addChatLine(sender_name, content),

  // For example "Room not found", "Invalid password" or "Room is full".
  Error: ({ message }) => shared.setStatus("gone", message),
};

function join(id, name, password) {
  shared.setStatus("live", "Connected");
  requestedName = name;
  connection.send({ type: "JoinRoom", data: { room_id: id, password: password || null, peer_name: peerName() } });
}

function showRooms(rooms) {
  const items = rooms.map(({ id, name, peer_count, max_peers, has_password }) => {
    const count = element("span", { className: "hint" }, `${peer_count} of ${max_peers}`);
    const label = "Password of the room";
    const password = element("input", { type: "password", placeholder: "password", autocomplete: "off", ariaLabel: label });
    const isHere = id === room?.id;
    const parts = isHere ? [element("b", {}, "you are here")] : [...(has_password ? [password] : []), element("button", {}, "Join")];
    const form = element("form", {}, named(name), count, parts);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      join(id, name, password.value);
    });
    return element("li", {}, form);
  });
  $("rooms").replaceChildren(...items);
  $("no-rooms").hidden = rooms.length > 0;
}

function showRoom(newRoom) {
  if (newRoom?.id !== room?.id) $("chat").replaceChildren();
  room = newRoom;
  $("room").hidden = !room;
  $("no-room").hidden = Boolean(room);
  $("room-heading").textContent = room ? `Room ${requestedName}` : "Not in a room";
  $("room-id").textContent = room?.id ?? "";
  $("invite-code").textContent = room?.inviteCode ?? "known to the creator";
  if (!room) participants.clear();
  showParticipants();
}

function showParticipant({ id, name }) {
  participants.set(id, name);
  showParticipants();
}

function showParticipants() {
  const others = [...participants].map(([id, name]) => element("li", {}, named(name), " ", element("code", {}, id.slice(0, 8))));
  $("participants").replaceChildren(element("li", {}, "you"), ...others);
}

shared.onSubmit("create", () => {
  requestedName = $("room-name").value.trim() || "Jam";
  shared.setStatus("live", "Connected");
  const password = $("room-password").value || null;
  connection.send({ type: "CreateRoom", data: { room_name: requestedName, password, peer_name: peerName() } });
  $("room-password").value = "";
});

shared.onSubmit("send", () => {
  const content = $("text").value.trim();
  if (!content || !room) return;
  // The server replaces the sender's id and name by those of this connection.
  const sender = { sender_id: room.peerId, sender_name: peerName() };
  connection.send({ type: "ChatMessage", data: { ...sender, content, timestamp: Date.now() } });
  // The server sends the message to the others only.
  shared.addChatLine(`${peerName()} (you)`, content);
  $("text").value = "";
});

$("leave").addEventListener("click", () => {
  connection.send({ type: "LeaveRoom" });
  showRoom(undefined);
  listRooms();
});

$("refresh").addEventListener("click", listRooms);
$("reconnect").addEventListener("click", open);
$("peer-name").value = `Guest ${shared.randomId().slice(0, 3)}`;
open();
