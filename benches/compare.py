#!/usr/bin/env python3
"""Measures one loopback path with `jamjam-dev probe`, sockperf and irtt, turn by turn, and prints their medians.

    cargo build --release --examples && cargo build --release
    python3 benches/compare.py [--rounds 5] [--seconds 5] [--rate 100,1000]
    python3 benches/compare.py --impaired [--seed 7]

All three send the same number of datagrams of the same size at the same rate, each to its own server, and none but one
at a time; the rounds are interleaved, because a machine has better and worse minutes. sockperf and irtt are Debian's
packages of those names. What is compared is the round trip; sockperf is asked for it by --full-rtt, else it halves it.

Two ways of measuring: sockperf (ping-pong) and irtt read the clock in the program, after it has been woken; probe takes
the kernel's stamp of the answer, so its own wake-up is not in it. `--driver portable` reads the clock in the program too.

With --impaired, probe and irtt each speak to their own server through a relay that loses and doubles answers by a seed
(examples/impaired_relay.rs), and what they count is held against what the relay did.
"""

import argparse
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
RELAY = PROGRAM.parent / "examples" / "impaired_relay"
SIZE = 60  # bytes of a datagram: irtt's smallest with its time stamps and counts


def run(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stdout


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_port:
        any_port.bind(("127.0.0.1", 0))
        return any_port.getsockname()[1]


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


def impaired(seed, count):
    """What each tool counts of `count` packets through the relay, beside what the relay did."""
    print("| tool | sent | lost, as it says | as the relay says | duplicates, as it says | as the relay says |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for tool in ("probe", "irtt"):
        server, front = free_port(), f"127.0.0.1:{free_port()}"
        if tool == "probe":
            serving = [PROGRAM, "echo-server", "--host", "127.0.0.1", "--port", server, "--delay", 0]
            asking = [PROGRAM, "probe", "--to", front, "--audio", "--size", SIZE - 12, "--hold", 0, "--timeout", "500ms",
                      "--interval", "2ms", "--count", count, "--json"]
        else:
            serving = ["irtt", "server", "-b", f"127.0.0.1:{server}", "-i", 0]
            asking = ["irtt", "client", "-Q", "-o", "-", "-i", "2ms", "-d", f"{count * 2}ms", "-l", SIZE, "--timer=busy",
                      "--stats=none", "--tstamp=none", "--wait=500ms", front]
        with Server(*serving):
            relay = [RELAY, front, f"127.0.0.1:{server}", SIZE, 3, 1, seed]
            relay = subprocess.Popen([str(word) for word in relay], stdout=subprocess.PIPE, text=True)
            time.sleep(0.2)
            said = json.loads(run(*asking))
            did = json.loads(relay.communicate(timeout=30)[0])
        if tool == "probe":
            audio = said["streams"]["audio"]
            sent, lost, doubled = audio["sent"], audio["lost"], audio["duplicated"]
        else:
            stats = said["stats"]
            sent, doubled = stats["packets_sent"], stats["duplicates"]
            lost = sent - (stats["packets_received"] - doubled)
        print(f"| {tool} | {sent} | {lost} | {did['lost']} | {doubled} | {did['doubled']} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rate", default="100,1000", help="datagrams a second, one or more")
    parser.add_argument("--impaired", action="store_true", help="compare what is counted on a bad path instead")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    if missing := [tool for tool in ("sockperf", "irtt") if not shutil.which(tool)]:
        sys.exit(f"compare.py: not installed: {', '.join(missing)} (Debian: apt-get install sockperf irtt)")
    if not PROGRAM.exists():
        sys.exit(f"compare.py: {PROGRAM} is missing: cargo build --release")
    if arguments.impaired:
        return impaired(arguments.seed, 3_000)
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
