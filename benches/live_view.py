#!/usr/bin/env python3
"""Measures what the live view costs: interleaved pairs of runs with and without it.

    cargo build --release && python3 benches/live_view.py [--pairs 20] [--seconds 5] [--control]

Each run sends AUDIO every 2.667 ms to an embedded echo server. With the view, standard error is a terminal of 80x24 characters that is read
continuously. Prints the medians of both series, their ratio, and its 95 % confidence interval (bootstrap over the pairs). With --control,
no run has the view: the ratios then show what chance alone does.
"""

import argparse
import fcntl
import json
import os
import pathlib
import pty
import random
import statistics
import struct
import subprocess
import termios
import threading

PROGRAM = pathlib.Path(__file__).resolve().parent.parent / "target" / "release" / "jamjam-dev"
FIGURES = {"pacing error p50": ("pacing", "pacing_p50_us"), "round trip p99": ("streams", "audio", "rtt_p99_us"), "round trip p50": ("streams", "audio", "rtt_p50_us")}


def run(seconds, with_view):
    """The report of one run."""
    command = [PROGRAM, "probe", "--embedded", "--packet", "audio", "--interval", "2667us", "--duration", f"{seconds}s", "--json"]
    if not with_view:
        return json.loads(subprocess.run([*command, "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout)
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    drawn = []

    def drain():
        try:
            while chunk := os.read(master, 65536):
                drawn.append(chunk)
        except OSError:
            pass

    reader = threading.Thread(target=drain)
    reader.start()
    output = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, check=True).stdout
    os.close(terminal)
    reader.join()
    os.close(master)
    assert b"round trip" in b"".join(drawn), "the view was not drawn"
    return json.loads(output)


def ratio_interval(without, with_view):
    """The 95 % confidence interval of the ratio of the medians."""
    generator = random.Random(1)
    pairs = list(zip(without, with_view))
    ratios = []
    for _ in range(10_000):
        sample = generator.choices(pairs, k=len(pairs))
        ratios.append(statistics.median(pair[1] for pair in sample) / statistics.median(pair[0] for pair in sample))
    ratios.sort()
    return ratios[250], ratios[-251]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--control", action="store_true")
    options = parser.parse_args()
    values = {name: ([], []) for name in FIGURES}
    for pair in range(options.pairs):
        # The order alternates, so that a drift of the machine's speed affects both series.
        for with_view in (True, False) if pair % 2 else (False, True):
            report = run(options.seconds, with_view and not options.control)
            for name, path in FIGURES.items():
                value = report
                for key in path:
                    value = value[key]
                values[name][with_view].append(value)
    print(f"{options.pairs} interleaved pairs of {options.seconds} s; medians in µs")
    for name, (without, with_view) in values.items():
        medians = statistics.median(without), statistics.median(with_view)
        low, high = ratio_interval(without, with_view)
        print(f"{name:18} without {medians[0]:8.2f}  with {medians[1]:8.2f}  ratio {medians[1] / medians[0]:.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
