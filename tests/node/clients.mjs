// Connects to a signaling server with the npm package `ws` as a client of each dialect, and opens a WebRTC data channel between two clients
// with `werift`: `node clients.mjs ADDRESS:PORT`.
//
// The server must have the control surface room 1234. Prints each dialect that passed; exits with an error at the first failure.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { RTCPeerConnection } from 'werift';
import WebSocket from 'ws';

const address = process.argv[2];
const timeout = setTimeout(() => assert.fail('timed out'), 30_000);

// A client that reads its messages one at a time.
class Client {
  #received = [];
  #readers = [];

  static async open(path) {
    const client = new Client();
    client.socket = new WebSocket(`ws://${address}${path}`);
    client.socket.on('message', (data, isBinary) => {
      assert.equal(isBinary, false);
      const message = JSON.parse(data.toString());
      const reader = client.#readers.shift();
      if (reader) reader(message);
      else client.#received.push(message);
    });
    await once(client.socket, 'open');
    assert.equal(client.socket.extensions, '', 'no compression is negotiated');
    return client;
  }

  send(message) {
    this.socket.send(JSON.stringify(message));
  }

  next() {
    return this.#received.length ? this.#received.shift() : new Promise((reader) => this.#readers.push(reader));
  }

  // The next message, which must be of this type.
  async receive(type) {
    const message = await this.next();
    assert.equal(message.type, type, JSON.stringify(message));
    return message;
  }

  async close() {
    this.socket.close(1000);
    const [code] = await once(this.socket, 'close');
    return code;
  }
}

async function token(clientId, room) {
  const answer = await fetch(`http://${address}/auth/token`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ clientId, room, expiresIn: 60 }),
  });
  assert.equal(answer.status, 200);
  return (await answer.json()).token;
}

