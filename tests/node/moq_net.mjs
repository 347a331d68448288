// A MOQ client that uses the npm library `@moq/net`, for a page. tests/browser/node.rs bundles this file and calls `exchange`.

import * as Moq from '@moq/net';

const FRAMES = 2;
const TIMEOUT_MS = 10_000;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Rejects if the promise does not settle in time.
const within = (promise, missing) =>
  Promise.race([
    promise,
    pause(TIMEOUT_MS).then(() => {
      throw new Error(`timeout: ${missing}`);
    }),
  ]);

// Content of a frame, different for each frame.
const payload = (group, frame) => Uint8Array.from({ length: 100 }, (_, byte) => group * 31 + frame * 101 + byte * 7);

const equal = (a, b) => a.length === b.length && a.every((byte, index) => byte === b[index]);

// Publishes a broadcast with one track, subscribes to its echo, sends `groups` groups and returns the counts. `protocols` are the versions
// to offer, or undefined for those that the library offers by default.
globalThis.exchange = async ({ url, sha256, protocols, groups, intervalMs }) => {
  const webtransport = { serverCertificateHashes: [{ value: sha256 }], ...(protocols && { protocols }) };
  const connecting = Moq.Connection.connect(new URL(url), { webtransport, websocket: { enabled: false } });
  const connection = await within(connecting, 'no connection');
  const broadcast = new Moq.Broadcast.Producer();
  const track = broadcast.createTrack('index', { latencyMax: TIMEOUT_MS });
  const path = Moq.Path.from('client.echo');
  connection.publish(path, broadcast);

  const announcement = await within(connection.announced().next(), 'no announcement');
  if (announcement.path !== path || !announcement.active) {
    throw new Error(`announced instead: ${JSON.stringify(announcement)}`);
  }
  const echo = connection.consume(path).subscribe('index', { latencyMax: TIMEOUT_MS });
  await within(echo.info(), 'the subscription is not accepted');
  const subscribed = async () => {
    while (!track.used.peek()) await track.used.changed();
  };
  await within(subscribed(), 'the server does not subscribe');

  const results = { version: connection.version, sent: 0, returned: 0, altered: 0, roundTripsMs: [] };
  const sentAt = [];
  const outstanding = new Set();
  const receive = async () => {
    while (results.returned + results.altered < groups) {
      const group = await within(echo.recvGroup(), 'a group');
      if (!group) break;
      const frames = [];
      for (let frame = await group.readFrame(); frame; frame = await group.readFrame()) frames.push(frame.payload);
      const same = frames.length === FRAMES && frames.every((bytes, index) => equal(bytes, payload(group.sequence, index)));
      if (same && outstanding.delete(group.sequence)) {
        results.returned += 1;
        results.roundTripsMs.push(performance.now() - sentAt[group.sequence]);
      } else {
        results.altered += 1;
      }
    }
  };
  const received = receive().catch(({ message }) => (results.error = message));
  for (let number = 0; number < groups; number += 1) {
    const group = track.appendGroup();
    sentAt.push(performance.now());
    outstanding.add(group.sequence);
    for (let frame = 0; frame < FRAMES; frame += 1) {
      group.writeFrame({ payload: payload(group.sequence, frame), timestamp: Moq.Time.Timestamp.now() });
    }
    group.close();
    results.sent += 1;
    await pause(intervalMs);
  }
  await received;
  results.roundTripsMs.sort((a, b) => a - b);
  connection.close();
  return { ...results, roundTripsMs: undefined, roundTripP50Ms: results.roundTripsMs[groups >> 1] };
};
