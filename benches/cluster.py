#!/usr/bin/env python3
"""Measures several `jamjam-dev signaling-server` that share their rooms over Redis, on loopback.

    cargo build --release
    python3 benches/cluster.py [--program FILE] [--seconds 5] [--repetitions 3]

Requires Linux, redis-server and Python's standard library. Clients are WebRTC participants that send `participant-update`. Prints one line of
JSON for each number of servers (0: one server without a cluster), each size of rooms and each rate, in interleaved repetitions (medians):

latency_ms_p50, latency_ms_p99   from sending a message to its arrival at a member, which is on another server if there are several; one
                                 message at a time
server_us_per_delivery           CPU time (schedstat) of all servers together per message received by a member
redis_us_per_message             CPU time of Redis per message sent
bytes_per_room                   growth of VmRSS of all servers together per room with its connections
"""

import argparse
import json
import os
import pathlib
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from rooms import PROGRAM, TIMEOUT, Client, frame

UPDATE = frame(json.dumps({"type": "participant-update", "updates": {"text": "x" * 64}}))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port):
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
    sys.exit(f"nothing listens on port {port}")


class Participant(Client):
    def __init__(self, port, room, user):
        super().__init__(port, f"/?roomId={room}&userId={user}&userName={user}")
        while not any(b'"welcome"' in payload for payload in self.frames()):
            self.receive()

    def send_update(self):
        self.socket.sendall(UPDATE)

    def updates(self):
        return sum(b"participant-update" in payload for payload in self.frames())


class Servers:
    def __init__(self, program, count):
        self.directory = tempfile.TemporaryDirectory()
        self.processes, options, self.redis = [], [], None
        if count:
            port = free_port()
            command = ["redis-server", "--port", str(port), "--save", "", "--dir", self.directory.name]
            self.redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            wait_for(port)
            options = ["--cluster", f"redis://127.0.0.1:{port}", "--hmac-secret", "benchmark"]
        self.ports = [free_port() for _ in range(max(count, 1))]
        for port in self.ports:
            command = [program, "signaling-server", "--host", "127.0.0.1", "--port", str(port), *options]
            command += ["--rate-limit-messages", "off", "--rate-limit-connections", "off", "--heartbeat-interval", "off"]
            self.processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "RUST_LOG": "warn"}))
            wait_for(port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in [*self.processes, self.redis]:
            if process:
                process.kill()
                process.wait()
        self.directory.cleanup()

    def cpu_us(self, processes):
        total = 0
        for process in processes:
            for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0]) / 1e3
        return total

    def memory(self):
        statuses = (pathlib.Path(f"/proc/{process.pid}/status").read_text() for process in self.processes)
        return sum(int(status.split("VmRSS:")[1].split()[0]) * 1024 for status in statuses)


def measure(program, servers, size, rooms, rate, seconds):
    with Servers(program, servers) as group:
        ports, memory = group.ports, group.memory()
        members = [[Participant(ports[i % len(ports)], f"room{r:02}", f"user{i:02}") for i in range(size)] for r in range(rooms)]
        everyone = [client for room in members for client in room]
        time.sleep(1)
        for client in everyone:
            client.socket.setblocking(False)
            try:
                client.receive()
            except BlockingIOError:
                pass
            client.frames()
        bytes_per_room = (group.memory() - memory) / rooms
        sender, receiver, latencies = members[0][0], members[0][1], []
        selector = selectors.DefaultSelector()
        for client in everyone:
            selector.register(client.socket, selectors.EVENT_READ, client)
        for _ in range(300):
            started = time.perf_counter()
            sender.send_update()
            waiting = size - 1
            while waiting:
                for key, _ in selector.select(TIMEOUT):
                    key.data.receive()
                    update_bytes = len(key.data.received)
                    updates = key.data.updates()
                    waiting -= updates
                    if key.data is receiver and updates:
                        latencies.append((time.perf_counter() - started) * 1e3)
            time.sleep(0.002)
        group_cpu, redis_cpu = group.cpu_us(group.processes), group.cpu_us([group.redis] if group.redis else [])
        # All updates have the same size. Counting bytes takes less time than parsing them.
        messages, sent, received, begin = int(rate * seconds), 0, 0, time.monotonic()
        while received < messages * (size - 1) * update_bytes:
            due = min(messages, int((time.monotonic() - begin) * rate))
            while sent < due:
                members[sent % rooms][sent % size].send_update()
                sent += 1
            for key, _ in selector.select(0.005):
                received += len(key.fileobj.recv(1 << 16))
            if time.monotonic() - begin > seconds + TIMEOUT:
                sys.exit(f"{received // update_bytes} of {messages * (size - 1)} messages arrived")
        group_cpu = group.cpu_us(group.processes) - group_cpu
        redis_cpu = group.cpu_us([group.redis] if group.redis else []) - redis_cpu
        latencies.sort()
        return {
            "latency_ms_p50": statistics.median(latencies),
            "latency_ms_p99": latencies[int(len(latencies) * 0.99)],
            "server_us_per_delivery": group_cpu / (messages * (size - 1)),
            "redis_us_per_message": redis_cpu / messages,
            "bytes_per_room": bytes_per_room,
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=PROGRAM)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    for size, rooms, rate in [(100, 1, 40), (100, 1, 200), (100, 1, 400), (2, 100, 1000)]:
        runs = {servers: [] for servers in range(4)}
        for _ in range(options.repetitions):
            for servers, results in runs.items():
                results.append(measure(options.program, servers, size, rooms, rate, options.seconds))
        for servers, results in runs.items():
            medians = {name: round(statistics.median(run[name] for run in results), 3) for name in results[0]}
            print(json.dumps({"servers": servers, "room_size": size, "rooms": rooms, "messages_per_s": rate} | medians), flush=True)


if __name__ == "__main__":
    main()
