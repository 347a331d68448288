#!/usr/bin/env python3
"""Measures `jamjam-dev signaling-server` over loopback: memory per connection, joins and chat deliveries.

    cargo build --release
    python3 benches/rooms.py [--connections 1000] [--rates 1200,12000] [--seconds 3] [--program FILE]

Requires Linux and Python's standard library. Starts the server without rate and connection limits, pinned to one processor, and
runs the clients on another. Prints the server's resident memory and CPU time from /proc, which do not depend on the load of the
machine. The delivery rate depends on this load. At more than about 10,000 messages per second, this script is the bottleneck. Prints
one line of JSON per step:

idle_bytes_per_connection     growth of RssAnon per upgraded, silent connection, of the first 1,000
member_bytes_per_connection   growth of RssAnon per connection when all connections are in rooms of ten
joins_per_s                   rate at which members create and join rooms, one at a time
server_us_per_join            server CPU time per member
server_us_per_delivery        server CPU time (schedstat, with system calls) per message received by a member; a message in a room of
                              ten members counts as nine deliveries
deliveries_per_server_cpu_s   deliveries per second of server CPU time
other_cpus                    CPU cores used by other processes; above 0.3, rates per second are unreliable, and CPU time figures are
                              accurate only to a few tenths
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
ROOM_SIZE = 10  # members per room, the maximum
CONTENT = "x" * 64
TIMEOUT = 20  # seconds for any single step
MAX_SILENT = 1000  # connections that are opened before the first of them sends a request


def frame(text):
    """A text frame with an all-zero mask."""
    data = text.encode()
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
    return b"\x81" + length + bytes(4) + data


class Client:
    def __init__(self, port, path="/"):
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.received = b""
        while b"\r\n\r\n" not in self.received:
            self.receive()
        head, self.received = self.received.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 101"), head

    def receive(self):
        data = self.socket.recv(1 << 16)
        if not data:
            sys.exit("the server closed a connection")
        self.received += data

    def send(self, message_type, **data):
        self.socket.sendall(frame(json.dumps({"type": message_type} | ({"data": data} if data else {}))))

    def frames(self):
        """Payloads of all complete frames received so far."""
        payloads, offset = [], 0
        while len(self.received) - offset >= 2:
            length, start = self.received[offset + 1], offset + 2
            if length == 126:
                if len(self.received) < offset + 4:
                    break
                (length,), start = struct.unpack_from(">H", self.received, offset + 2), offset + 4
            if len(self.received) < start + length:
                break
            payloads.append(self.received[start : start + length])
            offset = start + length
        self.received = self.received[offset:]
        return payloads

    def wait_for(self, message_type):
        """Data of the next message of this type."""
        while True:
            for payload in self.frames():
                message = json.loads(payload)
                if message["type"] == message_type:
                    return message["data"]
            self.receive()


def jamjam_server(program, *extra_options):
    """Returns a function from a port to the command that starts our server on it."""
    options = ["--rate-limit-messages", "off", "--max-connections", "off", *extra_options]
    return lambda port: [program, "signaling-server", "--host", "127.0.0.1", "--port", port, *options]


class Server:
    def __init__(self, command):
        with socket.socket() as probe_socket:
            probe_socket.bind(("127.0.0.1", 0))
            self.port = probe_socket.getsockname()[1]
        command = command(self.port)
        first_cpu = min(os.sched_getaffinity(0))
        self.process = subprocess.Popen(
            [str(word) for word in command],
            env={**os.environ, "RUST_LOG": "warn"},
            preexec_fn=lambda: os.sched_setaffinity(0, {first_cpu}),
        )
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit("the server did not start listening")
                time.sleep(0.02)

    def resident(self):
        """Resident memory in bytes, without the pages of the program's file: how many of those are mapped differs between runs."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:")))

    def cpu(self):
        """CPU time of all threads in seconds."""
        threads = pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def machine_cpu():
    """Non-idle CPU time of the whole machine in seconds."""
    fields = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    fields = [int(field) for field in fields]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def chat(server, clients, rate, seconds):
    """Sends `rate` chat messages per second, to each room in turn."""
    selector = selectors.DefaultSelector()
    for client in clients:
        client.socket.setblocking(False)
        selector.register(client.socket, selectors.EVENT_READ, client)
    message = frame(
        json.dumps({"type": "ChatMessage", "data": {"sender_id": "", "sender_name": "", "content": CONTENT, "timestamp": 1}})
    )
    rooms = len(clients) // ROOM_SIZE
    sent = delivered = 0
    cpu, own, machine, start = server.cpu(), time.process_time(), machine_cpu(), time.monotonic()
    end = start + seconds
    while True:
        now = time.monotonic()
        if now < end:
            due = min(int((now - start) * rate), sent + 64)
            while sent < due:
                # Select the rooms in turn, and the members of each room in turn.
                sender = clients[sent % rooms * ROOM_SIZE + sent // rooms % ROOM_SIZE]
                try:
                    if sender.socket.send(message) < len(message):
                        sys.exit("the server accepted only part of a message")
                except BlockingIOError:
                    break
                sent += 1
        elif delivered >= sent * (ROOM_SIZE - 1) or now > end + TIMEOUT:
            break
        for key, _ in selector.select(0.0005):
            key.data.receive()
            delivered += len(key.data.frames())
    wall = time.monotonic() - start
    cpu, own, machine = server.cpu() - cpu, time.process_time() - own, machine_cpu() - machine
    if delivered != sent * (ROOM_SIZE - 1):
        sys.exit(f"expected {sent * (ROOM_SIZE - 1)} deliveries, received {delivered}")
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
    number = max(options.connections // ROOM_SIZE, 1) * ROOM_SIZE
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    server = Server(jamjam_server(options.program, "--dialect", "jamjam"))
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        before = server.resident()
        clients, idle = [], 0
        while len(clients) < number:
            silent = [Client(server.port) for _ in range(min(number - len(clients), MAX_SILENT))]
            idle = idle or (server.resident() - before) / len(silent)
            for client in silent:
                client.send("ListRooms")
                client.wait_for("RoomList")
            clients += silent
        cpu, start = server.cpu(), time.monotonic()
        for first in range(0, number, ROOM_SIZE):
            room = clients[first : first + ROOM_SIZE]
            room[0].send("CreateRoom", room_name=f"room {first}", password=None, peer_name="first")
            room_id = room[0].wait_for("RoomCreated")["room_id"]
            for other in room[1:]:
                other.send("JoinRoom", room_id=room_id, password=None, peer_name="other")
                other.wait_for("RoomJoined")
        wall, cpu = time.monotonic() - start, server.cpu() - cpu
        # Receive all PeerJoined messages before chat is counted.
        for first in range(0, number, ROOM_SIZE):
            for index, member in enumerate(clients[first : first + ROOM_SIZE - 1]):
                joined = 0
                while joined < ROOM_SIZE - 1 - index:
                    joined += sum(b'"PeerJoined"' in payload for payload in member.frames())
                    if joined < ROOM_SIZE - 1 - index:
                        member.receive()
        figures = {
            "connections": number,
            "idle_bytes_per_connection": round(idle),
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
