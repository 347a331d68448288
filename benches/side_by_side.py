#!/usr/bin/env python3
"""Measures broadcast rooms of `jamjam-dev signaling-server` beside a minimal server of Node's `ws`, in turns.

    cargo build --release
    cargo build --release --manifest-path benches/ws_load/Cargo.toml
    npm ci --prefix tests/node
    python3 benches/side_by_side.py [--repeat 7] [--seconds 4] [--deliveries 20000,60000,150000,inf] [--members 10,100] [--idle 1000,5000]

Linux, Python's standard library, Node. Each server runs on one processor and the load (benches/ws_load) on another. The work of the
two is not the same: `ws_server.mjs` passes bytes on; ours looks at a token, reads JSON and writes the documented frame around
it. docs/benchmarks.md tells what the figures mean, and has some.
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

from rooms import PROGRAM, Server, busy, ours

HERE = pathlib.Path(__file__).resolve().parent
LOAD = HERE / "ws_load" / "target" / "release" / "ws_load"
SECRET = "secret"
CLIENTS = 1000  # in rooms, whatever their size
BYTES = 100

SERVERS = {
    "ours": ours(PROGRAM, "--hmac-secret", SECRET),
    "node": lambda port: ["node", HERE / "ws_server.mjs", port],
}


def path(room):
    """Where a room is: Node's server takes any path for one."""
    unpadded = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=")
    payload = unpadded(json.dumps({"clientId": "bench", "room": room}).encode())
    signature = unpadded(hmac.new(SECRET.encode(), payload, hashlib.sha256).digest())
    return f"/{room}?token={(payload + b'.' + signature).decode()}"


class Load:
    """The program that makes the load, on the last processor, with its clients connected."""

    def __init__(self, server, paths, members, rate, seconds):
        last = max(os.sched_getaffinity(0))
        self.process = subprocess.Popen(
            [str(word) for word in [LOAD, f"127.0.0.1:{server.port}", members, rate, seconds, BYTES]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {last}),
        )
        self.tell("".join(line + "\n" for line in paths))
        if self.process.stdout.readline() != "ready\n":
            sys.exit("not everybody could connect")

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def run(self):
        self.tell("go")
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def relay(name, members, deliveries, seconds):
    """One run of one server."""
    server = Server(SERVERS[name])
    try:
        rate = deliveries / (members - 1)
        paths = [path(f"r{number // members}") for number in range(CLIENTS)]
        load = Load(server, paths, members, rate, seconds)
        cpu, machine = server.cpu(), busy()
        told = load.run()
        cpu, machine = server.cpu() - cpu, busy() - machine
        load.end()
        if told["delivered"] != told["expected"] or told["wrong"]:
            sys.exit(f"{name} did not deliver all: {told}")
        return {
            "us_per_delivery": cpu / told["delivered"] * 1e6,
            "deliveries_per_cpu_s": told["delivered"] / cpu,
            "deliveries_per_s": told["delivered"] / told["seconds"],
            "p50_us": told["p50_us"],
            "p90_us": told["p90_us"],
            "server_busy": cpu / told["seconds"],
            "load_busy": told["busy"],
            "other_cpus": max(0.0, machine - cpu - told["busy"] * told["seconds"]) / told["seconds"],
        }
    finally:
        server.process.kill()
        server.process.wait()


def idle(name, number):
    """Resident bytes of a member that says nothing, of so many in rooms of a hundred."""
    server = Server(SERVERS[name])
    try:
        # What the first connections cost once is no connection's.
        first = Load(server, [path(f"w{number // 10}") for number in range(100)], 10, 1, 1)
        before = server.resident()
        load = Load(server, [path(f"r{number // 100}") for number in range(number)], 100, 1, 1)
        bytes_each = (server.resident() - before) / number
        load.end()
        first.end()
        return {"bytes": bytes_each}
    finally:
        server.process.kill()
        server.process.wait()


def compare(what, repeat, measure):
    """Both in turns; medians with the lowest and the highest, and the ratio of the medians."""
    runs = {name: [] for name in SERVERS}
    for turn in range(repeat):
        names = list(SERVERS)
        for name in names if turn % 2 == 0 else reversed(names):
            runs[name].append(measure(name))
    print(f"\n{what}")
    for figure in runs["ours"][0]:
        values = {name: sorted(run[figure] for run in runs[name]) for name in SERVERS}
        middle = {name: statistics.median(values[name]) for name in SERVERS}
        shown = "  ".join(
            f"{name} {middle[name]:>10,.2f} ({values[name][0]:,.2f} to {values[name][-1]:,.2f})" for name in SERVERS
        )
        print(f"  {figure:<22} {shown}  ratio {middle['ours'] / max(middle['node'], 1e-9):.2f}", flush=True)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeat", type=int, default=7)
    options.add_argument("--seconds", type=float, default=4)
    options.add_argument("--deliveries", default="20000,60000,150000,inf", help="offered, a second; inf: as many as are taken")
    options.add_argument("--members", default="10,100")
    options.add_argument("--idle", default="1000,5000")
    options = options.parse_args()
    try:
        # A larger share for both servers and the load alike, where that is permitted.
        os.nice(-10)
    except PermissionError:
        pass
    for number in filter(None, map(int, filter(None, options.idle.split(",")))):
        compare(f"{number} members that say nothing", 3, lambda name: idle(name, number))
    for members in map(int, options.members.split(",")):
        for deliveries in map(float, options.deliveries.split(",")):
            compare(
                f"rooms of {members}, {deliveries:,.0f} deliveries/s of {BYTES} bytes",
                options.repeat,
                lambda name: relay(name, members, deliveries, options.seconds),
            )


if __name__ == "__main__":
    main()
