#!/usr/bin/env python3
"""Compares `jamjam-dev probe`, sockperf and irtt on a loopback path and prints median round-trip times.

    cargo build --release
    python3 benches/compare.py [--rounds 5] [--seconds 5] [--rate 100,1000]
    python3 benches/compare.py --impaired [--seed 7]

Each tool sends the same number of datagrams of the same size at the same rate to its own server, one tool at a time. Rounds
are interleaved, so that changes in machine load affect all tools equally. sockperf and irtt are the Debian packages of these
names. By default sockperf reports half of the round-trip time; --full-rtt selects the whole.

The tools take receive times differently: sockperf (ping-pong) and irtt read the clock in user space after waking up, so their
results include the wake-up latency. probe uses the kernel's receive timestamp. With `--driver portable` it reads the clock in
user space as well.

With --impaired, probe and irtt each connect to their own server through `jamjam-dev relay`, which drops and duplicates replies
pseudorandomly, and the counts of the tools are compared with its outcome log. Of irtt, the log also contains replies that set the
connection up, which irtt does not count.
"""

import argparse
import csv
import json
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

PROGRAM = pathlib.Path(__file__).resolve().parent.parent / "target" / "release" / "jamjam-dev"
SIZE = 60  # datagram length in bytes: irtt's minimum with timestamps and counts


def run(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        return probe_socket.getsockname()[1]


class Server:
    """A server process for the duration of one measurement."""

    def __init__(self, *command):
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def jamjam_probe(rate, seconds, *options):
    with tempfile.TemporaryDirectory() as folder:
        ready = pathlib.Path(folder) / "ready.json"
        server = [PROGRAM, "echo-server", "--host", "127.0.0.1", "--port", 0, "--delay", 0, "--ready-file", ready]
        with Server(*server):
            text = run(
                PROGRAM, "probe", "--to", json.loads(ready.read_text())["udp"], "--packet", "audio", "--size", SIZE - 12, "--delay", 0,
                "--interval", f"{1e6 / rate}us", "--count", rate * seconds, "--json", *options,
            )
    numbers = json.loads(text)["streams"]["audio"]
    return {"sent": numbers["sent"], "lost": numbers["lost"], **{p: numbers[f"rtt_{p}_us"] for p in ("p50", "p99")}}


def sockperf(rate, seconds):
    path = ["-i", "127.0.0.1", "-p", 21111]
    with Server("sockperf", "server", *path):
        text = run("sockperf", "ping-pong", *path, "-t", seconds, "--mps", rate, "-m", SIZE, "--full-rtt")
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)  # sockperf colors its output even in a pipe
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
    "probe": jamjam_probe,
    "probe, user-space clock": lambda rate, seconds: jamjam_probe(rate, seconds, "--driver", "portable"),
    "sockperf": sockperf,
    "irtt": irtt,
}


def impaired(seed, count):
    """Compares the counts of each tool with those of the relay, for `count` packets."""
    print("| tool | sent | lost (tool) | lost (relay) | duplicates (tool) | duplicates (relay) |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for tool in ("probe", "irtt"):
        server_port, relay_address = free_port(), f"127.0.0.1:{free_port()}"
        if tool == "probe":
            server = [PROGRAM, "echo-server", "--host", "127.0.0.1", "--port", server_port, "--delay", 0]
            client = [PROGRAM, "probe", "--to", relay_address, "--packet", "audio", "--size", SIZE - 12, "--delay", 0, "--timeout", "500ms",
                      "--interval", "2ms", "--count", count, "--json"]
        else:
            server = ["irtt", "server", "-b", f"127.0.0.1:{server_port}", "-i", 0]
            client = ["irtt", "client", "-Q", "-o", "-", "-i", "2ms", "-d", f"{count * 2}ms", "-l", SIZE, "--timer=busy",
                      "--stats=none", "--tstamp=none", "--wait=500ms", relay_address]
        with tempfile.TemporaryDirectory() as folder, Server(*server):
            log = pathlib.Path(folder) / "outcomes.csv"
            relay = [PROGRAM, "relay", relay_address, f"127.0.0.1:{server_port}", "--down", "loss 3% duplicate 1%"]
            with Server(*relay, "--seed", seed, "--outcome-log", log):
                report = json.loads(run(*client))
            with log.open() as rows:
                replies = [row for row in csv.DictReader(rows) if row["direction"] == "down"]
        relayed_lost = sum(row["outcome"] == "lost" for row in replies)
        relayed_twice = sum(row["copies"] == "2" for row in replies)
        if tool == "probe":
            audio = report["streams"]["audio"]
            sent, lost, duplicated = audio["sent"], audio["lost"], audio["duplicated"]
        else:
            stats = report["stats"]
            sent, duplicated = stats["packets_sent"], stats["duplicates"]
            lost = sent - (stats["packets_received"] - duplicated)
        print(f"| {tool} | {sent} | {lost} | {relayed_lost} | {duplicated} | {relayed_twice} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rate", default="100,1000", help="datagrams per second, comma-separated")
    parser.add_argument("--impaired", action="store_true", help="compare loss and duplicate counts on an impaired path instead")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    if missing := [tool for tool in ("sockperf", "irtt") if not shutil.which(tool)]:
        sys.exit(f"compare.py: not installed: {', '.join(missing)} (Debian: apt-get install sockperf irtt)")
    if not PROGRAM.exists():
        sys.exit(f"compare.py: {PROGRAM} is missing: cargo build --release")
    if arguments.impaired:
        return impaired(arguments.seed, 3_000)
    print("| rate | tool | p50 (median of rounds) | vs. sockperf | p99 | lost |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for rate in (int(rate) for rate in arguments.rate.split(",")):
        rounds = {tool: [] for tool in TOOLS}
        for round_number in range(arguments.rounds):
            # Rotate the order, so that no tool always follows the same one.
            order = list(TOOLS)
            for tool in order[round_number % len(order):] + order[: round_number % len(order)]:
                rounds[tool].append(TOOLS[tool](rate, arguments.seconds))
        median_p50 = {tool: statistics.median(result["p50"] for result in results) for tool, results in rounds.items()}
        for tool, results in rounds.items():
            p99 = statistics.median(result["p99"] for result in results)
            lost, sent = sum(result["lost"] for result in results), sum(result["sent"] for result in results)
            difference = median_p50[tool] - median_p50["sockperf"]
            print(f"| {rate}/s | {tool} | {median_p50[tool]:.1f} µs | {difference:+.1f} µs | {p99:.1f} µs | {lost} of {sent} |", flush=True)


if __name__ == "__main__":
    main()
