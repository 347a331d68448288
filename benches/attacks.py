#!/usr/bin/env python3
"""Attacks `jamjam-dev signaling-server` and `echo-server` over loopback. Checks memory, and a moderate client beside the attacker.

    cargo build --release
    python3 benches/attacks.py [--attack NAME ...] [--seconds 10] [--memory-budget MIB] [--program FILE] [--list]

Requires Linux and Python's standard library (attacks `tls`: also `openssl`). A group such as `--attack sync` runs all its variants. Each
attack has a new server, with default options except those in `ATTACKS`. Simulated addresses are entries in `X-Forwarded-For`
(`--trust-proxy`) or loopback addresses. First the moderate client runs alone for `--seconds`. Then the attackers prepare, attack for
`--seconds`, and leave at once. Prints one line of JSON per attack:

peak_rss_mib, peak_hwm_mib   largest VmRSS of the server, read every 50 ms, and its VmHWM, which also contains shorter peaks
peak_kernel_tcp_mib          largest growth of the kernel's memory for TCP sockets, on both ends. VmRSS does not contain it. Above the
                             second number in /proc/sys/net/ipv4/tcp_mem (pages), the kernel drops segments of all clients
rss_after_mib                VmRSS 5 s after all attackers left
budget_mib, within_budget    `--memory-budget`; whether both peaks are at most 64 MiB above it
client_before, client_during, client_setup
                             the moderate client alone, during the attack, and while the attackers prepare. `requests`: chat messages
                             from one member of a jamjam room to the other, 50 per second. `failures`: messages that did not arrive within
                             5 s. `p50_ms`, `p99_ms`, `max_ms`: time until the other member has received the message. With UDP,
                             requests are 524-byte AUDIO packets, 375 per second, and the times do not include the server's delay
client_survived              whether the connections of the moderate client stayed open
client_retransmissions       TCP segments that the sending member sent again. If there are any, the kernel of this machine caused delays
newcomers                    two new clients per second during setup and attack, each from a new address, which connect and create a
                             room: requests, failures (no room within 5 s), p50 and maximum
server_cpu, server_waited    CPU time of the server, and time for which it waited for its processor, per second of the attack
other_cpus                   cores used by all processes except server, attackers and client; above 0.3, times are unreliable
log_bytes_per_s              bytes per second that the server wrote to its log during the attack
charged_mib, refused, closed_for_memory, messages_postponed, charged_after_mib
                             from /metrics at the end of the attack: memory that the budget counts, refused charges, connections closed
                             for memory, messages read later; and the counted memory at the time of `rss_after_mib`
dropped                      all counters of dropped messages and packets in /metrics that are not 0
attack_figures               what the attackers achieved; `_per_s` is per second of the attack
findings                     p99 above 2 x p99 before + 2 ms, failures of the client or newcomers: worth a look, but not an error
violations                   broken bounds: memory, server exited, a panic in the log, client disconnected, failed check of the attack

The exit code is 1 if there are violations. The server runs on the first processor. Attackers and clients share the last processor. As
root, the server and the moderate client have real-time priority, but not the attackers. What remains in the times of the client: a
wake-up that waits for a system call of an attacker, the kernel's network threads, and Python's own time (about 0.1 ms). The attackers are
limited by Python and one processor. Attackers written in another language send more. Compare times only with `client_before` of the same
line.
"""

import argparse
import base64
import collections
import hashlib
import hmac
import http.client
import itertools
import json
import multiprocessing
import os
import pathlib
import re
import resource
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

