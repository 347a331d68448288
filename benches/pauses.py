#!/usr/bin/env python3
"""Soak: stops and continues a sender and an echo server at random, and checks that the counts of each report add up.

Both run on loopback, which loses nothing. Each run pauses the client or the server (SIGSTOP, SIGCONT) for 0.1 to 8 s, several times.
The script ends with exit code 1 at the first run whose report is wrong, and prints the report.

    benches/pauses.py --program target/release/jamjam-dev --runs 60 --seconds 60 --seed 1
"""

import argparse
import json
import random
import re
import signal
import subprocess
import sys
import time

# A server needs a reply time-out above the longest pause: packets that wait for a paused server at the end are otherwise lost.
TIMEOUT_S = 15
LONGEST_PAUSE_S = 8.0
STREAMS = ("audio", "ping", "keepalive")


def start_server(program, options):
    command = [program, "echo-server", "--host", "127.0.0.1", "--port", "0", "--delay", "100", *options]
    # In a session of its own, because the kernel continues the stopped processes of a shell that exits.
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    for line in server.stderr:
        found = re.search(r"listening on 127\.0\.0\.1:(\d+)", line)
        if found:
            # The pipe is large enough for the few further lines.
            return server, found.group(1)
    raise SystemExit("the server did not start")


def pause(process, seconds):
    """Returns when the pause began and ended."""
    process.send_signal(signal.SIGSTOP)
    began = time.time()
    time.sleep(seconds)
    process.send_signal(signal.SIGCONT)
    return began, time.time()


def run(program, seconds, rng, server_options):
    """One run. Returns the report, the exit code and the injected pauses of both hosts, each with its begin and end."""
    server, port = start_server(program, server_options)
    target = ["--to", f"127.0.0.1:{port}", "--timeout", f"{TIMEOUT_S}s", "--json"]
    if rng.random() < 0.5:
        command = [program, "send", "--tone", "440", "--duration", f"{seconds}s", *target]
    else:
        command = [program, "probe", "--interval", "5ms", "--count", str(seconds * 200), *target]
    injected = {"client": [], "server": []}
    began = time.monotonic()
    client = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    time.sleep(0.5)
    while True:
        length = min(rng.uniform(0.1, LONGEST_PAUSE_S), rng.uniform(0.1, LONGEST_PAUSE_S))
        running = rng.uniform(0.5, 6.0)
        # Each pause ends before the run.
        if time.monotonic() - began + running + length > seconds - 1:
            break
        time.sleep(running)
        who = rng.choice(("client", "server"))
        injected[who].append(pause(client if who == "client" else server, length))
    output, _ = client.communicate(timeout=seconds + 60)
    server.terminate()
    server.wait()
    return command[1], json.loads(output), client.returncode, injected


def violations(report, exit_code, injected):
    found = []
    for name in STREAMS:
        stream = report["streams"][name]
        if stream is None:
            continue
        parts = ("returned", "damaged", "lost", "dropped_by_this_host", "dropped_by_server_host", "in_flight")
        total = sum(stream[part] for part in parts)
        if stream["sent"] != total:
            found.append(f"{name}: sent {stream['sent']} is not the sum of the outcomes {total}")
        if stream["lost"] > 0:
            found.append(f"{name}: {stream['lost']} lost on a loss-free path")
        planned = planned_packets(report, name)
        if planned is not None and planned != stream["sent"] + stream["not_sent"]:
            found.append(f"{name}: planned {planned} is not sent {stream['sent']} + not sent {stream['not_sent']}")
    evaluated = report["streams"][report["evaluated_stream"]]
    too_few = 2 * evaluated["sent"] < evaluated["sent"] + evaluated["not_sent"]
    if exit_code != int(too_few):
        found.append(f"exit code {exit_code}, expected {int(too_few)}: {report['verdict']}")
    # A busy machine adds pauses and short stalls of its own.
    is_busy = False
    for who, part in (("client", report["host_timing"]), ("server", report["server"] or {})):
        # A client that started late reports the rest of a pause.
        start = report["started_unix_ms"]
        expected = sum(max(0.0, 1e3 * end - max(start, 1e3 * began)) for began, end in injected[who])
        reported = part.get("paused_ms", 0.0)
        has_own_pauses = part.get("pauses", 0) > len(injected[who])
        is_busy |= has_own_pauses
        if reported < 0.95 * expected - 60 or not has_own_pauses and reported > 1.05 * expected + 60:
            found.append(f"{who}: injected {expected:.0f} ms, reported {reported:.0f} ms")
    if report["findings"] and not is_busy:
        found.append(f"findings about a faultless path: {report['findings']}")
    return found


def planned_packets(report, stream):
    if report["command"] == "probe":
        return int(re.search(r"--count (\d+)", report["command_line"]).group(1)) if stream == "ping" else None
    seconds = int(re.search(r"--duration (\d+)s", report["command_line"]).group(1))
    return seconds * 375 if stream == "audio" else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default="target/release/jamjam-dev")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit-loopback", action="store_true", help="apply the rate limits of the server to loopback")
    options = parser.parse_args()
    server_options = ["--limit-loopback"] if options.limit_loopback else []
    for number in range(options.runs):
        seed = options.seed + number
        command, report, exit_code, injected = run(options.program, options.seconds, random.Random(seed), server_options)
        found = violations(report, exit_code, injected)
        stream = report["streams"][report["evaluated_stream"]]
        counts = {
            name: stream[name]
            for name in ("sent", "not_sent", "returned", "lost", "dropped_by_this_host", "dropped_by_server_host")
        }
        pauses = ", ".join(
            f"{who} {len(times)} pauses, {sum(end - began for began, end in times):.1f} s" for who, times in injected.items()
        )
        print(f"seed {seed}: {command}, {pauses}, {counts}, p99 {stream['rtt_p99_us']} µs", flush=True)
        if found:
            print(json.dumps(report, indent=1)[:20_000])
            print("\n".join(found))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
