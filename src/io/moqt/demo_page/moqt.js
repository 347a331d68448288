"use strict";
// A minimal MOQT client over WebTransport (docs/moqt.md): announces and serves one track, and subscribes to its echo. VERSIONS
// contains the messages of each version.

const STREAM = { session: 0, announce: 1, subscribe: 2, group: 0 };
const ANNOUNCED = 1;
// Type of the reply that accepts a subscription in moq-lite.
const SUBSCRIBE_OK = 0;
// Maximum latency of a subscription in moq-lite, in milliseconds. The server drops groups that are older.
const MAX_LATENCY_MS = 10000;
// Subscribe ID of our only subscription.
const SUBSCRIBE_ID = 0;
// Maximum length of a message or frame, in bytes.
const MAX_MESSAGE_BYTES = 1 << 20;
// Maximum time for setup and subscriptions, in milliseconds.
const SETUP_TIMEOUT_MS = 5000;

// ---- Integers, strings, messages

// Encodes a QUIC varint (RFC 9000, section 16).
function varint(value) {
  const size = value < 2 ** 6 ? 1 : value < 2 ** 14 ? 2 : value < 2 ** 30 ? 4 : 8;
  const bytes = new Uint8Array(size);
  for (let index = size - 1, rest = value; index >= 0; index -= 1, rest = Math.floor(rest / 256)) bytes[index] = rest % 256;
  bytes[0] |= Math.log2(size) << 6;
  return bytes;
}

// Concatenates byte arrays and single bytes.
function concat(...parts) {
  const arrays = parts.map((part) => (typeof part === "number" ? [part] : part));
  const bytes = new Uint8Array(arrays.reduce((size, array) => size + array.length, 0));
  let at = 0;
  for (const array of arrays) {
    bytes.set(array, at);
    at += array.length;
  }
  return bytes;
}

const sized = (bytes) => concat(varint(bytes.length), bytes);
const text = (value) => sized(new TextEncoder().encode(value));
const array = (texts) => concat(varint(texts.length), ...texts.map(text));
// Encoding of empty parameters: a count of 0.
const NO_PARAMETERS = varint(0);
const message = (...fields) => sized(concat(...fields));

