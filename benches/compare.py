#!/usr/bin/env python3
"""Measures one loopback path with `jamjam-dev probe`, sockperf and irtt, turn by turn, and prints their medians.

    cargo build --release && python3 benches/compare.py [--rounds 5] [--seconds 5] [--rate 100,1000]

All three send the same number of datagrams of the same size at the same rate, each to its own server, and none but one
at a time; the rounds are interleaved, because a machine has better and worse minutes. sockperf and irtt are Debian's
packages of those names. What is compared is the round trip; sockperf is asked for it by --full-rtt, else it halves it.

Two ways of measuring: sockperf (ping-pong) and irtt read the clock in the program, after it has been woken; probe takes
the kernel's stamp of the answer, so its own wake-up is not in it. `--driver portable` reads the clock in the program too.
"""

import argparse
import json
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

PROGRAM = pathlib.Path(__file__).resolve().parent.parent / "target" / "release" / "jamjam-dev"
SIZE = 60  # bytes of a datagram: irtt's smallest with its time stamps and counts


def run(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout


class Server:
    """A server that runs while one client measures it."""

    def __init__(self, *command):
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def ours(rate, seconds, *options):
    with tempfile.TemporaryDirectory() as folder:
        address = pathlib.Path(folder) / "address"
        serving = [PROGRAM, "echo-server", "--host", "127.0.0.1", "--port", 0, "--delay", 0, "--address-file", address]
        with Server(*serving):
            text = run(
                PROGRAM, "probe", "--to", address.read_text().strip(), "--audio", "--size", SIZE - 12, "--hold", 0,
                "--interval", f"{1e6 / rate}us", "--count", rate * seconds, "--json", *options,
            )
    numbers = json.loads(text)["streams"]["audio"]
    return {"sent": numbers["sent"], "lost": numbers["lost"], **{p: numbers[f"rtt_{p}_us"] for p in ("p50", "p99")}}


def sockperf(rate, seconds):
    path = ["-i", "127.0.0.1", "-p", 21111]
    with Server("sockperf", "server", *path):
        text = run("sockperf", "ping-pong", *path, "-t", seconds, "--mps", rate, "-m", SIZE, "--full-rtt")
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)  # it colours what goes into a pipe
    percentile = {p: float(us) for p, us in re.findall(r"percentile ([0-9.]+) = +([0-9.]+)", text)}
    sent, received = re.search(r"\[Valid Duration\].*SentMessages=(\d+); ReceivedMessages=(\d+)", text).groups()
    return {"sent": int(sent), "lost": int(sent) - int(received), "p50": percentile["50.000"], "p99": percentile["99.000"]}


def irtt(rate, seconds):
    with Server("irtt", "server", "-b", "127.0.0.1:21112", "-i", "0"):
        text = run(
            "irtt", "client", "-Q", "-o", "-", "-i", f"{1e6 / rate}us", "-d", f"{seconds}s", "-l", SIZE,
            "--stats=none", "--tstamp=none", "--wait=500ms", "127.0.0.1:21112",
        )
    text = json.loads(text)
    trips = sorted(trip["delay"]["rtt"] / 1e3 for trip in text["round_trips"] if trip["lost"] == "false")
    sent = text["stats"]["packets_sent"]
    return {"sent": sent, "lost": sent - len(trips), "p50": statistics.median(trips), "p99": trips[int(len(trips) * 0.99)]}


TOOLS = {
    "probe": lambda rate, seconds: ours(rate, seconds),
    "probe, clock in the program": lambda rate, seconds: ours(rate, seconds, "--driver", "portable"),
    "sockperf": sockperf,
    "irtt": irtt,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rate", default="100,1000", help="datagrams a second, one or more")
    arguments = parser.parse_args()
    if missing := [tool for tool in ("sockperf", "irtt") if not shutil.which(tool)]:
        sys.exit(f"compare.py: not installed: {', '.join(missing)} (Debian: apt-get install sockperf irtt)")
    if not PROGRAM.exists():
        sys.exit(f"compare.py: {PROGRAM} is missing: cargo build --release")
    print("| rate | tool | p50 (median of rounds) | of sockperf's | p99 | lost |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for rate in (int(rate) for rate in arguments.rate.split(",")):
        rounds = {tool: [] for tool in TOOLS}
        for turn in range(arguments.rounds):
            # Each round begins with another tool, so that none always has the same neighbour.
            order = list(TOOLS)
            for tool in order[turn % len(order):] + order[: turn % len(order)]:
                rounds[tool].append(TOOLS[tool](rate, arguments.seconds))
        middle = {tool: statistics.median(one["p50"] for one in each) for tool, each in rounds.items()}
        for tool, each in rounds.items():
            p99 = statistics.median(one["p99"] for one in each)
            lost, sent = sum(one["lost"] for one in each), sum(one["sent"] for one in each)
            difference = middle[tool] - middle["sockperf"]
            print(f"| {rate}/s | {tool} | {middle[tool]:.1f} µs | {difference:+.1f} µs | {p99:.1f} µs | {lost} of {sent} |", flush=True)


if __name__ == "__main__":
    main()
