"""A test of a client in a room with an echo server, on a line that the test severs. The servers end with this program, however it ends."""
import base64, json, os, pathlib, secrets, subprocess, tempfile, time, urllib.request

PROGRAM, PASSWORD = os.environ.get("JAMJAM_DEV", "jamjam-dev"), secrets.token_hex()
LOGIN = "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
OPTIONS = "--host 127.0.0.1 --port 0 --check --json --ready-file".split()

def start(folder, subcommand, *options):
    ready_file = pathlib.Path(folder) / subcommand
    environment = os.environ | {"JAMJAM_END_WITH_STDIN": "1", "DOCS_PASSWORD": PASSWORD}
    command = [PROGRAM, subcommand, *OPTIONS, ready_file, *options]
    server = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    while not ready_file.exists() and server.poll() is None:
        time.sleep(0.01)
    return server, json.loads(ready_file.read_text())

with tempfile.TemporaryDirectory() as folder:
    signaling, ready = start(folder, "signaling-server", "--relay-media")
    echo, ready = start(folder, "echo-server", "--delay", "100", "--metrics", "127.0.0.1:0", "--signaling-url", ready["signaling_url"])
    room = ["--signaling-url", ready["signaling_url"], "--room", ready["room"]["code"]]
    client = subprocess.Popen([PROGRAM, "send", "--tone", "440", "--duration", "2s", "--no-echo", *room])  # or your own
    while client.poll() is None and b"\njamjam_echo_received_total 0\n" in urllib.request.urlopen(ready["metrics"]).read():
        time.sleep(0.01)  # until it plays
    for loss in 100, None:  # severed, restored
        link = json.dumps({"from": "jamjam-dev send", "to": "*", "both": True, "loss": loss}).encode()
        headers = {"Authorization": LOGIN, "Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(ready["signaling_url"] + "/admin/links", link, headers)).close()
        time.sleep(0.2)
    assert client.wait() == 0
    for server in echo, signaling:
        print(json.loads(server.communicate()[0])["verdict"]["reasons"] or "passed")  # closes standard input