// Reads the fields of a message body in order. Throws if the body ends early.
class Fields {
  #bytes;
  constructor(bytes) {
    this.#bytes = bytes;
  }
  take(size) {
    if (size > this.#bytes.length) throw new Error("The server sent a truncated message.");
    const taken = this.#bytes.subarray(0, size);
    this.#bytes = this.#bytes.subarray(size);
    return taken;
  }
  number() {
    const [first] = this.take(1);
    return this.take((1 << (first >> 6)) - 1).reduce((value, byte) => value * 256 + byte, first & 0x3f);
  }
  text() {
    return new TextDecoder().decode(this.take(this.number()));
  }
  texts() {
    const texts = [];
    for (let left = this.number(); left > 0; left -= 1) texts.push(this.text());
    return texts;
  }
}

// Splits a stream into length-prefixed messages and frames.
class MessageReader {
  #reader;
  #bytes = new Uint8Array();
  constructor(readable) {
    this.#reader = readable.getReader();
  }
  // Returns the next `size` bytes, or `null` if the stream ends before the first of them.
  async take(size) {
    const chunks = [this.#bytes];
    for (let have = this.#bytes.length; have < size; ) {
      const { value, done } = await this.#reader.read();
      if (done && have === 0) return null;
      if (done) throw new Error("The server ended a stream within a message.");
      chunks.push(value);
      have += value.length;
    }
    const bytes = concat(...chunks);
    this.#bytes = bytes.subarray(size);
    return bytes.subarray(0, size);
  }
  async message() {
    const first = await this.take(1);
    if (!first) return null;
    const more = await this.take((1 << (first[0] >> 6)) - 1);
    const size = new Fields(concat(first, more ?? [])).number();
    if (size > MAX_MESSAGE_BYTES) throw new Error("The server sent a message that is too long.");
    const body = await this.take(size);
    if (!body) throw new Error("The server ended a stream within a message.");
    return body;
  }
}

// ---- The versions

// A version of gomoqt. The setup message contains its code. A track is a list of parts after the prefix of the server.
function gomoqt202502(prefix) {
  const path = [...prefix, "text"];
  return {
    code: 0xffffff00,
    announceRequest: message(array(prefix), NO_PARAMETERS),
    announcement: message(ANNOUNCED, array(path), NO_PARAMETERS),
    isAnnounced: (fields) => fields.number() === ANNOUNCED && fields.texts().join("\0") === path.join("\0"),
    // Default priority, group order, first and last group.
    subscribe: message(varint(SUBSCRIBE_ID), array(path), 0, 0, 0, 0, NO_PARAMETERS),
    // Priority, latest group, group order.
    subscribeOk: message(0, 0, 0),
    isAccepted: async (replies) => (await replies.message()) !== null,
  };
}

// A version of moq-lite. The WebTransport session selects the version, so there is no setup message. A track is a name in a
// broadcast. `hop` identifies this page in announcements.
function moqLite(protocol, hasHopIds) {
  const hop = Math.floor(Math.random() * Number.MAX_SAFE_INTEGER) + 1;
  const broadcast = "demo.echo";
  return {
    protocol,
    announceRequest: message(text("/"), ...(hasHopIds ? [0] : [])),
    // The rest of the path after the prefix, and one hop.
    announcement: message(ANNOUNCED, text(broadcast), 1, ...(hasHopIds ? [varint(hop)] : [])),
    isAnnounced: (fields) => fields.number() === ANNOUNCED && fields.text().replace(/^\/+|\/+$/g, "") === broadcast,
    // Default priority and group order, the maximum latency, no first and no last group.
    subscribe: message(varint(SUBSCRIBE_ID), text(`/${broadcast}`), text("text"), 0, 0, varint(MAX_LATENCY_MS), 0, 0),
    // The type of the reply, and the same fields.
    subscribeOk: concat(SUBSCRIBE_OK, message(0, 0, 0, 0, 0)),
    isAccepted: async (replies) => (await replies.take(1))?.[0] === SUBSCRIBE_OK && (await replies.message()) !== null,
  };
}

// The supported versions by name. Each value is a function of the prefix of gomoqt-2025-02.
const VERSIONS = {
  "gomoqt-2025-02": gomoqt202502,
  "moq-lite-04": () => moqLite("moq-lite-04", true),
  "moq-lite-03": () => moqLite("moq-lite-03", false),
};

// ---- A session

// One session. Calls `onFrame(sequence, frame, at)` for each frame that returns.
class Session {
  #transport;
  #version;
  #onFrame;
  // Subscribe ID of the server's subscription to our track.
  #peerSubscribeId = null;
  #subscribed = Promise.withResolvers();

  // `hashes` pin the server certificate; if empty, the browser verifies it with its own CAs. `version` is a value from VERSIONS.
  constructor(url, hashes, version, onFrame) {
    const options = version.protocol ? { protocols: [version.protocol] } : {};
    if (hashes.length) options.serverCertificateHashes = hashes;
    this.#transport = new WebTransport(url, options);
    this.#version = version;
    this.#onFrame = onFrame;
  }

  // Resolves with a close code and reason, or rejects with an error.
  get closed() {
    return this.#transport.closed;
  }

