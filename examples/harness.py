"""A test of a client in a room with an echo server, on a line that the test severs. The servers end with this program, however it ends."""
import base64, json, os, pathlib, secrets, subprocess, tempfile, time, urllib.request

PROGRAM, PASSWORD = os.environ.get("JAMJAM_DEV", "jamjam-dev"), secrets.token_hex()
OPTIONS = "--host 127.0.0.1 --port 0 --check --json --ready-file".split()

def start(folder, subcommand, *options):
    ready_file = pathlib.Path(folder) / subcommand
    environment = os.environ | {"JAMJAM_END_WITH_STDIN": "1", "DOCS_PASSWORD": PASSWORD}
    command = [PROGRAM, subcommand, *OPTIONS, ready_file, *options]
    server = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    while not ready_file.exists() and server.poll() is None:
        time.sleep(0.01)
    return server, json.loads(ready_file.read_text())

def change_links(url, link):
    login = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{url}/admin/links", json.dumps(link).encode(), headers)).close()

with tempfile.TemporaryDirectory() as folder:
    signaling, ready = start(folder, "signaling-server", "--relay-media")
    echo, ready = start(folder, "echo-server", "--delay", "100", "--signaling-url", ready["signaling_url"])
    room = ["--signaling-url", ready["signaling_url"], "--room", ready["room"]["code"]]
    client = subprocess.Popen([PROGRAM, "send", "--tone", "440", "--duration", "2s", "--no-echo", *room])  # or your own
    link = {"from": "jamjam-dev send", "to": "*", "both": True}
    change_links(ready["signaling_url"], link | {"loss": 100})  # severed
    change_links(ready["signaling_url"], link | {"loss": None})  # restored
    assert client.wait() == 0
    for server in echo, signaling:
        report, _ = server.communicate()  # closes standard input
        print(json.loads(report)["failures"] or "passed")
