"use strict";
// MOQT as docs/moqt.md has it, version 0xffffff00, over WebTransport: a track is announced and served, and its echo subscribed to.

const VERSION = 0xffffff00;
const STREAM = { session: 0, announce: 1, subscribe: 2, group: 0 };
const ANNOUNCED = 1;
// Our number of our one subscription.
const SUBSCRIPTION = 0;
// No message and no frame is longer, in bytes.
const LONGEST = 1 << 20;
// The server has so long to do its part, in milliseconds.
const SETUP_MS = 5000;

// ---- Integers, strings, messages

// An integer of QUIC's (RFC 9000, section 16), in as few bytes as hold it.
function varint(value) {
  const size = value < 2 ** 6 ? 1 : value < 2 ** 14 ? 2 : value < 2 ** 30 ? 4 : 8;
  const bytes = new Uint8Array(size);
  for (let index = size - 1, rest = value; index >= 0; index -= 1, rest = Math.floor(rest / 256)) bytes[index] = rest % 256;
  bytes[0] |= Math.log2(size) << 6;
  return bytes;
}

// Arrays of bytes and single bytes, one after the other.
function joined(...parts) {
  const arrays = parts.map((part) => (typeof part === "number" ? [part] : part));
  const bytes = new Uint8Array(arrays.reduce((size, array) => size + array.length, 0));
  let at = 0;
  for (const array of arrays) {
    bytes.set(array, at);
    at += array.length;
  }
  return bytes;
}

const sized = (bytes) => joined(varint(bytes.length), bytes);
const array = (texts) => joined(varint(texts.length), ...texts.map((text) => sized(new TextEncoder().encode(text))));
// Parameters that are none: a count of 0.
const NONE = varint(0);
const message = (...fields) => sized(joined(...fields));

// The fields of a message's body, one after the other. What is missing at its end is an error.
class Fields {
  #bytes;
  constructor(bytes) {
    this.#bytes = bytes;
  }
  take(size) {
    if (size > this.#bytes.length) throw new Error("The server sent a message that ends too early.");
    const taken = this.#bytes.subarray(0, size);
    this.#bytes = this.#bytes.subarray(size);
    return taken;
  }
  number() {
    const [first] = this.take(1);
    return this.take((1 << (first >> 6)) - 1).reduce((value, byte) => value * 256 + byte, first & 0x3f);
  }
  texts() {
    const texts = [];
    for (let left = this.number(); left > 0; left -= 1) texts.push(new TextDecoder().decode(this.take(this.number())));
    return texts;
  }
}

// What comes on a stream, in pieces with a length before them.
class Pieces {
  #reader;
  #bytes = new Uint8Array();
  constructor(readable) {
    this.#reader = readable.getReader();
  }
  // The next `size` bytes; `null` where the stream ends before the first of them.
  async take(size) {
    const chunks = [this.#bytes];
    for (let have = this.#bytes.length; have < size; ) {
      const { value, done } = await this.#reader.read();
      if (done && have === 0) return null;
      if (done) throw new Error("The server ended a stream within a message.");
      chunks.push(value);
      have += value.length;
    }
    const bytes = joined(...chunks);
    this.#bytes = bytes.subarray(size);
    return bytes.subarray(0, size);
  }
  async piece() {
    const first = await this.take(1);
    if (!first) return null;
    const more = await this.take((1 << (first[0] >> 6)) - 1);
    const size = new Fields(joined(first, more ?? [])).number();
    if (size > LONGEST) throw new Error("The server sent a message that is too long.");
    const piece = await this.take(size);
    if (!piece) throw new Error("The server ended a stream within a message.");
    return piece;
  }
}

// ---- A session

// One session: what is sent as a group is served to the server, and `onFrame(sequence, frame, at)` is told what comes back.
class Session {
  #transport;
  #path;
  #prefix;
  #onFrame;
  // The server's number of its subscription to our track.
  #listener = null;
  #isServed = Promise.withResolvers();

  // `hashes` are of certificates that are trusted; without any the browser's own authorities are. `prefix` is what the server asks for.
  constructor(url, hashes, prefix, onFrame) {
    this.#transport = new WebTransport(url, hashes.length ? { serverCertificateHashes: hashes } : {});
    this.#prefix = prefix;
    this.#path = [...prefix, "text"];
    this.#onFrame = onFrame;
  }

