#!/usr/bin/env python3
"""Measures the MOQT echo over loopback: round trip and throughput, over raw QUIC and WebTransport in turns.

    cargo build --release
    python3 benches/moqt.py [--repeat 5] [--program FILE]

Linux, and Python's standard library only. Both ends are ours: the server on one processor, `probe` on another. What is printed is what
`probe` tells (docs/measuring.md), and the server's processor time by /proc. docs/benchmarks.md tells what the figures mean, and has some.
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
SMALL, LARGE = 100, 32 * 1024  # bytes of a frame
RATES = [64, 128, 192, 256, 384, 512, 768, 1024]  # MiB/s offered each way


def pinned(choose):
    return lambda: os.sched_setaffinity(0, {choose(os.sched_getaffinity(0))})


class Server:
    def __init__(self, program):
        with socket.socket(type=socket.SOCK_DGRAM) as any_port:
            any_port.bind(("127.0.0.1", 0))
            self.port = any_port.getsockname()[1]
        command = [program, "echo-server", "--moqt-only", "--moqt", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(command, env={**os.environ, "RUST_LOG": "warn"}, preexec_fn=pinned(min))

    def cpu(self):
        """Seconds of processor time of all its threads."""
        threads = pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(10) != 0:
            sys.exit("the server did not end well")


def probe(program, server, scheme, count, interval_us, size):
    target = f"{scheme}://127.0.0.1:{server.port}/echo"
    options = ["--insecure", "--wait-for", "5s", "--json", "--count", count, "--interval", f"{interval_us}us", "--size", size]
    command = [str(word) for word in [program, "probe", "--to", target, *options]]
    cpu = server.cpu()
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=pinned(max))
    report = json.loads(ended.stdout)
    return {
        **report["streams"]["ping"],
        "server_cpu": server.cpu() - cpu,
    }


def round_trip(program, server, scheme):
    run = probe(program, server, scheme, 500, 10_000, SMALL)
    if run["returned"] != run["sent"]:
        sys.exit(f"{run['lost']} frames were lost at 100 a second")
    return {"p50_us": run["rtt_p50_us"], "p90_us": run["rtt_p90_us"], "p99_us": run["rtt_p99_us"]}


def throughput(program, server, scheme):
    """The highest of RATES, going up, at which 99 in 100 frames come back, each within a second, and what the server does for it."""
    best = None
    for rate in RATES:
        interval_us = LARGE / (rate * 1.048576)
        count = int(2e6 / interval_us)
        run = probe(program, server, scheme, count, round(interval_us), LARGE)
        if run["returned"] < 0.99 * count or run["rtt_max_us"] > 1e6:
            break
        mib = count * LARGE / 2**20
        best = {"MiB/s each way": rate, "server ms/MiB": run["server_cpu"] * 1e3 / mib, "p50_us there": run["rtt_p50_us"]}
    if best is None:
        sys.exit(f"not even {RATES[0]} MiB/s came back")
    return best


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
                server = Server(options.program)
                try:
                    runs[name].append(measure(options.program, server, SCHEMES[name]))
                finally:
                    server.end()
        print(f"\n{measure.__name__.replace('_', ' ')}")
        for figure in runs["raw QUIC"][0]:
            values = {name: sorted(run[figure] for run in runs[name]) for name in SCHEMES}
            shown = [f"{name} {statistics.median(of):9,.2f} ({of[0]:,.2f} to {of[-1]:,.2f})" for name, of in values.items()]
            print(f"  {figure:<16} {'   '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()
