#!/usr/bin/env python3
"""Compares broadcast rooms of `jamjam-dev signaling-server` with a minimal server based on Node's `ws`.

    cargo build --release
    cargo build --release --manifest-path benches/ws_load/Cargo.toml
    npm ci --prefix tests/node
    python3 benches/side_by_side.py [--repeat 7] [--seconds 4] [--deliveries 20000,60000,150000,inf] [--members 10,100] [--idle 1000,5000]

Requires Linux, Python's standard library and Node. Each server is pinned to one processor and the load generator (benches/ws_load)
to another. The servers do different work: `ws_server.mjs` forwards bytes, ours verifies a token, parses JSON and adds the documented
envelope. docs/dev/benchmarks.md explains the figures and lists results.
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import pathlib
import statistics
import subprocess
import sys

from rooms import PROGRAM, Server, jamjam_server, machine_cpu

HERE = pathlib.Path(__file__).resolve().parent
LOAD = HERE / "ws_load" / "target" / "release" / "ws_load"
SECRET = "secret"
CLIENTS = 1000  # in all rooms together
BYTES = 100

SERVERS = {
    "ours": jamjam_server(PROGRAM, "--hmac-secret", SECRET),
    "node": lambda port: ["node", HERE / "ws_server.mjs", port],
}


def path(room):
    """URL path of a room with an access token. Node's server uses the whole path as the room name."""
    unpadded = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=")
    payload = unpadded(json.dumps({"clientId": "bench", "room": room}).encode())
    signature = unpadded(hmac.new(SECRET.encode(), payload, hashlib.sha256).digest())
    return f"/{room}?token={(payload + b'.' + signature).decode()}"


class Load:
    """The load generator, pinned to the last processor, with all clients connected."""

    def __init__(self, server, paths, members, rate, seconds):
        last_cpu = max(os.sched_getaffinity(0))
        self.process = subprocess.Popen(
            [str(word) for word in [LOAD, f"127.0.0.1:{server.port}", members, rate, seconds, BYTES]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {last_cpu}),
        )
        self.write_line("".join(line + "\n" for line in paths))
        if self.process.stdout.readline() != "ready\n":
            sys.exit("not all clients could connect")

    def write_line(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def run(self):
        self.write_line("go")
        return json.loads(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def relay(name, members, deliveries, seconds):
    """One run of one server under load."""
    server = Server(SERVERS[name])
    try:
        rate = deliveries / (members - 1)
        paths = [path(f"r{number // members}") for number in range(CLIENTS)]
        load = Load(server, paths, members, rate, seconds)
        cpu, machine = server.cpu(), machine_cpu()
        result = load.run()
        cpu, machine = server.cpu() - cpu, machine_cpu() - machine
        load.stop()
        if result["delivered"] != result["expected"] or result["wrong"]:
            sys.exit(f"{name} did not deliver every message correctly: {result}")
        return {
            "us_per_delivery": cpu / result["delivered"] * 1e6,
            "deliveries_per_cpu_s": result["delivered"] / cpu,
            "deliveries_per_s": result["delivered"] / result["seconds"],
            "p50_us": result["p50_us"],
            "p90_us": result["p90_us"],
            "server_busy": cpu / result["seconds"],
            "load_busy": result["busy"],
            "other_cpus": max(0.0, machine - cpu - result["busy"] * result["seconds"]) / result["seconds"],
        }
    finally:
        server.process.kill()
        server.process.wait()


def idle(name, number):
    """Resident memory per idle member in bytes, with `number` members in rooms of 100."""
    server = Server(SERVERS[name])
    try:
        # Exclude one-time allocations of the first connections.
        first = Load(server, [path(f"w{number // 10}") for number in range(100)], 10, 1, 1)
        before = server.resident()
        load = Load(server, [path(f"r{number // 100}") for number in range(number)], 100, 1, 1)
        bytes_each = (server.resident() - before) / number
        load.stop()
        first.stop()
        return {"bytes": bytes_each}
    finally:
        server.process.kill()
        server.process.wait()


def compare(title, repeat, measure):
    """Measures both servers alternately; prints medians with minimum and maximum, and the ratio of the medians."""
    runs = {name: [] for name in SERVERS}
    for turn in range(repeat):
        names = list(SERVERS)
        for name in names if turn % 2 == 0 else reversed(names):
            runs[name].append(measure(name))
    print(f"\n{title}")
    for figure in runs["ours"][0]:
        values = {name: sorted(run[figure] for run in runs[name]) for name in SERVERS}
        median = {name: statistics.median(values[name]) for name in SERVERS}
        shown = "  ".join(
            f"{name} {median[name]:>10,.2f} ({values[name][0]:,.2f} to {values[name][-1]:,.2f})" for name in SERVERS
        )
        print(f"  {figure:<22} {shown}  ratio {median['ours'] / max(median['node'], 1e-9):.2f}", flush=True)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeat", type=int, default=7)
    options.add_argument("--seconds", type=float, default=4)
    options.add_argument("--deliveries", default="20000,60000,150000,inf", help="offered deliveries per second; inf: as many as the server accepts")
    options.add_argument("--members", default="10,100")
    options.add_argument("--idle", default="1000,5000")
    options = options.parse_args()
    try:
        # Raises the priority of both servers and of the load generator, if permitted.
        os.nice(-10)
    except PermissionError:
        pass
    for number in filter(None, map(int, filter(None, options.idle.split(",")))):
        compare(f"{number} idle members", 3, lambda name: idle(name, number))
    for members in map(int, options.members.split(",")):
        for deliveries in map(float, options.deliveries.split(",")):
            compare(
                f"rooms of {members}, {deliveries:,.0f} deliveries/s of {BYTES} bytes",
                options.repeat,
                lambda name: relay(name, members, deliveries, options.seconds),
            )


if __name__ == "__main__":
    main()
