#!/usr/bin/env python3
"""Compares the MOQT echo with an echo built on the crate moq-net, over raw QUIC and WebTransport, with moq-lite-04.

    cargo build --release
    cargo build --release --manifest-path tests/moq_peers/Cargo.toml
    python3 benches/moqt_side_by_side.py [--repeat 7] [--connections 100]

Requires Linux and Python's standard library. Each server runs alone on the first processor, and the client on the last. `probe` measures
both servers; the client of moq-net measures round trips in addition. Prints medians (minimum to maximum) and the ratios of the medians.
docs/dev/benchmarks.md explains the figures and lists results.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

from moqt import RATES, SCHEMES, Server, our_server, pinned, round_trip, throughput
from rooms import PROGRAM

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEERS = ROOT / "tests" / "moq_peers" / "target" / "release" / "moq_peers"
VERSION = "moq-lite-04"
SERVERS = {
    # All clients have the same address, whose share of the default budget is too small for the connections of `memory`.
    "ours": our_server(PROGRAM, "--memory-budget", "2GiB"),
    "moq-net": lambda address: [PEERS, "server", address, VERSION],
}


class MoqNetClients:
    """Clients built on moq-net, whose connections stay open until `close`."""

    def __init__(self, server, scheme, connections, groups, interval_ms):
        url = f"{scheme}://localhost:{server.port}/echo"
        words = [str(word) for word in [PEERS, "client", url, VERSION, connections, groups, interval_ms]]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(words, preexec_fn=pinned(max), **pipes)
        line = self.process.stdout.readline()
        self.results = json.loads(line) if line else sys.exit("moq-net's client failed")
        if self.results["returned"] != self.results["sent"]:
            sys.exit(f"groups were lost: {self.results}")

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)


def round_trips(server, scheme, _):
    clients = MoqNetClients(server, scheme, 1, 500, 10)
    clients.close()
    probed = round_trip(PROGRAM, server, scheme, VERSION)
    return {**probed, "p50_us, moq-net's client": clients.results["round_trip_p50_us"]}


def rates(server, scheme, _):
    return throughput(PROGRAM, server, scheme, VERSION, [16, 32, *RATES])


def memory(server, scheme, connections):
    """Resident bytes per connection. On each connection, one group has been returned."""
    # Exclude one-time allocations of the first connections.
    first = MoqNetClients(server, scheme, 10, 1, 1)
    time.sleep(1)
    before = server.resident()
    more = MoqNetClients(server, scheme, connections, 1, 1)
    time.sleep(1)
    each = (server.resident() - before) / connections
    more.close()
    first.close()
    return {"KiB per connection": each / 1024}


def wait_until_ready(server):
    """Returns when the server has echoed a group."""
    words = [PEERS, "client", f"moqt://localhost:{server.port}/echo", VERSION, "1", "1", "1"]
    for _ in range(50):
        if subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    sys.exit("the server does not start")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeat", type=int, default=7)
    options.add_argument("--connections", type=int, default=100)
    options = options.parse_args()
    for measure in [round_trips, rates, memory]:
        for transport, scheme in SCHEMES.items():
            runs = {name: [] for name in SERVERS}
            for turn in range(options.repeat):
                names = list(SERVERS)
                for name in names if turn % 2 == 0 else reversed(names):
                    server = Server(SERVERS[name])
                    try:
                        wait_until_ready(server)
                        runs[name].append(measure(server, scheme, options.connections))
                    finally:
                        server.stop()
            print(f"\n{measure.__name__.replace('_', ' ')}, {transport}")
            for figure in runs["ours"][0]:
                values = {name: sorted(run[figure] for run in runs[name]) for name in SERVERS}
                median = {name: statistics.median(values[name]) for name in SERVERS}
                shown = "  ".join(
                    f"{name} {median[name]:>9,.2f} ({values[name][0]:,.2f} to {values[name][-1]:,.2f})" for name in SERVERS
                )
                ratio = median["ours"] / max(median["moq-net"], 1e-9)
                print(f"  {figure:<28} {shown}  ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
