#!/usr/bin/env python3
"""Measures round-trip time and throughput of the MOQT echo over loopback, alternating between raw QUIC and WebTransport.

    cargo build --release
    python3 benches/moqt.py [--repeat 5] [--program FILE]

Requires Linux and Python's standard library. The server is pinned to one processor and `probe` to another. Prints the results of
`probe` (docs/measuring.md) and the server's CPU time from /proc. docs/dev/benchmarks.md explains the figures and lists results.
"""

import argparse
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys

from rooms import PROGRAM

SCHEMES = {"raw QUIC": "moqt", "WebTransport": "https"}
SMALL, LARGE = 100, 32 * 1024  # frame sizes in bytes
RATES = [64, 128, 192, 256, 384, 512, 768, 1024]  # offered load in MiB/s per direction


def pinned(choose):
    return lambda: os.sched_setaffinity(0, {choose(os.sched_getaffinity(0))})


def our_server(program, *options):
    return lambda address: [program, "echo-server", "--moqt-only", "--moqt", address, *options]


class Server:
    """A server on the first processor. `command` returns its command line for an address."""

    def __init__(self, command):
        with socket.socket(type=socket.SOCK_DGRAM) as probe_socket:
            probe_socket.bind(("127.0.0.1", 0))
            self.port = probe_socket.getsockname()[1]
        words = command(f"127.0.0.1:{self.port}")
        self.process = subprocess.Popen(
            words,
            env={**os.environ, "RUST_LOG": "warn"},
            stdout=subprocess.DEVNULL,
            preexec_fn=pinned(min),
        )

    def cpu(self):
        """CPU time of all threads in seconds."""
        threads = pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9

    def resident(self):
        """Resident memory in bytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(10) not in [0, -signal.SIGTERM]:
            sys.exit("the server exited with an error")


def probe(program, server, scheme, count, interval_us, size, version=None):
    target = f"{scheme}://127.0.0.1:{server.port}/echo"
    options = ["--insecure", "--wait-for", "5s", "--json", "--count", count, "--interval", f"{interval_us}us", "--size", size]
    if version:
        options += ["--moqt-version", version]
    command = [str(word) for word in [program, "probe", "--to", target, *options]]
    cpu = server.cpu()
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=pinned(max))
    report = json.loads(result.stdout)
    return {
        **report["streams"]["ping"],
        "server_cpu": server.cpu() - cpu,
    }


def round_trip(program, server, scheme, version=None):
    run = probe(program, server, scheme, 500, 10_000, SMALL, version)
    if run["returned"] != run["sent"]:
        sys.exit(f"{run['lost']} frames were lost at 100 frames/s")
    return {"p50_us": run["rtt_p50_us"], "p90_us": run["rtt_p90_us"], "p99_us": run["rtt_p99_us"]}


def throughput(program, server, scheme, version=None, rates=RATES):
    """The highest of `rates` at which at least 99 % of the frames return and no RTT exceeds one second, with the server's CPU time."""
    lowest = best = None
    for rate in rates:
        interval_us = LARGE / (rate * 1.048576)
        count = int(2e6 / interval_us)
        run = probe(program, server, scheme, count, round(interval_us), LARGE, version)
        if run["returned"] < 0.99 * count or run["rtt_max_us"] > 1e6:
            break
        mib = count * LARGE / 2**20
        cpu_ms = run["server_cpu"] * 1e3 / mib
        lowest = lowest or {f"server ms/MiB at {rate} MiB/s": cpu_ms}
        best = {"MiB/s each way": rate, "server ms/MiB": cpu_ms, "p50_us": run["rtt_p50_us"]}
    if best is None:
        sys.exit(f"frames were lost at the lowest rate, {rates[0]} MiB/s")
    return {**best, **lowest}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeat", type=int, default=5)
    options.add_argument("--program", type=pathlib.Path, default=PROGRAM)
    options = options.parse_args()
    for measure in [round_trip, throughput]:
        runs = {name: [] for name in SCHEMES}
        for turn in range(options.repeat):
            names = list(SCHEMES)
            for name in names if turn % 2 == 0 else reversed(names):
                server = Server(our_server(options.program))
                try:
                    runs[name].append(measure(options.program, server, SCHEMES[name]))
                finally:
                    server.stop()
        print(f"\n{measure.__name__.replace('_', ' ')}")
        for figure in runs["raw QUIC"][0]:
            values = {name: sorted(run[figure] for run in runs[name]) for name in SCHEMES}
            shown = [f"{name} {statistics.median(sample):9,.2f} ({sample[0]:,.2f} to {sample[-1]:,.2f})" for name, sample in values.items()]
            print(f"  {figure:<28} {'   '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()