async function broadcast() {
  const [ann, bob] = [
    await Client.open(`/radio?token=${await token('ann', 'radio')}`),
    await Client.open(`/radio?token=${await token('bob', 'radio')}`),
  ];
  for (const client of [ann, bob]) assert.equal((await client.receive('welcome')).room, 'radio');
  ann.send({ type: 'message', content: { title: 'ä ☃' }, metadata: { n: 1 } });
  const content = await bob.receive('radio-content');
  assert.deepEqual([content.content, content.metadata, content.from], [{ title: 'ä ☃' }, { n: 1 }, 'ann']);
  ann.socket.send('no JSON');
  assert.deepEqual(await ann.next(), { type: 'error', error: 'Invalid JSON payload' });
  ann.send({ type: 'keepalive' });
  assert.equal((await ann.receive('ack')).ackType, 'keepalive');
  const posted = await fetch(`http://${address}/radio/postcontent`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${await token('poster', 'radio')}` },
    body: JSON.stringify({ content: 'posted' }),
  });
  assert.deepEqual(await posted.json(), { success: true, clientCount: 2 });
  for (const client of [ann, bob]) assert.equal((await client.receive('radio-content')).from, 'server');
  const outsider = await Client.open(`/radio?token=${await token('eve', 'chat')}`);
  const [code, reason] = await once(outsider.socket, 'close');
  assert.deepEqual([code, reason.toString()], [4002, 'Invalid or expired token']);
  // The server answers the client's pings.
  ann.socket.ping('are you there');
  assert.equal((await once(ann.socket, 'pong'))[0].toString(), 'are you there');
  assert.deepEqual([await ann.close(), await bob.close()], [1000, 1000]);
}

async function jamjam() {
  const [ann, bob] = [await Client.open('/'), await Client.open('/ws')];
  ann.send({ type: 'CreateRoom', data: { room_name: 'r', password: null, peer_name: 'Ann' } });
  const { room_id, invite_code } = (await ann.receive('RoomCreated')).data;
  bob.send({ type: 'ListRooms' });
  assert.deepEqual((await bob.receive('RoomList')).data.rooms.map(({ id }) => id), [room_id]);
  bob.send({ type: 'JoinRoom', data: { room_id: invite_code, password: null, peer_name: 'Bob' } });
  assert.equal((await bob.receive('RoomJoined')).data.peers[0].name, 'Ann');
  assert.equal((await ann.receive('PeerJoined')).data.peer.name, 'Bob');
  bob.send({ type: 'ChatMessage', data: { sender_id: '', sender_name: '', content: 'hello', timestamp: 1 } });
  const chat = (await ann.receive('ChatMessage')).data;
  assert.deepEqual([chat.sender_name, chat.content], ['Bob', 'hello']);
  bob.socket.terminate();
  await ann.receive('PeerLeft');
  await ann.close();
}

async function bbx() {
  const [ann, bob] = [await Client.open('/'), await Client.open('/')];
  for (const client of [ann, bob]) {
    client.send({ type: 'join', room_code: '0000' });
    assert.equal((await client.receive('error')).code, 'INVALID_ROOM');
    client.send({ type: 'join', room_code: '1234', client_name: 'Phone' });
    await client.receive('welcome');
  }
  ann.send({ type: 'param', param: 'freq', value: 0.7 });
  assert.deepEqual(await bob.next(), { type: 'update', param: 'freq', value: 0.7 });
  bob.send({ type: 'sync' });
  assert.deepEqual(await bob.next(), { type: 'state', params: [{ name: 'freq', value: 0.7, min: 0, max: 1 }] });
  const sent = Date.now() * 1000;
  bob.send({ type: 'ping', client_time: sent });
  const pong = await bob.receive('pong');
  assert.equal(pong.client_time, sent);
  assert.ok(Math.abs(pong.server_time - sent) < 60_000_000, 'server time is wall-clock time in microseconds');
  bob.send({ type: 'leave' });
  assert.equal((await once(bob.socket, 'close'))[0], 1000);
  await ann.close();
}

// A participant that calls the others in the room or is called by them. Resolves when a data channel is open and a greeting has arrived.
async function participant(user) {
  const client = await Client.open(`/?roomId=a%2Fb&userId=${user}&userName=${user}`);
  const peer = new RTCPeerConnection({ iceServers: [] });
  const greeting = deferred();
  const types = new Set();
  const over = (channel) => {
    const greet = () => channel.send(Buffer.from(`this is ${user}`));
    channel.onMessage.subscribe((data) => greeting.resolve(data.toString()));
    if (channel.readyState === 'open') greet();
    else channel.stateChanged.subscribe((state) => state === 'open' && greet());
  };
  peer.onDataChannel.subscribe(over);
  let other;
  peer.onIceCandidate.subscribe((candidate) => {
    if (candidate && other) client.send({ type: 'ice-candidate', targetUserId: other, candidate: candidate.toJSON() });
  });
  const serve = async () => {
    for (;;) {
      const message = await client.next();
      types.add(message.type);
      if (message.type === 'existing-participants') {
        other = message.participants[0].id;
        over(peer.createDataChannel('words'));
        await peer.setLocalDescription(await peer.createOffer());
        client.send({ type: 'offer', targetUserId: other, sdp: peer.localDescription });
      } else if (message.type === 'offer') {
        other = message.fromUserId;
        await peer.setRemoteDescription(message.sdp);
        await peer.setLocalDescription(await peer.createAnswer());
        client.send({ type: 'answer', targetUserId: other, sdp: peer.localDescription });
      } else if (message.type === 'answer') {
        await peer.setRemoteDescription(message.sdp);
      } else if (message.type === 'ice-candidate') {
        await peer.addIceCandidate(message.candidate);
      }
    }
  };
  serve().catch(greeting.reject);
  return { client, peer, types, greeting: greeting.promise };
}

// Equivalent to `Promise.withResolvers` in newer versions.
function deferred() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}

async function webrtc() {
  const ann = await participant('ann');
  const bob = await participant('bob');
  assert.deepEqual(await Promise.all([ann.greeting, bob.greeting]), ['this is bob', 'this is ann']);
  assert.ok(ann.types.has('participant-joined') && ann.types.has('offer') && bob.types.has('answer'));
  for (const { peer, client } of [ann, bob]) {
    await peer.close();
    client.socket.terminate();
  }
}

for (const dialect of [broadcast, jamjam, bbx, webrtc]) {
  await dialect();
  console.log(`${dialect.name}: passed`);
}
clearTimeout(timeout);
// werift's timers would keep the process alive.
process.exit(0);