PROGRAM = pathlib.Path(__file__).resolve().parent.parent / "target" / "release" / "jamjam-dev"
TIMEOUT = 20  # seconds for any single step
CLIENT_TIMEOUT = 5  # seconds after which a request of the moderate client has failed
OVERHEAD_MIB = 64  # memory of the process itself and of the allocator
AFTER = 5  # seconds between the end of the attack and the last reading of memory
SECRET, PASSWORD = "attack-secret", "attack-password"
CONTROL = "\\u0001"  # one byte of a name, six bytes in JSON
LISTS = "[[[[0]]]],"  # five values in JSON
SENT_AT = re.compile(rb'"timestamp":(\d{9,})\}')  # a chat message whose timestamp is its time of sending
LOGIN = {"Authorization": "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()}
CLIENT_ADDRESS = "127.0.2.1"
UDP_DELAY = 3.0
FORK = multiprocessing.get_context("fork")


def frame(text):
    """A text frame with an all-zero mask."""
    data = text.encode() if isinstance(text, str) else text
    if len(data) < 126:
        length = bytes([0x80 | len(data)])
    elif len(data) < 1 << 16:
        length = b"\xfe" + struct.pack(">H", len(data))
    else:
        length = b"\xff" + struct.pack(">Q", len(data))
    return b"\x81" + length + bytes(4) + data


def message(message_type, **data):
    """A frame of the jamjam dialect."""
    return frame(json.dumps({"type": message_type, "data": data}))


def upgrade(path="/", forwarded=None):
    """An upgrade request, from a simulated address if `forwarded` is given."""
    header = f"X-Forwarded-For: {forwarded}\r\n" if forwarded else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{header}"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def address(number):
    """A simulated address in its own /64."""
    return f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1"


def token(room, client="attacker"):
    """A token for a broadcast room."""
    claims = {"clientId": client, "room": room, "expiresAt": 4_000_000_000_000, "metadata": {}, "issuedAt": 0}
    encode = lambda data: base64.urlsafe_b64encode(data).decode().rstrip("=")
    payload = encode(json.dumps(claims).encode())
    return payload + "." + encode(hmac.new(SECRET.encode(), payload.encode(), hashlib.sha256).digest())


# --- The moderate client ---------------------------------------------------------------------------------------------------------------


class WebSocket:
    """A blocking WebSocket client."""

    def __init__(self, port, tls, source=CLIENT_ADDRESS, forwarded=None):
        self.socket = socket.create_connection(("127.0.0.1", port), CLIENT_TIMEOUT, (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.socket = context.wrap_socket(self.socket)
        self.received = b""
        self.socket.sendall(upgrade(forwarded=forwarded))
        while b"\r\n\r\n" not in self.received:
            self.receive()
        head, self.received = self.received.split(b"\r\n\r\n", 1)
        if not head.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(head.split(b"\r\n")[0].decode())

    def receive(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server closed the connection")
        self.received += data

    def payloads(self):
        """Payloads of all complete messages received so far. Answers pings."""
        payloads, offset = [], 0
        while len(self.received) - offset >= 2:
            length, start = self.received[offset + 1], offset + 2
            if length == 126:
                if len(self.received) < offset + 4:
                    break
                (length,), start = struct.unpack_from(">H", self.received, offset + 2), offset + 4
            if len(self.received) < start + length:
                break
            if self.received[offset] == 0x88:
                raise ConnectionError("the server sent a close frame")
            payload = self.received[start : start + length]
            if self.received[offset] == 0x89:
                self.socket.sendall(b"\x8a" + bytes([0x80 | length]) + bytes(4) + payload)
            else:
                payloads.append(payload)
            offset = start + length
        self.received = self.received[offset:]
        return payloads

    def wait_for(self, message_type):
        """Data of the next message of this type."""
        while True:
            for payload in self.payloads():
                received = json.loads(payload)
                if received["type"] == message_type:
                    return received["data"]
            self.receive()


def newcomers(port, tls, results, stop):
    """Twice a second, a new client from a new address creates a room."""
    for number in itertools.count():
        began = time.monotonic()
        try:
            source, forwarded = f"127.0.3.{number % 250 + 1}", f"192.0.2.{number % 250 + 1}"
            client = WebSocket(port, tls, source, forwarded)
            client.socket.sendall(message("CreateRoom", room_name="new", password=None, peer_name="new"))
            client.wait_for("RoomCreated")
            client.socket.close()
            results.append((began, time.monotonic() - began))
        except OSError:
            results.append((began, None))
        if stop.wait(max(0.0, began + 0.5 - time.monotonic())):
            return


def chat_client(port, tls, pipe):
    """Two members of a jamjam room. Reports (time of sending, seconds until received or None) for each message."""
    first, second = (WebSocket(port, tls, forwarded=f"203.0.113.{host}") for host in (1, 2))
    first.socket.sendall(message("CreateRoom", room_name="moderate", password=None, peer_name="first"))
    room = first.wait_for("RoomCreated")["room_id"]
    second.socket.sendall(message("JoinRoom", room_id=room, password=None, peer_name="second"))
    second.wait_for("RoomJoined")
    first.wait_for("PeerJoined")
    others, stop = [], threading.Event()
    thread = threading.Thread(target=newcomers, args=(port, tls, others, stop))
    thread.start()
    pipe.send("ready")
    for client in (first, second):
        client.socket.setblocking(False)
    sent, delays, survived = [], {}, True
    due, end = time.monotonic(), None
    while end is None or (time.monotonic() < end and len(delays) < len(sent)):
        now = time.monotonic()
        if end is None and pipe.poll():
            end = now + CLIENT_TIMEOUT
        if not survived:
            time.sleep(0.02)
            sent += [time.monotonic()] if end is None else []  # counts as a failure
            continue
        try:
            if end is None and now >= due:
                chat = message("ChatMessage", sender_id="", sender_name="", content="x" * 64, timestamp=len(sent))
                sent.append(time.monotonic())
                due += 1 / 50
                first.socket.send(chat)
            wait = max(0.0, due - time.monotonic()) if end is None else 0.1
            if not select.select([first.socket, second.socket], [], [], wait)[0]:
                continue
            arrived = time.monotonic()
            for client in (first, second):
                try:
                    while True:
                        client.receive()
                except (BlockingIOError, ssl.SSLWantReadError):
                    pass
            for payload in second.payloads():
                received = json.loads(payload)
                if received["type"] == "ChatMessage":
                    number = received["data"]["timestamp"]
                    delays[number] = arrived - sent[number]
            first.payloads()
        except OSError:
            survived = False
    stop.set()
    thread.join()
    info = first.socket.getsockopt(socket.SOL_TCP, socket.TCP_INFO, 104)
    (retransmissions,) = struct.unpack_from("=I", info, 100)  # tcpi_total_retrans
    in_time = ((at, delays.get(number)) for number, at in enumerate(sent))
    requests = [(at, delay if delay is not None and delay <= CLIENT_TIMEOUT else None) for at, delay in in_time]
    pipe.send({"requests": requests, "newcomers": others, "survived": survived, "retransmissions": retransmissions})


def audio(sequence, length):
    """An AUDIO packet with 128 samples per packet."""
    header = struct.pack(">BBIIH", 1, 1, sequence & 0xFFFFFFFF, 128 * sequence & 0xFFFFFFFF, 0)
    return header + bytes(length - len(header))


def udp_client(port, _, pipe):
    """Sends 375 AUDIO packets per second and expects each to come back after the delay."""
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.bind((CLIENT_ADDRESS, 0))
    client.connect(("127.0.0.1", port))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    client.setblocking(False)
    pipe.send("ready")
    sent, delays = [], {}
    due, end = time.monotonic(), None
    while end is None or (time.monotonic() < end and len(delays) < len(sent)):
        if end is None and pipe.poll():
            end = time.monotonic() + UDP_DELAY + CLIENT_TIMEOUT
        while end is None and time.monotonic() >= due:
            sent.append(time.monotonic())
            try:
                client.send(audio(len(sent) - 1, 524))
            except OSError:
                pass
            due += 1 / 375
        wait = max(0.0, due - time.monotonic()) if end is None else 0.1
        if select.select([client], [], [], wait)[0]:
            arrived = time.monotonic()
            try:
                while True:
                    (sequence,) = struct.unpack_from(">I", client.recv(2048), 2)
                    delays[sequence] = arrived - sent[sequence] - UDP_DELAY
            except OSError:
                pass
    requests = [(at, delays.get(number)) for number, at in enumerate(sent)]
    pipe.send({"requests": requests, "newcomers": [], "survived": True})


# --- Attackers -------------------------------------------------------------------------------------------------------------------------


class Connection:
    """A non-blocking connection of an attacker."""

    def __init__(self, swarm, requests, reads, on_data, on_close, source, receive_buffer):
        self.swarm, self.reads, self.on_data, self.on_close = swarm, reads, on_data, on_close
        self.output = collections.deque(requests)
        self.offset = self.received = self.counted = 0
        self.tail, self.is_upgraded = b"", False
        self.socket = socket.socket()
        self.socket.setblocking(False)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            self.socket.setsockopt(socket.SOL_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            self.socket.bind((source, 0))
        self.socket.connect_ex(("127.0.0.1", swarm.port))
        self.is_connecting, self.wanted = True, None

    def write(self, data):
        self.output.append(data)
        if not self.is_connecting:
            self.flush()

    def flush(self):
        """Sends as much as possible."""
        try:
            while self.output:
                data = memoryview(self.output[0])
                sent = self.socket.send(data[self.offset : self.offset + (1 << 18)])
                self.offset += sent
                self.swarm.sent_bytes += sent
                if self.offset == len(data):
                    self.output.popleft()
                    self.offset = 0
        except BlockingIOError:
            pass
        except OSError:
            return self.swarm.close(self)
        self.swarm.watch(self)

    def count(self, pattern, data):
        """Occurrences of `pattern` in the received data, also across reads."""
        data = self.tail + data
        self.tail = data[-(len(pattern) - 1) :]
        found = data.count(pattern)
        self.counted += found
        return found

    def close_after(self, answers):
        """Closes the connection if it has counted that many answers, or was rejected."""
        if self.counted >= answers or not self.is_upgraded:
            self.swarm.close(self, reset=True)


class Swarm:
    """All connections of the attackers, in one event loop."""

    def __init__(self, port):
        self.port, self.epoll, self.connections = port, select.epoll(), {}
        self.sent_bytes = self.connecting = 0
        self.upgraded = self.rejected = 0  # first answers
        self.closed = 0  # connections that were closed without an answer
        self.answered = 0

    def open(self, *requests, reads=True, on_data=None, on_close=None, source=None, receive_buffer=None):
        connection = Connection(self, requests, reads, on_data, on_close, source, receive_buffer)
        self.connecting += 1
        connection.wanted = select.EPOLLOUT
        self.epoll.register(connection.socket, select.EPOLLOUT)
        self.connections[connection.socket.fileno()] = connection
        return connection

    def watch(self, connection):
        wanted = select.EPOLLRDHUP | (select.EPOLLIN if connection.reads else 0) | (select.EPOLLOUT if connection.output else 0)
        if wanted != connection.wanted and connection.socket.fileno() >= 0:
            connection.wanted = wanted
            self.epoll.modify(connection.socket, wanted)

    def close(self, connection, reset=False):
        if self.connections.pop(connection.socket.fileno(), None) is None:
            return
        self.connecting -= connection.is_connecting
        if reset:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.socket.close()
        self.closed += not connection.received
        if connection.on_close:
            connection.on_close(connection)

    def step(self, wait=0.01):
        for fd, events in self.epoll.poll(wait, 256):
            connection = self.connections.get(fd)
            if connection is None:
                continue
            if connection.is_connecting:
                connection.is_connecting = False
                self.connecting -= 1
            if events & select.EPOLLIN and connection.reads:
                self.receive(connection)
            elif events & (select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR):
                self.close(connection)
            if events & select.EPOLLOUT and connection.socket.fileno() >= 0:
                connection.flush()

    def receive(self, connection):
        try:
            data = connection.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            return self.close(connection)
        if not connection.received:
            connection.is_upgraded = data.startswith(b"HTTP/1.1 101")
            self.upgraded += connection.is_upgraded
            self.rejected += not connection.is_upgraded
            self.answered += 1
        connection.received += len(data)
        if connection.on_data:
            connection.on_data(connection, data)

    def run(self, seconds, until=lambda: False, each=lambda: None):
        """Runs until `until` is true, at most `seconds`. Returns whether it became true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if until():
                return True
            each()
            self.step()
        return until()

    def open_all(self, count, open_one, is_answered=True):
        """Opens connections, at most 200 at once. With `is_answered`, the server answers each of them."""
        opened, done = [], self.closed + self.answered
        waiting = lambda: len(opened) - (self.closed + self.answered - done) if is_answered else self.connecting
        end = time.monotonic() + 2 * TIMEOUT
        while time.monotonic() < end and (len(opened) < count or waiting() > 0):
            while len(opened) < count and waiting() < 200:
                opened.append(open_one(len(opened)))
            self.step()
        return opened


class Pace:
    """Permits `rate` events per second after a burst."""

    def __init__(self, rate, burst=1):
        self.rate, self.burst, self.began, self.used = rate, burst, time.monotonic(), 0

    def take(self, most=1 << 30):
        due = int(self.burst + (time.monotonic() - self.began) * self.rate) - self.used
        taken = max(0, min(due, most))
        self.used += taken
        return taken


class Attack:
    """What an attack function gets."""

    def __init__(self, port, seconds, pipe):
        self.port, self.seconds, self.pipe, self.swarm = port, seconds, pipe, Swarm(port)

    def ready(self):
        """Ends the preparation."""
        self.pipe.send("ready")

    def run(self, each=lambda: None):
        began = time.monotonic()
        self.swarm.run(self.seconds, each=each)
        return time.monotonic() - began

    def metric(self, name, dialect):
        return metrics(self.port).get(f'jamjam_signaling_{name}{{dialect="{dialect}"}}', 0)

    def command(self, path, body):
        """Sends a command that needs the login."""
        status, text = http_request(self.port, "POST", path, json.dumps(body))
        if status not in (200, 201):
            sys.exit(f"{path}: {status} {text}")
        return json.loads(text)


def http_request(port, method, path, body=None, tls=False):
    headers = {**LOGIN, "Content-Type": "application/json"}
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT, source_address=(CLIENT_ADDRESS, 0), context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT, source_address=(CLIENT_ADDRESS, 0))
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    status, text = response.status, response.read().decode()
    connection.close()
    return status, text


def health(attack, count):
    """WebRTC members with long names, and connections that request the lists and never read."""
    swarm, name = attack.swarm, "%01" * 256
    swarm.open_all(3000, lambda n: swarm.open(upgrade(f"/?roomId=r{n // 10}&userId=u{n}&userName={name}", address(n // 100))))
    members = swarm.upgraded
    attack.ready()
    requests = b"".join(f"GET /{page} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for page in ("health", "rooms")) * 20
    pace, stalled, opened = Pace(max(200.0, count / attack.seconds * 2)), collections.deque(), 0

    def each():
        nonlocal opened
        for _ in range(pace.take(20)):
            stalled.append(swarm.open(requests, reads=False, receive_buffer=2048))
            opened += 1
            if len(stalled) > count:
                swarm.close(stalled.popleft(), reset=True)

    seconds = attack.run(each)
    return {"members": members, "stalled_connections": len(stalled), "connections_per_s": round(opened / seconds)}


def churn(attack, many):
    """Opens and closes WebSockets as fast as possible."""
    swarm, opened, numbers = attack.swarm, 0, itertools.count(1)

    def close(connection, _):
        swarm.close(connection, reset=True)

    def each():
        nonlocal opened
        while len(swarm.connections) < 64:
            number = next(numbers) if many else 1
            swarm.open(upgrade(forwarded=address(number)), on_data=close)
            opened += 1

    attack.ready()
    seconds = attack.run(each)
    figures = {"upgraded_per_s": round(swarm.upgraded / seconds), "rejected_per_s": round(swarm.rejected / seconds)}
    return {"connections_per_s": round(opened / seconds), **figures}


def parameter(number):
    """A `param` message with a name of 256 bytes."""
    return frame(f'{{"type":"param","param":"{number:0256}","value":0.5}}')


def join(code):
    return frame(json.dumps({"type": "join", "room_code": code, "client_name": "x"}))


def create_bbx_room(attack):
    return attack.command("/admin/bbx/rooms", {})["code"]


def new_parameter_accepted(attack, code, from_address):
    """Whether a member at a new address can set a new parameter: the address of `other` is in the state that it then gets."""
    answers = bytearray()
    sync, param = frame('{"type":"sync"}'), frame('{"type":"param","param":"other","value":0.25}')
    attack.swarm.open(upgrade(forwarded=from_address), join(code), param, sync, on_data=lambda _, data: answers.extend(data))
    attack.swarm.run(TIMEOUT, lambda: b'"name":"other"' in answers or b'"error"' in answers)
    return b'"name":"other"' in answers


def parameters(attack, addresses):
    """Control surfaces set 10,000 new parameters with long names, then a member at another address sets one."""
    code, rejected = create_bbx_room(attack), 0

    def on_data(connection, data):
        nonlocal rejected
        rejected += connection.count(b"TOO_MANY_PARAMETERS", data)

    members = [attack.swarm.open(upgrade(forwarded=address(n)), join(code), on_data=on_data) for n in range(addresses)]
    attack.swarm.run(1, lambda: attack.swarm.upgraded == addresses)
    attack.ready()
    paces, numbers = [Pace(940, 1800) for _ in members], iter(range(10_000))

    def each():
        for member, pace in zip(members, paces):
            if not member.output:
                for number in itertools.islice(numbers, pace.take(100)):
                    member.write(parameter(number))

    attack.run(each)
    sent = 10_000 - sum(1 for _ in numbers)
    accepted = new_parameter_accepted(attack, code, address(5_000_000))
    figures = {"parameters_sent": sent, "rejected": rejected, "new_parameter_accepted": accepted}
    if addresses == 1 and not accepted:
        figures["failed_check"] = "a member at another address could not set a new parameter"
    return figures


def parameters_in_rooms(attack):
    """Control surfaces at 20 addresses fill 100 rooms with parameters."""
    codes = [create_bbx_room(attack) for _ in range(100)]
    rejected = sent = 0

    def on_data(connection, data):
        nonlocal rejected
        rejected += connection.count(b"TOO_MANY_PARAMETERS", data)

    def hundred(owner, part):
        return b"".join(frame(f'{{"type":"param","param":"{owner:02}{part}{k:03}{"x" * 250}","value":0.5}}') for k in range(100))

    # Each member sends 1,000 parameters to a room, then joins the next room.
    blobs = [[hundred(owner, part) for part in range(10)] for owner in range(40)]
    members = [attack.swarm.open(upgrade(forwarded=address(owner // 2)), on_data=on_data) for owner in range(40)]
    attack.swarm.run(2, lambda: attack.swarm.upgraded == 40)
    attack.ready()
    paces, progress = [Pace(9, 18) for _ in members], [0] * 40

    def each():
        nonlocal sent
        for owner, member in enumerate(members):
            if not member.output and member.socket.fileno() >= 0 and paces[owner].take(1):
                room, part = divmod(progress[owner], 10)
                progress[owner] += 1
                if part == 0:
                    member.write(join(codes[(owner * 5 // 2 + room) % 100]))
                member.write(blobs[owner][part])
                sent += 100

    attack.run(each)
    return {"parameters_sent": sent, "rejected": rejected, "connections_open": len(attack.swarm.connections)}


def create_jamjam_room(attack, create, from_address):
    """Creates a room with this message. Returns the connection of its first member, and its id."""
    answer = bytearray()
    member = attack.swarm.open(upgrade(forwarded=from_address), create, on_data=lambda _, data: answer.extend(data))
    attack.swarm.run(TIMEOUT, lambda: b"room_id" in answer)
    return member, answer.split(b'"room_id":"')[1].split(b'"')[0].decode()


def passwords(attack, many):
    """Guesses the password of a jamjam room. Each connection may guess 20 times."""
    swarm, checked, numbers, opened = attack.swarm, 0, itertools.count(1), 0
    create = message("CreateRoom", room_name="secret", password="p" * 64, peer_name="owner")
    _, room = create_jamjam_room(attack, create, address(9_000_000))
    guesses = b"".join(message("JoinRoom", room_id=room, password=f"{n:064}", peer_name="x") for n in range(20))

    def on_data(connection, data):
        nonlocal checked
        checked += connection.count(b"Invalid password", data)
        connection.close_after(20)

    def each():
        nonlocal opened
        while len(swarm.connections) < 100:
            number = next(numbers) if many else 1
            swarm.open(upgrade(forwarded=address(number)), guesses, on_data=on_data)
            opened += 1

    attack.ready()
    seconds = attack.run(each)
    return {"accepted_checks_per_s": round(checked / seconds), "connections_per_s": round(opened / seconds)}


def codes(attack):
    """Guesses codes of bbx rooms from 1,000 addresses."""
    swarm, answers, codes_sent, opened = attack.swarm, 0, itertools.count(), 0
    real = create_bbx_room(attack)

    def on_data(connection, data):
        nonlocal answers
        answers += connection.count(b"INVALID_ROOM", data)
        connection.close_after(20)

    def each():
        nonlocal opened
        while len(swarm.connections) < 100:
            guesses = (f"{code % 1_000_000:06}" for code in itertools.islice(codes_sent, 20))
            swarm.open(upgrade(forwarded=address(opened % 1000)), *(join(code) for code in guesses if code != real), on_data=on_data)
            opened += 1

    attack.ready()
    seconds = attack.run(each)
    swarm.run(5, lambda: not swarm.connections)  # the answers to the last guesses
    not_checked = attack.metric("codes_not_checked_total", "bbx")
    checks = {"accepted_checks": answers - not_checked, "accepted_checks_per_s": round((answers - not_checked) / seconds, 1)}
    return {**checks, "answers_per_s": round(answers / seconds), "codes_not_checked": not_checked}


def silent(attack, addresses):
    """2,000 connections that are upgraded and send nothing. Most of those from one address exceed the cap on its connections."""
    swarm = attack.swarm
    attack.ready()
    began = time.monotonic()
    swarm.open_all(2000, lambda n: swarm.open(upgrade(forwarded=address(n % addresses))))
    swarm.run(attack.seconds - (time.monotonic() - began))
    return {"upgraded": swarm.upgraded, "rejected": swarm.rejected, "still_open": len(swarm.connections)}


def sync(attack, addresses, count=6, changes=False):
    """Members request the largest state 60 times per second. With `changes`, a value changes between the requests, and they do not read."""
    swarm, code = attack.swarm, create_bbx_room(attack)
    fillers = [swarm.open(upgrade(forwarded=address(1000 + n)), join(code)) for n in range(5)]
    swarm.run(2, lambda: swarm.upgraded == 5)
    for n, filler in enumerate(fillers):
        filler.write(b"".join(parameter(k) for k in range(1024 * n, min(1024 * (n + 1), 4096))))
    swarm.run(TIMEOUT, lambda: not any(filler.output for filler in fillers))
    limited = received = 0

    def on_data(connection, data):
        nonlocal limited, received
        limited += connection.count(b"RATE_LIMITED", data)
        received += len(data)

    members = [
        swarm.open(upgrade(forwarded=address(n % addresses)), join(code), on_data=on_data, receive_buffer=2048 if changes else None)
        for n in range(count)
    ]
    swarm.run(2, lambda: swarm.upgraded == 5 + count)
    for member in members:
        member.reads = not changes
        swarm.watch(member)
    setter = fillers[0]
    attack.ready()
    pace, request, sent = Pace(60 * count), frame('{"type":"sync"}'), 0

    def each():
        nonlocal sent
        for _ in range(pace.take(count)):
            if changes:
                setter.write(frame(f'{{"type":"param","param":"{0:0256}","value":{sent % 100 / 100}}}'))
            member = members[sent % count]
            if member.socket.fileno() >= 0 and not member.output:
                member.write(request)
            sent += 1

    seconds = attack.run(each)
    rates = {"syncs_per_s": round(sent / seconds), "rate_limited_per_s": round(limited / seconds)}
    is_open = sum(member.socket.fileno() >= 0 for member in members)
    return {**rates, "received_mib_per_s": round(received / seconds / 2**20, 1), "members_open": is_open}


def long_passwords(attack, addresses):
    """Rooms with the longest passwords and names, and attempts with longer passwords."""
    swarm, name = attack.swarm, CONTROL * 256
    create = frame(f'{{"type":"CreateRoom","data":{{"room_name":"{name}","password":"{name}","peer_name":"{name}"}}}}')
    answers, replies = bytearray(), 0
    on_created = lambda _, data: answers.extend(data)
    swarm.open_all(300, lambda n: swarm.open(upgrade(forwarded=address(n % addresses)), create, on_data=on_created))
    swarm.run(2, lambda: answers.count(b"RoomCreated") == 300)
    rooms = [part.split(b'"')[0].decode() for part in answers.split(b'"room_id":"')[1:]]
    attack.ready()
    long, numbers = "p" * 200_000, itertools.count()
    # At 13 messages each, 150 attempts are just within the permitted burst.
    attempts = [message("CreateRoom", room_name="x", password=long, peer_name="x")] * 132
    attempts += [message("JoinRoom", room_id=room, password=long, peer_name="x") for room in rooms[:18]]
    before, sent_before = swarm.rejected, swarm.sent_bytes

    def on_data(connection, data):
        nonlocal replies
        replies += connection.count(b'"Error"', data)
        connection.close_after(150)

    def each():
        # The connections of `addresses` own the rooms; the attempts come from other addresses.
        while len(swarm.connections) < len(rooms) + 50:
            swarm.open(upgrade(forwarded=address(100_000 + next(numbers) % addresses)), *attempts, on_data=on_data)

    seconds = attack.run(each)
    sent = round((swarm.sent_bytes - sent_before) / seconds / 2**20, 1)
    return {"rooms": len(rooms), "attempts_per_s": round(replies / seconds), "sent_mib_per_s": sent, "rejected": swarm.rejected - before}


def rotate(attack, senders, text, rate, open_member, count):
    """`count` members do not read, while `senders` send `text`, `rate` times per second each. A client that does not read does not learn
    that the server closed its connection. Therefore, the oldest members are replaced by new ones, 100 per second."""
    swarm, members = attack.swarm, collections.deque(attack.swarm.open_all(count, open_member, is_answered=False))
    attack.ready()
    paces, pace = [Pace(rate, 2 * rate) for _ in senders], Pace(100)
    sent_before, numbers = swarm.sent_bytes, itertools.count(count)

    def each():
        for sender, own in zip(senders, paces):
            if not sender.output and sender.socket.fileno() >= 0 and own.take(1):
                sender.write(text)
        for _ in range(pace.take(5)):
            swarm.close(members.popleft(), reset=True)
            members.append(open_member(next(numbers)))

    seconds = attack.run(each)
    sent = round((swarm.sent_bytes - sent_before) / seconds / 2**20, 1)
    return {"sent_mib_per_s": sent, "senders_open": sum(sender.socket.fileno() >= 0 for sender in senders)}


def slow_jamjam(attack, addresses):
    """Members of jamjam rooms that never read. One more member of each room sends as much as allowed."""
    swarm, answers = attack.swarm, collections.defaultdict(bytearray)

    def on_created(connection, data):
        answers[connection].extend(data)

    create = message("CreateRoom", room_name="r", password=None, peer_name="p")
    senders = swarm.open_all(112, lambda n: swarm.open(upgrade(forwarded=address(50_000 + n)), create, on_data=on_created))
    swarm.run(3, lambda: all(b"room_id" in answers[sender] for sender in senders))
    rooms = [bytes(answers[sender]).split(b'"room_id":"')[1].split(b'"')[0].decode() for sender in senders]

    def open_member(number):
        joining = message("JoinRoom", room_id=rooms[number % 112], password=None, peer_name="slow")
        return swarm.open(upgrade(forwarded=address(number % addresses)), joining, reads=False, receive_buffer=2048)

    chat = message("ChatMessage", sender_id="", sender_name="", content="x" * 250_000, timestamp=1)
    return rotate(attack, senders, chat, 55, open_member, 1000 if addresses > 1 else 250)


def slow_broadcast(attack, addresses, length):
    """Members of ten broadcast rooms that never read. One more member of each room sends messages of this length."""
    swarm = attack.swarm
    paths = [f"/slow{n}?token={token(f'slow{n}')}" for n in range(10)]
    senders = swarm.open_all(10, lambda n: swarm.open(upgrade(paths[n], address(60_000 + n))))

    def open_member(number):
        return swarm.open(upgrade(paths[number % 10], address(number % addresses)), reads=False, receive_buffer=2048)

    text, rate = frame(b'{"content":"' + b"x" * length + b'"}'), 900 / (1 + length // (16 << 10))
    return rotate(attack, senders, text, rate, open_member, 1000 if addresses > 1 else 250)


def loopback_address(number):
    return f"127.{1 + number // 200}.4.{1 + number % 200}"


def bodies(attack, addresses, count, length=261_000, is_direct=False):
    """Posts that stop before the end of a body of the maximum size. `is_direct`: from loopback addresses instead of simulated ones."""
    swarm, body, secret = attack.swarm, b"x" * length, token("lobby")
    paths = ["/lobby/postcontent", "/auth/token"]

    def open_one(n):
        head = (
            f"POST {paths[n % 2]} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {address(n % addresses)}\r\n"
            f"Authorization: Bearer {secret}\r\nContent-Type: application/json\r\nContent-Length: 262144\r\n\r\n"
        )
        return swarm.open(head.encode(), body, source=loopback_address(n % addresses) if is_direct else None)

    attack.ready()
    began = time.monotonic()
    opened = swarm.open_all(count, open_one, is_answered=False)
    swarm.run(attack.seconds - (time.monotonic() - began))
    figures = {"answered": swarm.rejected, "sent_mib": round(swarm.sent_bytes / 2**20)}
    return {"connections": len(opened), **figures, "still_open": len(swarm.connections)}


def logged_in_bodies(attack):
    """500 posts to the command with the largest body, with the login."""
    swarm, body = attack.swarm, b"x" * 2_090_000
    head = (
        "POST /admin/bbx/visualization HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {}\r\n"
        f"Authorization: {LOGIN['Authorization']}\r\nContent-Type: application/json\r\nContent-Length: 2097152\r\n\r\n"
    )
    attack.ready()
    began = time.monotonic()
    opened = swarm.open_all(500, lambda n: swarm.open(head.format(address(n)).encode(), body), False)
    swarm.run(attack.seconds - (time.monotonic() - began))
    figures = {"answered": swarm.rejected, "sent_mib": round(swarm.sent_bytes / 2**20)}
    return {"connections": len(opened), **figures, "still_open": len(swarm.connections)}


def stalled(attack, count, addresses, data):
    """Connections that send `data` and stop. Those that the server closes are opened again."""
    swarm, numbers, lost = attack.swarm, itertools.count(), 0

    def open_one(_=0):
        number = next(numbers)
        return swarm.open(data, source=loopback_address(number % addresses), on_close=on_close)

    def on_close(_):
        nonlocal lost
        lost += 1

    attack.ready()
    began = time.monotonic()
    swarm.open_all(count, open_one, is_answered=False)
    peak = len(swarm.connections)

    def each():
        nonlocal peak
        while len(swarm.connections) < count and swarm.connecting < 50:
            open_one()
        peak = max(peak, len(swarm.connections))

    swarm.run(attack.seconds - (time.monotonic() - began), each=each)
    return {"open_at_most": peak, "still_open": len(swarm.connections), "closed_by_server": lost}


LONG_HEADER = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Header: " + b"x" * 16_000


def headers(attack, count, addresses):
    """Requests whose header is almost as long as allowed, and not complete."""
    return stalled(attack, count, addresses, LONG_HEADER)


def headers_then_slow_readers(attack):
    """Many small blocks of memory, which the attackers leave. After that, large blocks."""
    swarm = attack.swarm
    for _ in range(2):
        swarm.open_all(9000, lambda _: swarm.open(LONG_HEADER), is_answered=False)
        swarm.run(3, lambda: not any(one.output for one in swarm.connections.values()))
        for connection in list(swarm.connections.values()):
            swarm.close(connection, reset=True)
        swarm.run(2)
    return slow_broadcast(attack, 100, 10_000_000)


def headers_and_slow_readers(attack, count):
    """Both at once."""
    attack.swarm.open_all(count, lambda _: attack.swarm.open(LONG_HEADER), is_answered=False)
    return slow_broadcast(attack, 100, 10_000_000)


def client_hello():
    context, sent = ssl.create_default_context(), ssl.MemoryBIO()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        return sent.read()


def tls(attack, count, addresses, part):
    """TLS handshakes that stop after a part of the first or after the whole first message."""
    hello = client_hello()
    return stalled(attack, count, addresses, hello[: int(len(hello) * part)])


def udp(attack, addresses):
    """Each address sends AUDIO packets of 1,400 bytes as fast as possible."""
    sockets = []
    for host in range(1, addresses + 1):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        one.bind((f"127.0.1.{host}", 0))
        one.connect(("127.0.0.1", attack.port))
        one.setblocking(False)
        sockets.append(one.send)
    attack.ready()
    packet, sent, began = bytearray(audio(0, 1400)), 0, time.monotonic()
    end = began + attack.seconds
    for sequence in itertools.count():
        struct.pack_into(">II", packet, 2, sequence & 0xFFFFFFFF, 128 * sequence & 0xFFFFFFFF)
        for send in sockets:
            try:
                send(packet)
                sent += 1
            except OSError:
                pass
        if sequence % max(1, 200 // addresses) == 0 and time.monotonic() >= end:
            return {"packets_per_s": round(sent / (time.monotonic() - began))}


def open_listeners(attack, path, addresses):
    """Members that read, and a function that returns how many of them are still connected."""
    swarm = attack.swarm
    listeners = swarm.open_all(len(addresses), lambda n: swarm.open(upgrade(path, addresses[n])))
    return listeners, lambda: sum(listener.socket.fileno() >= 0 for listener in listeners)


def delayed_burst(attack, addresses):
    """40 members of `radio` read. Other members schedule 9,000 posts of 100 bytes for one moment."""
    swarm, path, posts = attack.swarm, f"/radio?token={token('radio')}", 9_000
    listeners, listening = open_listeners(attack, path, [address(n // 10) for n in range(40)])
    senders = swarm.open_all(addresses, lambda n: swarm.open(upgrade(path, address(1_000 + n))))
    due, paces, sent = time.monotonic() + 12, [Pace(900, 1_800) for _ in senders], 0

    def each():
        nonlocal sent
        for sender, pace in zip(senders, paces):
            for _ in range(min(pace.take(100), posts - sent)):
                delay = due + attack.seconds / 2 - time.monotonic()
                sender.write(frame(f'{{"type":"post","content":"{sent:060}","delay":{delay:.6f}}}'))
                sent += 1

    swarm.run(11, lambda: sent == posts, each)
    swarm.run(due - time.monotonic())
    waiting = attack.metric("delayed_messages", "broadcast")
    attack.ready()
    attack.run()
    figures = {"posts": sent, "posts_accepted": waiting, "listeners_closed": len(listeners) - listening()}
    if figures["listeners_closed"]:
        figures["failed_check"] = f"{figures['listeners_closed']} of 40 members that read were closed"
    return figures


def posts_burst(attack, addresses, length):
    """40 members of `radio` read. Each address posts 30 messages over HTTP at once, as many as the limit permits."""
    swarm = attack.swarm
    path, access = f"/radio?token={token('radio')}", f"Authorization: Bearer {token('radio')}"
    listeners, listening = open_listeners(attack, path, [address(n // 10) for n in range(40)])
    body, answered = f'{{"type":"post","content":"{"x" * length}"}}', 0
    head = f"POST /radio/postcontent HTTP/1.1\r\nHost: localhost\r\n{access}\r\nContent-Length: {len(body)}\r\nX-Forwarded-For: "

    def on_answer(connection, data):
        nonlocal answered
        answered += connection.count(b'"success":true', data)

    senders = [swarm.open(on_data=on_answer) for _ in range(addresses)]
    swarm.run(2, lambda: not swarm.connecting)
    attack.ready()
    for number, sender in enumerate(senders):
        sender.write(f"{head}{address(1_000 + number)}\r\n\r\n{body}".encode() * 30)
    attack.run()
    figures = {"posts": 30 * addresses, "posts_accepted": answered, "listeners_closed": len(listeners) - listening()}
    figures["mib_per_listener"] = round(sum(listener.received for listener in listeners) / len(listeners) / 2**20, 1)
    if figures["listeners_closed"]:
        figures["failed_check"] = f"{figures['listeners_closed']} of 40 members that read were closed"
    return figures


def delayed_hour(attack):
    """A member delays posts in `radio` by an hour until its address may hold no more memory, then leaves. Can another address delay a post,
    and are all posts gone after the room was closed?"""
    swarm, path = attack.swarm, f"/radio?token={token('radio')}"
    post = lambda length: frame(f'{{"type":"post","content":"{"x" * length}","delay":3600}}')
    sent, rejected, long = 0, 0, post(250_000)

    def on_data(connection, data):
        nonlocal rejected
        rejected += connection.count(b"Too many delayed messages", data)

    sender = swarm.open(upgrade(path, address(1)), on_data=on_data)
    swarm.run(1, lambda: swarm.upgraded == 1)
    attack.ready()
    pace = Pace(55, 110)

    def each():
        nonlocal sent
        if not sender.output and pace.take(1):
            sender.write(long)
            sent += 1

    # The server closes a connection whose next message no longer fits.
    is_full = swarm.run(TIMEOUT, lambda: rejected or sender.socket.fileno() < 0, each)
    swarm.close(sender, reset=True)
    waiting = lambda: attack.metric("delayed_messages", "broadcast")
    swarm.run(1)
    filled = waiting()
    swarm.open(upgrade(path, address(2)), post(1))
    swarm.run(1)
    accepted = waiting() > filled
    attack.command("/console/close-room", {"dialect": "broadcast", "room": "radio"})
    figures = {"posts": sent, "posts_waiting": filled, "other_address_accepted": accepted, "posts_after_close": waiting()}
    if not is_full or not accepted or figures["posts_after_close"]:
        figures["failed_check"] = "the address has no limit, another address cannot delay a post, or posts outlive their room"
    return figures


def costly(attack, connections, addresses, text, rate):
    """Members that are alone in broadcast rooms send `text`, `rate` times per second each, or as fast as the server reads."""
    swarm = attack.swarm
    path = lambda n: f"/alone{n}?token={token(f'alone{n}')}"
    members = swarm.open_all(connections, lambda n: swarm.open(upgrade(path(n), address(n % addresses))))
    text = frame(text)
    attack.ready()
    paces, sent_before = [Pace(rate, 2 * rate) for _ in members], swarm.sent_bytes

    def each():
        for member, pace in zip(members, paces):
            if not member.output and member.socket.fileno() >= 0 and pace.take(1):
                member.write(text)

    seconds = attack.run(each)
    is_open = sum(member.socket.fileno() >= 0 for member in members)
    return {"sent_mib_per_s": round((swarm.sent_bytes - sent_before) / seconds / 2**20, 1), "connections_open": is_open}


def costly_json(attack, connections, addresses):
    """Messages with as many nested values as allowed."""
    return costly(attack, connections, addresses, "[" + LISTS * 19_000 + "0]", 1_000 / 13)


def long_messages(attack, addresses):
    """Messages of 10 MiB from three members per address: four incomplete ones exceed the memory of an address."""
    return costly(attack, 3 * addresses, addresses, '{"content":"' + "x" * ((10 << 20) - 14) + '"}', 1_000 / 642)


def flood(attack, length, lists):
    """Eight members of a jamjam room at one address. One sends 900 chat messages per second with a text of `length` bytes and a list of
    `lists` nested lists. The others send one per second each; `requests` are those of the others that each of the others is to receive."""
    swarm, delays, sent = attack.swarm, [], 0
    create = message("CreateRoom", room_name="r", password=None, peer_name="flooder")
    flooder, room = create_jamjam_room(attack, create, address(1))

    def on_data(connection, data):
        data, end = connection.tail + data, 0
        for found in SENT_AT.finditer(data):
            delays.append((0, (time.monotonic_ns() - int(found[1])) / 1e9))
            end = found.end()
        connection.tail = data[max(end, len(data) - 64) :]

    joining = message("JoinRoom", room_id=room, password=None, peer_name="other")
    others = swarm.open_all(7, lambda _: swarm.open(upgrade(forwarded=address(1)), joining, on_data=on_data))
    swarm.run(1)
    # If `data` precedes `type`, the server cannot skip the unknown member, but keeps its values until it reads the type.
    data = '{"sender_id":"","sender_name":"","content":"%s","timestamp":0,"more":[%s0]}' % ("x" * length, LISTS * lists)
    text = frame(f'{{"data":{data},"type":"ChatMessage"}}')
    attack.ready()
    flood_pace, pace = Pace(900, 1_800), Pace(7)

    def each():
        nonlocal sent
        for _ in range(0 if flooder.output else flood_pace.take(50)):
            flooder.write(text)
        for _ in range(pace.take(7)):
            chat = message("ChatMessage", sender_id="", sender_name="", content="", timestamp=time.monotonic_ns())
            others[sent % 7].write(chat)
            sent += 1

    seconds = attack.run(each)
    swarm.run(CLIENT_TIMEOUT, lambda: len(delays) == 6 * sent)
    missing = [(0, None)] * (6 * sent - len(delays))
    is_open = sum(member.socket.fileno() >= 0 for member in (flooder, *others))
    figures = {"flood_sent_per_s": round(flood_pace.used / seconds), **summary(delays + missing, 0, 1), "connections_open": is_open}
    if is_open < 8:
        figures["failed_check"] = f"the server closed {8 - is_open} of 8 connections"
    return figures


def join_at_once(attack):
    """100 participants at one address join a WebRTC room at once, with ids of 36 bytes. Who is in it after 5 s?"""
    swarm, welcomed = attack.swarm, []

    def on_data(connection, data):
        if connection.count(b'"type":"welcome"', data):
            welcomed.append(time.monotonic())

    url = lambda n: f"/?roomId=r&userId={n:036}&userName=Participant%20{n}"
    attack.ready()
    began = time.monotonic()
    for n in range(100):
        swarm.open(upgrade(url(n), address(1)), on_data=on_data)
    swarm.run(began + 5 - time.monotonic())
    members = attack.metric("members", "webrtc")
    all_after = round(welcomed[-1] - began, 2) if len(welcomed) == 100 else None
    figures = {"members_after_5_s": members, "welcomes": len(welcomed), "all_welcome_after_s": all_after}
    if members < 100:
        figures["failed_check"] = f"{members:.0f} of 100 participants are in the room"
    return figures


def webrtc_joins(attack):
    """99 members of a room with the longest names. A client at one address joins and leaves at most 25 times per second."""
    swarm, name, opened = attack.swarm, "x" * 256, 0
    url = lambda user: f"/?roomId=r&userId={user:0256}&userName={name}"
    swarm.open_all(99, lambda n: swarm.open(upgrade(url(n), address(n))))
    received = lambda: sum(connection.received for connection in swarm.connections.values())
    swarm.run(3)
    attack.ready()
    pace, before, sent_before = Pace(25), received(), swarm.sent_bytes
    joined = swarm.upgraded

    def each():
        nonlocal opened
        for _ in range(pace.take(1)):
            swarm.open(upgrade(url(1_000), address(5_000)))
            opened += 1

    seconds = attack.run(each)
    sent, got = swarm.sent_bytes - sent_before, received() - before
    rates = {"joins_per_s": round(opened / seconds, 1), "received_mib_per_s": round(got / seconds / 2**20, 1)}
    return {**rates, "received_per_sent_byte": round(got / max(1, sent)), "upgraded": swarm.upgraded - joined}


def jamjam_joins(attack):
    """Eight members of a room with long names and many candidates. A ninth member joins again and again, 900 times per second."""
    swarm, name = attack.swarm, CONTROL * 256
    create = frame(f'{{"type":"CreateRoom","data":{{"room_name":"r","password":null,"peer_name":"{name}"}}}}')
    _, room = create_jamjam_room(attack, create, address(1))
    joining = frame(f'{{"type":"JoinRoom","data":{{"room_id":"{room}","password":null,"peer_name":"{name}"}}}}')
    one = {"address": "[2001:db8:1111:2222:3333:4444:5555:6666]:65535", "candidate_type": "ServerReflexive", "priority": 4294967295}
    info = message("UpdatePeerInfo", candidates=[one] * 16, public_addr=None, local_addr=None)
    swarm.open_all(7, lambda n: swarm.open(upgrade(forwarded=address(n + 2)), joining, info))
    member = swarm.open(upgrade(forwarded=address(100)))
    swarm.run(2)
    attack.ready()
    received = lambda: sum(connection.received for connection in swarm.connections.values())
    pace, before, sent_before, joins = Pace(900), received(), swarm.sent_bytes, 0

    def each():
        nonlocal joins
        for _ in range(pace.take(50)):
            member.write(joining)
            joins += 1

    seconds = attack.run(each)
    sent, got = swarm.sent_bytes - sent_before, received() - before
    rates = {"joins_per_s": round(joins / seconds), "received_mib_per_s": round(got / seconds / 2**20, 1)}
    return {**rates, "received_per_sent_byte": round(got / max(1, sent), 1), "member_open": member.socket.fileno() >= 0}


def radio_joins(attack):
    """Clients at one address join `radio`, whose welcome message contains five long posts."""
    swarm, path = attack.swarm, f"/radio?token={token('radio')}"
    posts = [frame(f'{{"type":"post","content":"{"x" * 260_000}"}}')] * 5
    swarm.open(upgrade(path, address(1)), *posts)
    swarm.run(2, lambda: not any(one.output for one in swarm.connections.values()))
    received, opened = 0, 0

    def on_data(connection, data):
        nonlocal received
        received += len(data)
        if connection.received > 1_300_000:
            swarm.close(connection, reset=True)

    attack.ready()
    pace = Pace(25)

    def each():
        nonlocal opened
        for _ in range(pace.take(1)):
            swarm.open(upgrade(path, address(2)), on_data=on_data)
            opened += 1

    seconds = attack.run(each)
    return {"joins_per_s": round(opened / seconds, 1), "received_mib_per_s": round(received / seconds / 2**20, 1)}


class Kind:
    """An attack: its function, and how its server is started."""

    def __init__(self, function, *arguments, options=("--trust-proxy",), uses_tls=False, is_udp=False):
        self.function, self.arguments, self.options = function, arguments, options
        self.uses_tls, self.is_udp = uses_tls, is_udp


ATTACKS = {
    "health-150": Kind(health, 150),
    "health-1000": Kind(health, 1000),
    "churn-one-address": Kind(churn, False),
    "churn-many-addresses": Kind(churn, True),
    "churn-no-proxy": Kind(churn, False, options=()),
    "parameters-one-address": Kind(parameters, 1),
    "parameters-four-addresses": Kind(parameters, 4),
    "parameters-many-rooms": Kind(parameters_in_rooms),
    "guessing-passwords-one-address": Kind(passwords, False),
    "guessing-passwords-many-addresses": Kind(passwords, True),
    "guessing-codes": Kind(codes),
    "silent-one-address": Kind(silent, 1),
    "silent-100-addresses": Kind(silent, 100),
    "sync-one-address": Kind(sync, 1),
    "sync-six-addresses": Kind(sync, 6),
    "sync-changing-100-addresses": Kind(sync, 100, 100, True),
    "long-passwords-one-address": Kind(long_passwords, 1),
    "long-passwords-many-addresses": Kind(long_passwords, 300),
    "slow-readers-jamjam-one-address": Kind(slow_jamjam, 1),
    "slow-readers-jamjam-many-addresses": Kind(slow_jamjam, 100),
    "slow-readers-broadcast-one-address": Kind(slow_broadcast, 1, 250_000),
    "slow-readers-broadcast-many-addresses": Kind(slow_broadcast, 100, 250_000),
    "slow-readers-broadcast-long": Kind(slow_broadcast, 100, 10_000_000),
    "slow-readers-broadcast-short": Kind(slow_broadcast, 100, 16),
    "bodies-one-address": Kind(bodies, 1, 500),
    "bodies-many-addresses": Kind(bodies, 500, 500),
    "bodies-2000": Kind(bodies, 500, 2000),
    "bodies-2000-direct": Kind(bodies, 500, 2000, 261_000, True, options=()),
    "bodies-5000-direct": Kind(bodies, 2000, 5000, 120_000, True, options=()),
    "bodies-with-login": Kind(logged_in_bodies),
    "headers-one-address": Kind(headers, 9000, 1, options=()),
    "headers-many-addresses": Kind(headers, 9000, 100, options=()),
    "headers-then-slow-readers": Kind(headers_then_slow_readers),
    "headers-and-slow-readers": Kind(headers_and_slow_readers, 8500),
    "half-headers-and-slow-readers": Kind(headers_and_slow_readers, 4000),
    "tls-half-hello": Kind(tls, 9000, 100, 0.5, options=(), uses_tls=True),
    "tls-one-address": Kind(tls, 9000, 1, 1, options=(), uses_tls=True),
    "tls-many-addresses": Kind(tls, 9000, 100, 1, options=(), uses_tls=True),
    "delayed-burst-one-address": Kind(delayed_burst, 1),
    "delayed-burst-eight-addresses": Kind(delayed_burst, 8),
    "posts-burst-short": Kind(posts_burst, 300, 40),
    "posts-burst-long": Kind(posts_burst, 5, 250_000),
    "delayed-hour": Kind(delayed_hour),
    "json-one-connection": Kind(costly_json, 1, 1),
    "json-three-addresses": Kind(costly_json, 3, 3),
    "json-twenty-addresses": Kind(costly_json, 20, 20),
    "json-twenty-connections": Kind(costly_json, 20, 1),
    "long-messages-one-address": Kind(long_messages, 1),
    "long-messages-four-addresses": Kind(long_messages, 4),
    "flood-one-of-eight": Kind(flood, 2_000, 0),
    "flood-one-of-eight-costly": Kind(flood, 0, 1_600),
    "flood-one-of-eight-less-costly": Kind(flood, 0, 400),
    "flood-250-connections": Kind(costly, 250, 1, "{}", 20),  # 250 messages wait at the same time
    "join-100": Kind(join_at_once),
    "joins-webrtc": Kind(webrtc_joins),
    "joins-jamjam": Kind(jamjam_joins),
    "joins-radio": Kind(radio_joins),
    "udp-one-address": Kind(udp, 1, options=(), is_udp=True),
    "udp-200-addresses": Kind(udp, 200, options=(), is_udp=True),
    "udp-200-addresses-limited": Kind(udp, 200, options=("--limit-loopback",), is_udp=True),
}


# --- The server and its measurement ----------------------------------------------------------------------------------------------------


def metrics(port, path="/metrics", tls=False):
    """All samples of the server's metrics."""
    try:
        _, text = http_request(port, "GET", path, tls=tls)
        samples = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}
    except (OSError, ValueError, http.client.HTTPException):
        return {}


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def use_real_time():
    """Gives this process and its future threads real-time priority, if permitted."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        pass


class Server:
    def __init__(self, options, kind, folder):
        self.log = folder / "log"
        common = ["--host", "127.0.0.1", "--memory-budget", f"{options.memory_budget}MiB", *kind.options]
        if kind.is_udp:
            self.port, self.metrics_port = free_port(socket.SOCK_DGRAM), free_port()
            command = ["echo-server", "--port", self.port, "--metrics", self.metrics_port, *common]
        else:
            self.port = self.metrics_port = free_port()
            login = ["--docs-password", PASSWORD, "--hmac-secret", SECRET]
            command = ["signaling-server", "--port", self.port, *login, *common]
        if kind.uses_tls:
            key, certificate = folder / "key.pem", folder / "cert.pem"
            make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost"
            names = "-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"
            files = ["-keyout", key, "-out", certificate]
            subprocess.run([*make.split(), *names.split(), *files], check=True, capture_output=True)
            command += ["--cert", certificate, "--key", key]
        self.uses_tls = kind.uses_tls
        cpu = min(os.sched_getaffinity(0))
        environment = {name: value for name, value in os.environ.items() if name != "RUST_LOG"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(word) for word in [options.program, *command]],
                stderr=log,
                env=environment,
                preexec_fn=lambda: (os.sched_setaffinity(0, {cpu}), use_real_time()),
            )
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        self.peak_rss = self.peak_hwm = self.peak_tcp = 0
        self.tcp_before = kernel_tcp()
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.metrics_port), 1).close()
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit("the server did not start listening: " + self.log.read_text())
                time.sleep(0.02)
        threading.Thread(target=self.sample, daemon=True).start()

    def sample(self):
        while self.process.poll() is None:
            self.resident()
            time.sleep(0.05)

    def resident(self):
        """Resident memory in MiB; updates the peaks."""
        try:
            status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return 0
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        rss, hwm = (int(fields.get(name, "0").split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        self.peak_rss, self.peak_hwm = max(self.peak_rss, rss), max(self.peak_hwm, hwm)
        self.peak_tcp = max(self.peak_tcp, kernel_tcp())
        return rss

    def cpu(self):
        return process_cpu(self.process.pid)

    def waited(self):
        """Seconds for which threads could run, but had no processor."""
        try:
            threads = list(pathlib.Path(f"/proc/{self.process.pid}/task").iterdir())
            return sum(int((thread / "schedstat").read_text().split()[1]) for thread in threads) / 1e9
        except OSError:
            return 0.0


def process_cpu(pid):
    """CPU time of all threads of a process in seconds."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


def kernel_tcp():
    """Memory of all TCP sockets of the machine in MiB."""
    words = pathlib.Path("/proc/net/sockstat").read_text().split()
    return int(words[words.index("mem") + 1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def machine_cpu():
    """Non-idle CPU time of the whole machine in seconds."""
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def start_client(kind, port):
    """Starts the moderate client in its own process."""
    pipe, other = FORK.Pipe()
    target = udp_client if kind.is_udp else chat_client

    def run():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        use_real_time()
        target(port, kind.uses_tls, other)

    process = FORK.Process(target=run, daemon=True)
    process.start()
    if not pipe.poll(TIMEOUT) or pipe.recv() != "ready":
        sys.exit("the moderate client did not start")
    return process, pipe


def start_attack(kind, port, seconds):
    """Starts the attackers in their own process. They stay connected until the process is killed."""
    pipe, other = FORK.Pipe()

    def run():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        attack = Attack(port, seconds, other)
        other.send(kind.function(attack, *kind.arguments))
        while True:
            attack.swarm.step(0.1)

    process = FORK.Process(target=run, daemon=True)
    process.start()
    return process, pipe


def percentile(values, share):
    return values[min(len(values) - 1, int(share * len(values)))]


def summary(requests, begin, end):
    """Figures of the requests that began in this period."""
    delays = [delay for at, delay in requests if begin <= at < end]
    answered = sorted(delay * 1e3 for delay in delays if delay is not None)
    figures = {"requests": len(delays), "failures": len(delays) - len(answered)}
    if answered:
        shares = {"p50_ms": percentile(answered, 0.5), "p99_ms": percentile(answered, 0.99), "max_ms": answered[-1]}
        figures.update({name: round(value, 2) for name, value in shares.items()})
    return figures


def receive(pipe, process, seconds, what):
    try:
        if pipe.poll(seconds):
            return pipe.recv()
    except EOFError:
        pass
    process.kill()
    return f"{what} ended early" if process.exitcode is not None else f"{what} did not finish"


def measure(name, kind, options, folder):
    """Runs one attack. Returns its line of output."""
    server = Server(options, kind, folder)
    processes = []
    try:
        client, client_pipe = start_client(kind, server.port)
        processes.append(client)
        time.sleep(0.5)
        times = [time.monotonic()]
        time.sleep(options.seconds)
        times.append(time.monotonic())
        attackers, attack_pipe = start_attack(kind, server.port, options.seconds)
        processes.append(attackers)
        ready = receive(attack_pipe, attackers, 4 * TIMEOUT, "the preparation")
        times.append(time.monotonic())
        own = lambda: server.cpu() + process_cpu(attackers.pid) + process_cpu(client.pid) + time.process_time()
        cpu, waited, log_bytes, others = server.cpu(), server.waited(), server.log.stat().st_size, machine_cpu() - own()
        figures = receive(attack_pipe, attackers, options.seconds + 3 * TIMEOUT, "the attack") if ready == "ready" else ready
        times.append(time.monotonic())
        seconds = times[3] - times[2]
        cpu, waited, log_bytes = server.cpu() - cpu, server.waited() - waited, server.log.stat().st_size - log_bytes
        others = machine_cpu() - own() - others
        charges = metrics(server.metrics_port, tls=server.uses_tls)
        attackers.kill()
        attackers.join()
        time.sleep(AFTER)
        rss_after = server.resident()
        charges_after = metrics(server.metrics_port, tls=server.uses_tls)
        client_pipe.send("stop")
        seen = receive(client_pipe, client, 4 * TIMEOUT, "the moderate client")
        exit_code = server.process.poll()
    finally:
        for process in processes:
            process.kill()
        server.process.terminate()
        try:
            server.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            server.process.kill()
    if isinstance(seen, str):
        seen = {"requests": [], "newcomers": [], "survived": False}
    before, setup, during = (summary(seen["requests"], begin, end) for begin, end in zip(times, times[1:]))
    new = summary(seen["newcomers"], times[1], times[3])
    new.pop("p99_ms", None)
    log = server.log.read_text(errors="replace")
    findings, violations = [], []
    if during.get("p99_ms", 0) > 2 * before.get("p99_ms", 0) + 2:
        findings.append(f"client p99 rose from {before.get('p99_ms')} to {during['p99_ms']} ms")
    if setup.get("p99_ms", 0) > 2 * before.get("p99_ms", 0) + 2:
        findings.append(f"client p99 during the preparation: {setup['p99_ms']} ms")
    for who, figure in (("client", during), ("client during the preparation", setup), ("newcomers", new)):
        if figure["failures"]:
            findings.append(f"{who}: {figure['failures']} of {figure['requests']} requests failed")
    total = lambda counter: sum(count for name, count in charges.items() if counter in name)
    bound = options.memory_budget + OVERHEAD_MIB
    is_within = max(server.peak_rss, server.peak_hwm) <= bound
    if not is_within:
        violations.append(f"{max(server.peak_rss, server.peak_hwm):.0f} MiB are more than {bound} MiB")
    if exit_code is not None:
        violations.append(f"the server exited with {exit_code}")
    if "panicked" in log:
        violations.append("a panic is in the log")
    if not seen["survived"]:
        violations.append("the moderate client was disconnected")
    if isinstance(figures, str):
        violations.append(figures)
        figures = {}
    if "failed_check" in figures:
        violations.append(figures.pop("failed_check"))
    return {
        "attack": name,
        "peak_rss_mib": round(server.peak_rss, 1),
        "peak_hwm_mib": round(server.peak_hwm, 1),
        "rss_after_mib": round(rss_after, 1),
        "peak_kernel_tcp_mib": round(server.peak_tcp - server.tcp_before, 1),
        "budget_mib": options.memory_budget,
        "within_budget": is_within,
        "client_before": before,
        "client_during": during,
        "client_setup": setup,
        "client_survived": seen["survived"],
        "client_retransmissions": seen.get("retransmissions"),
        "newcomers": new,
        "server_cpu": round(cpu / seconds, 2),
        "server_waited": round(waited / seconds, 2),
        "other_cpus": round(max(0.0, others) / seconds, 2),
        "log_bytes_per_s": round(log_bytes / seconds),
        "charged_mib": round(charges.get("jamjam_memory_charged_bytes", -1) / 2**20, 1),
        "charged_after_mib": round(charges_after.get("jamjam_memory_charged_bytes", -1) / 2**20, 1),
        "refused": charges.get("jamjam_memory_refused_total"),
        "closed_for_memory": total("closed_for_memory"),
        "messages_postponed": total("messages_postponed"),
        "dropped": {name: count for name, count in charges.items() if "dropped" in name and count},
        "attack_figures": figures,
        "findings": findings,
        "violations": violations,
    }


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--program", type=pathlib.Path, default=PROGRAM)
    options.add_argument("--attack", action="append", default=[], metavar="NAME")
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--memory-budget", type=int, default=320, metavar="MIB")
    options.add_argument("--keep-logs", type=pathlib.Path, metavar="FOLDER")
    options.add_argument("--list", action="store_true")
    options = options.parse_args()
    chosen = [name for name in ATTACKS if not options.attack or any(f"{name}-".startswith(f"{one}-") for one in options.attack)]
    if options.list or not chosen:
        print("\n".join(ATTACKS))
        return 0 if options.list else 2
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    all_cpus, is_violated = os.sched_getaffinity(0), False
    for name in chosen:
        os.sched_setaffinity(0, all_cpus)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            line = measure(name, ATTACKS[name], options, folder)
            if options.keep_logs:
                options.keep_logs.mkdir(parents=True, exist_ok=True)
                (options.keep_logs / f"{name}.log").write_bytes((folder / "log").read_bytes())
        print(json.dumps(line), flush=True)
        is_violated |= bool(line["violations"])
    return 1 if is_violated else 0


if __name__ == "__main__":
    sys.exit(main())