  // Settled when it is over: with a code and a reason, or with an error.
  get closed() {
    return this.#transport.closed;
  }

  // Sets all up; within its time, or it is closed.
  async open() {
    const late = Promise.withResolvers();
    const timer = setTimeout(() => late.reject(new Error("The server does not do its part within 5 s.")), SETUP_MS);
    const ended = this.closed.then(({ reason }) => {
      throw new Error(`The server closed the session: ${reason}.`);
    });
    try {
      await Promise.race([this.#open(), late.promise, ended]);
    } catch (error) {
      this.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async #open() {
    await this.#transport.ready;
    const offer = joined(varint(1), varint(VERSION), NONE);
    const setup = await this.#ask(STREAM.session, sized(offer));
    const reply = await setup.piece();
    if (!reply) throw new Error("The server ended the set-up without an answer.");
    const version = new Fields(reply).number();
    if (version !== VERSION) throw new Error(`The server chose version 0x${version.toString(16)}, which this page does not speak.`);
    this.#take(this.#transport.incomingBidirectionalStreams, (stream) => this.#answer(stream));
    this.#take(this.#transport.incomingUnidirectionalStreams, (stream) => this.#hear(stream));
    await Promise.all([this.#subscribe(), this.#isServed.promise]);
  }

  // Opens a stream of this type and says this on it.
  async #ask(type, said) {
    const { readable, writable } = await this.#transport.createBidirectionalStream();
    writable.getWriter().write(joined(type, said)).catch(() => {});
    return new Pieces(readable);
  }

  // Hands each stream that comes to `serve`. What goes wrong on one of them ends that one alone.
  async #take(streams, serve) {
    const reader = streams.getReader();
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        serve(value).catch((error) => console.debug(error));
      }
    } catch {
      // The session is over: `closed` tells why.
    }
  }

  async #subscribe() {
    const announcements = await this.#ask(STREAM.announce, message(array(this.#prefix), NONE));
    for (let isThere = false; !isThere; ) {
      const body = await announcements.piece();
      if (!body) throw new Error("The server announces no echo.");
      const fields = new Fields(body);
      isThere = fields.number() === ANNOUNCED && fields.texts().join("\0") === this.#path.join("\0");
    }
    // Priority, order, first and last group: no wish.
    const wanted = joined(varint(SUBSCRIPTION), array(this.#path), 0, 0, 0, 0, NONE);
    const subscription = await this.#ask(STREAM.subscribe, sized(wanted));
    if (!(await subscription.piece())) throw new Error("The server does not agree to a subscription.");
  }

  // The server asks what there is, or for it.
  async #answer({ readable, writable }) {
    const writer = writable.getWriter();
    const pieces = new Pieces(readable);
    const type = (await pieces.take(1))?.[0];
    const body = await pieces.piece();
    if (type === STREAM.announce) {
      await writer.write(message(ANNOUNCED, array(this.#path), NONE));
    } else if (type === STREAM.subscribe && body) {
      this.#listener = new Fields(body).number();
      // Priority, newest group, order.
      await writer.write(message(0, 0, 0));
      this.#isServed.resolve();
    }
  }

  // A group comes: each frame is told as it does.
  async #hear(readable) {
    const pieces = new Pieces(readable);
    const type = (await pieces.take(1))?.[0];
    const body = await pieces.piece();
    if (type !== STREAM.group || !body) return;
    const fields = new Fields(body);
    if (fields.number() !== SUBSCRIPTION) return;
    const sequence = fields.number();
    for (let frame = await pieces.piece(); frame; frame = await pieces.piece()) this.#onFrame(sequence, frame, performance.now());
  }

  // Sends a group of one frame, and says when it was handed to the browser. No echo is told before that is said: it comes in a
  // later task.
  async send(sequence, frame) {
    const group = message(varint(this.#listener), varint(sequence));
    const writer = (await this.#transport.createUnidirectionalStream()).getWriter();
    const at = performance.now();
    const written = writer.write(joined(STREAM.group, group, sized(frame)));
    written.then(() => writer.close()).catch(() => {});
    return at;
  }

  close() {
    try {
      this.#transport.close({ closeCode: 0, reason: "the page is done" });
    } catch {
      // It is not open, or not any more.
    }
  }
}
