#!/usr/bin/env python3
"""Measures `jamjam-dev signaling-server` over loopback: memory of an idle connection, joins, and deliveries of chat.

    cargo build --release
    python3 benches/rooms.py [--connections 1000] [--rates 1200,12000] [--seconds 3] [--program FILE]

Linux, and Python's standard library only. It starts the server itself, without its limits of rate and connections, on one
processor, and speaks to it from another, so that neither takes time from the other. What is printed is the server's own: its
resident memory, and its processor time by /proc. Those hold on a busy machine too; how much is delivered in a second does not,
and beyond some tens of thousands of messages this client is the slower end. docs/benchmarks.md tells what the figures mean.
"""

import argparse
import base64
import json
import os
import pathlib
import resource
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time

PROGRAM = pathlib.Path(__file__).resolve().parent.parent / "target" / "release" / "jamjam-dev"
ROOM = 10  # members of a room, which is the most there may be
CONTENT = "x" * 64
PATIENCE = 20  # seconds for anything that must happen


def frame(text):
    """A text frame under a mask of zeros."""
    data = text.encode()
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
    return b"\x81" + length + bytes(4) + data


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.heard = b""
        while b"\r\n\r\n" not in self.heard:
            self.more()
        head, self.heard = self.heard.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 101"), head

    def more(self):
        some = self.socket.recv(1 << 16)
        if not some:
            sys.exit("the server has closed a connection")
        self.heard += some

    def say(self, kind, **data):
        self.socket.sendall(frame(json.dumps({"type": kind, "data": data})))

    def frames(self):
        """The payloads of all whole frames that have come."""
        payloads, at = [], 0
        while len(self.heard) - at >= 2:
            length, begin = self.heard[at + 1], at + 2
            if length == 126:
                if len(self.heard) < at + 4:
                    break
                (length,), begin = struct.unpack_from(">H", self.heard, at + 2), at + 4
            if len(self.heard) < begin + length:
                break
            payloads.append(self.heard[begin : begin + length])
            at = begin + length
        self.heard = self.heard[at:]
        return payloads

    def hear(self, kind):
        """The data of the next message of this type."""
        while True:
            for payload in self.frames():
                message = json.loads(payload)
                if message["type"] == kind:
                    return message["data"]
            self.more()


def ours(program, *more):
    """The command that starts our server on a port."""
    options = ["--rate-limit-messages", "off", "--max-connections", "off", "--max-undecided", 100_000, *more]
    return lambda port: [program, "signaling-server", "--host", "127.0.0.1", "--port", port, *options]


class Server:
    def __init__(self, command):
        with socket.socket() as any_port:
            any_port.bind(("127.0.0.1", 0))
            self.port = any_port.getsockname()[1]
        command = command(self.port)
        first = min(os.sched_getaffinity(0))
        self.process = subprocess.Popen(
            [str(word) for word in command],
            env={**os.environ, "RUST_LOG": "warn"},
            preexec_fn=lambda: os.sched_setaffinity(0, {first}),
        )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit("the server does not listen")
                time.sleep(0.02)

    def resident(self):
        """Bytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))

    def cpu(self):
        """Seconds of processor time of all its threads."""
        threads = pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def busy():
    """Seconds of processor time of the whole machine that were not idle."""
    fields = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    fields = [int(field) for field in fields]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def chat(server, clients, rate, seconds):
    """Chats at so many messages a second, one room after the other."""
    waiting = selectors.DefaultSelector()
    for client in clients:
        client.socket.setblocking(False)
        waiting.register(client.socket, selectors.EVENT_READ, client)
    message = frame(
        json.dumps({"type": "ChatMessage", "data": {"sender_id": "", "sender_name": "", "content": CONTENT, "timestamp": 1}})
    )
    rooms = len(clients) // ROOM
    sent = delivered = 0
    cpu, own, machine, begin = server.cpu(), time.process_time(), busy(), time.monotonic()
    end = begin + seconds
    while True:
        now = time.monotonic()
        if now < end:
            due = min(int((now - begin) * rate), sent + 64)
            while sent < due:
                # Each room in turn, and each member of it.
                speaker = clients[sent % rooms * ROOM + sent // rooms % ROOM]
                try:
                    if speaker.socket.send(message) < len(message):
                        sys.exit("the server takes too little")
                except BlockingIOError:
                    break
                sent += 1
        elif delivered >= sent * (ROOM - 1) or now > end + PATIENCE:
            break
        for key, _ in waiting.select(0.0005):
            key.data.more()
            delivered += len(key.data.frames())
    wall = time.monotonic() - begin
    cpu, own, machine = server.cpu() - cpu, time.process_time() - own, busy() - machine
    if delivered != sent * (ROOM - 1):
        sys.exit(f"{sent * (ROOM - 1)} should have been delivered, {delivered} were")
    return {
        "messages_per_s": round(sent / seconds),
        "deliveries": delivered,
        "server_us_per_delivery": round(cpu / delivered * 1e6, 2),
        "deliveries_per_server_cpu_s": round(delivered / cpu),
        "other_cpus": round(max(0.0, machine - cpu - own) / wall, 2),
    }


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--connections", type=int, default=1000)
    options.add_argument("--rates", default="1200,12000")
    options.add_argument("--seconds", type=float, default=3)
    options.add_argument("--program", type=pathlib.Path, default=PROGRAM)
    options = options.parse_args()
    number = max(options.connections // ROOM, 1) * ROOM
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = Server(ours(options.program))
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        before = server.resident()
        clients = [Client(server.port) for _ in range(number)]
        idle = server.resident()
        cpu, begin = server.cpu(), time.monotonic()
        for first in range(0, number, ROOM):
            room = clients[first : first + ROOM]
            room[0].say("CreateRoom", room_name=f"room {first}", password=None, peer_name="first")
            name = room[0].hear("RoomCreated")["room_id"]
            for other in room[1:]:
                other.say("JoinRoom", room_id=name, password=None, peer_name="other")
                other.hear("RoomJoined")
        wall, cpu = time.monotonic() - begin, server.cpu() - cpu
        # All that joining has caused has come before chat is counted.
        for first in range(0, number, ROOM):
            for place, member in enumerate(clients[first : first + ROOM - 1]):
                joined = 0
                while joined < ROOM - 1 - place:
                    joined += sum(b'"PeerJoined"' in payload for payload in member.frames())
                    if joined < ROOM - 1 - place:
                        member.more()
        figures = {
            "connections": number,
            "idle_bytes_per_connection": round((idle - before) / number),
            "member_bytes_per_connection": round((server.resident() - before) / number),
            "joins_per_s": round(number / wall),
            "server_us_per_join": round(cpu / number * 1e6, 1),
        }
        print(json.dumps(figures))
        for rate in options.rates.split(","):
            print(json.dumps(chat(server, clients, float(rate), options.seconds)))
    finally:
        server.process.kill()
        server.process.wait()


if __name__ == "__main__":
    main()
