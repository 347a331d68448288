// The npm package `ws` as the client of each dialect, and `werift`'s WebRTC through the server: `node clients.mjs ADDRESS:PORT`.
//
// The server has the room 1234 of control surfaces. Prints what was done; whatever is not as it should be ends the program.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { RTCPeerConnection } from 'werift';
import WebSocket from 'ws';

const address = process.argv[2];
const patience = setTimeout(() => assert.fail('nothing more happens'), 30_000);

// A client whose messages are read one by one.
class Client {
  #heard = [];
  #waiting = [];

  static async open(path) {
    const client = new Client();
    client.socket = new WebSocket(`ws://${address}${path}`);
    client.socket.on('message', (data, isBinary) => {
      assert.equal(isBinary, false);
      const message = JSON.parse(data.toString());
      const reader = client.#waiting.shift();
      if (reader) reader(message);
      else client.#heard.push(message);
    });
    await once(client.socket, 'open');
    assert.equal(client.socket.extensions, '', 'no compression is agreed on');
    return client;
  }

  say(message) {
    this.socket.send(JSON.stringify(message));
  }

  next() {
    return this.#heard.length ? this.#heard.shift() : new Promise((reader) => this.#waiting.push(reader));
  }

  // The next message, which is of this type.
  async hear(type) {
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
  for (const client of [ann, bob]) assert.equal((await client.hear('welcome')).room, 'radio');
  ann.say({ type: 'message', content: { title: 'ä ☃' }, metadata: { n: 1 } });
  const heard = await bob.hear('radio-content');
  assert.deepEqual([heard.content, heard.metadata, heard.from], [{ title: 'ä ☃' }, { n: 1 }, 'ann']);
  ann.socket.send('no JSON');
  assert.deepEqual(await ann.next(), { type: 'error', error: 'Invalid JSON payload' });
  ann.say({ type: 'keepalive' });
  assert.equal((await ann.hear('ack')).ackType, 'keepalive');
  const posted = await fetch(`http://${address}/radio/postcontent`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${await token('poster', 'radio')}` },
    body: JSON.stringify({ content: 'posted' }),
  });
  assert.deepEqual(await posted.json(), { success: true, clientCount: 2 });
  for (const client of [ann, bob]) assert.equal((await client.hear('radio-content')).from, 'server');
  const stranger = await Client.open(`/radio?token=${await token('eve', 'chat')}`);
  const [code, reason] = await once(stranger.socket, 'close');
  assert.deepEqual([code, reason.toString()], [4002, 'Invalid or expired token']);
  // Pings of the client's own are answered.
  ann.socket.ping('are you there');
  assert.equal((await once(ann.socket, 'pong'))[0].toString(), 'are you there');
  assert.deepEqual([await ann.close(), await bob.close()], [1000, 1000]);
}

async function jamjam() {
  const [ann, bob] = [await Client.open('/'), await Client.open('/ws')];
  ann.say({ type: 'CreateRoom', data: { room_name: 'r', password: null, peer_name: 'Ann' } });
  const { room_id, invite_code } = (await ann.hear('RoomCreated')).data;
  bob.say({ type: 'ListRooms' });
  assert.deepEqual((await bob.hear('RoomList')).data.rooms.map(({ id }) => id), [room_id]);
  bob.say({ type: 'JoinRoom', data: { room_id: invite_code, password: null, peer_name: 'Bob' } });
  assert.equal((await bob.hear('RoomJoined')).data.peers[0].name, 'Ann');
  assert.equal((await ann.hear('PeerJoined')).data.peer.name, 'Bob');
  bob.say({ type: 'ChatMessage', data: { sender_id: '', sender_name: '', content: 'hello', timestamp: 1 } });
  const chat = (await ann.hear('ChatMessage')).data;
  assert.deepEqual([chat.sender_name, chat.content], ['Bob', 'hello']);
  bob.socket.terminate();
  await ann.hear('PeerLeft');
  await ann.close();
}

async function bbx() {
  const [ann, bob] = [await Client.open('/'), await Client.open('/')];
  for (const client of [ann, bob]) {
    client.say({ type: 'join', room_code: '0000' });
    assert.equal((await client.hear('error')).code, 'INVALID_ROOM');
    client.say({ type: 'join', room_code: '1234', client_name: 'Phone' });
    await client.hear('welcome');
  }
  ann.say({ type: 'param', param: 'freq', value: 0.7 });
  assert.deepEqual(await bob.next(), { type: 'update', param: 'freq', value: 0.7 });
  bob.say({ type: 'sync' });
  assert.deepEqual(await bob.next(), { type: 'state', params: [{ name: 'freq', value: 0.7, min: 0, max: 1 }] });
  const sent = Date.now() * 1000;
  bob.say({ type: 'ping', client_time: sent });
  const pong = await bob.hear('pong');
  assert.equal(pong.client_time, sent);
  assert.ok(Math.abs(pong.server_time - sent) < 60_000_000, 'server time is that of the wall, in microseconds');
  bob.say({ type: 'leave' });
  assert.equal((await once(bob.socket, 'close'))[0], 1000);
  await ann.close();
}

// A participant that calls whoever is there, or is called, until a data channel is open and a word has come over it.
async function participant(user) {
  const client = await Client.open(`/?roomId=a%2Fb&userId=${user}&userName=${user}`);
  const peer = new RTCPeerConnection({ iceServers: [] });
  const heard = deferred();
  const types = new Set();
  const over = (channel) => {
    const greet = () => channel.send(Buffer.from(`this is ${user}`));
    channel.onMessage.subscribe((data) => heard.resolve(data.toString()));
    if (channel.readyState === 'open') greet();
    else channel.stateChanged.subscribe((state) => state === 'open' && greet());
  };
  peer.onDataChannel.subscribe(over);
  let other;
  peer.onIceCandidate.subscribe((candidate) => {
    if (candidate && other) client.say({ type: 'ice-candidate', targetUserId: other, candidate: candidate.toJSON() });
  });
  const serve = async () => {
    for (;;) {
      const message = await client.next();
      types.add(message.type);
      if (message.type === 'existing-participants') {
        other = message.participants[0].id;
        over(peer.createDataChannel('words'));
        await peer.setLocalDescription(await peer.createOffer());
        client.say({ type: 'offer', targetUserId: other, sdp: peer.localDescription });
      } else if (message.type === 'offer') {
        other = message.fromUserId;
        await peer.setRemoteDescription(message.sdp);
        await peer.setLocalDescription(await peer.createAnswer());
        client.say({ type: 'answer', targetUserId: other, sdp: peer.localDescription });
      } else if (message.type === 'answer') {
        await peer.setRemoteDescription(message.sdp);
      } else if (message.type === 'ice-candidate') {
        await peer.addIceCandidate(message.candidate);
      }
    }
  };
  serve().catch(heard.reject);
  return { client, peer, types, heard: heard.promise };
}

// What newer ones have as `Promise.withResolvers`.
function deferred() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}

async function webrtc() {
  const ann = await participant('ann');
  const bob = await participant('bob');
  assert.deepEqual(await Promise.all([ann.heard, bob.heard]), ['this is bob', 'this is ann']);
  assert.ok(ann.types.has('participant-joined') && ann.types.has('offer') && bob.types.has('answer'));
  for (const { peer, client } of [ann, bob]) {
    await peer.close();
    client.socket.terminate();
  }
}

for (const dialect of [broadcast, jamjam, bbx, webrtc]) {
  await dialect();
  console.log(`${dialect.name}: as it should be`);
}
clearTimeout(patience);
// werift's timers would go on for a while.
process.exit(0);