  // Sets up the session and subscriptions. Closes the session on failure or timeout.
  async open() {
    const timeout = Promise.withResolvers();
    const timer = setTimeout(() => timeout.reject(new Error("The setup timed out after 5 s.")), SETUP_TIMEOUT_MS);
    const closed = this.closed.then(({ reason }) => {
      throw new Error(`The server closed the session: ${reason}.`);
    });
    try {
      await Promise.race([this.#open(), timeout.promise, closed]);
    } catch (error) {
      this.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async #open() {
    await this.#transport.ready;
    const { code, protocol } = this.#version;
    if (code) await this.#setUp(code);
    if (protocol && !("protocol" in this.#transport)) throw new Error("This browser cannot offer a WebTransport protocol. Choose gomoqt-2025-02.");
    if (protocol && this.#transport.protocol !== protocol) throw new Error(`The server did not select ${protocol}.`);
    this.#acceptStreams(this.#transport.incomingBidirectionalStreams, (stream) => this.#handleRequest(stream));
    this.#acceptStreams(this.#transport.incomingUnidirectionalStreams, (stream) => this.#receiveGroup(stream));
    await Promise.all([this.#subscribe(), this.#subscribed.promise]);
  }

  // Offers the version with this code in a setup message.
  async #setUp(code) {
    const setup = await this.#openStream(STREAM.session, message(varint(1), varint(code), NO_PARAMETERS));
    const reply = await setup.message();
    if (!reply) throw new Error("The server ended the setup without a reply.");
    const selected = new Fields(reply).number();
    if (selected !== code) throw new Error(`The server chose version 0x${selected.toString(16)}, which this page does not support.`);
  }

  // Opens a stream of this type and writes the first message.
  async #openStream(type, message) {
    const { readable, writable } = await this.#transport.createBidirectionalStream();
    writable.getWriter().write(concat(type, message)).catch(() => {});
    return new MessageReader(readable);
  }

  // Passes each incoming stream to `handle`. An error ends that stream only.
  async #acceptStreams(streams, handle) {
    const reader = streams.getReader();
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        handle(value).catch((error) => console.debug(error));
      }
    } catch {
      // The session has ended: `closed` has the reason.
    }
  }

  async #subscribe() {
    const announcements = await this.#openStream(STREAM.announce, this.#version.announceRequest);
    for (let isAnnounced = false; !isAnnounced; ) {
      const body = await announcements.message();
      if (!body) throw new Error("The server does not announce the echo.");
      isAnnounced = this.#version.isAnnounced(new Fields(body));
    }
    const subscription = await this.#openStream(STREAM.subscribe, this.#version.subscribe);
    if (!(await this.#version.isAccepted(subscription))) throw new Error("The server does not accept the subscription.");
  }

  // Handles an announcement request or subscription from the server.
  async #handleRequest({ readable, writable }) {
    const writer = writable.getWriter();
    const reader = new MessageReader(readable);
    const type = (await reader.take(1))?.[0];
    const body = await reader.message();
    if (type === STREAM.announce) {
      await writer.write(this.#version.announcement);
    } else if (type === STREAM.subscribe && body) {
      this.#peerSubscribeId = new Fields(body).number();
      await writer.write(this.#version.subscribeOk);
      this.#subscribed.resolve();
    }
  }

  // Receives a group and reports its frames.
  async #receiveGroup(readable) {
    const reader = new MessageReader(readable);
    const type = (await reader.take(1))?.[0];
    const body = await reader.message();
    if (type !== STREAM.group || !body) return;
    const fields = new Fields(body);
    if (fields.number() !== SUBSCRIBE_ID) return;
    const sequence = fields.number();
    for (let frame = await reader.message(); frame; frame = await reader.message()) this.#onFrame(sequence, frame, performance.now());
  }

  // Sends a group of one frame and returns the time when the frame was passed to the browser. The echo arrives in a later
  // task, so `onFrame` is never called before this function returns.
  async send(sequence, frame) {
    const group = message(varint(this.#peerSubscribeId), varint(sequence));
    const writer = (await this.#transport.createUnidirectionalStream()).getWriter();
    const at = performance.now();
    const written = writer.write(concat(STREAM.group, group, sized(frame)));
    written.then(() => writer.close()).catch(() => {});
    return at;
  }

  close() {
    try {
      this.#transport.close({ closeCode: 0, reason: "page closed" });
    } catch {
      // The session is not open.
    }
  }
}
