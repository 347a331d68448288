"""A test of a client against an echo server with a room. The server ends with this program, however it ends."""
import json, os, pathlib, socket, subprocess, tempfile, time

OPTIONS = "--host 127.0.0.1 --port 0 --with-signaling=0 --delay 100 --check --json --ready-file".split()
with tempfile.TemporaryDirectory() as folder:
    ready_file = pathlib.Path(folder) / "ready.json"
    command = [os.environ.get("JAMJAM_DEV", "jamjam-dev"), "echo-server", *OPTIONS, ready_file]
    environment = os.environ | {"JAMJAM_END_WITH_STDIN": "1"}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        while not ready_file.exists() and server.poll() is None:
            time.sleep(0.01)
        ready = json.loads(ready_file.read_text())
        print("join", ready["room"]["code"], "on", ready["signaling_url"], "or send to", ready["udp"])
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.settimeout(10)
        host, port = ready["udp"].split(":")
        client.sendto(b"\x01\x01" + bytes(10 + 512), (host, int(port)))  # one packet of AUDIO
        assert len(client.recv(2000)) == 524
        report, _ = server.communicate()  # closes standard input
print(json.loads(report)["failures"] or "passed")
