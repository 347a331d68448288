"""An npm registry on this machine with the packages in target/packages, and an empty one for each system whose package was not built."""

import hashlib
import http.server
import json
import tarfile
import threading
import urllib.parse

import package


class Registry:
    """`packages` contains, for each name, its manifest, the archive whose hash the manifest states, and the archive that is delivered."""

    def __init__(self):
        self.packages = {}
        self.add("jamjam-dev", "jamjam-dev", {})
        for _, system in package.SYSTEMS.values():
            platform, _, processor = system.partition("-")
            self.add(f"@jamjam-dev/{system}", f"jamjam-dev-{system}", {"os": [platform], "cpu": [processor]})
        packages = self.packages

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                name, _, file = urllib.parse.unquote(self.path).lstrip("/").partition("/-/")
                if name not in packages:
                    return self.send_error(404)
                manifest, archive, delivered = packages[name]
                page = document(manifest, archive, f"http://{self.headers['Host']}/{name}/-/package.tgz")
                content = delivered if file else json.dumps(page).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def add(self, name, file, members):
        path = package.OUTPUT / f"{file}-{package.VERSION}.tgz"
        if path.exists():
            archive = path.read_bytes()
            with tarfile.open(path) as opened:
                manifest = json.load(opened.extractfile("package/package.json"))
        else:
            manifest = {"name": name, "version": package.VERSION, **members}
            archive = package.tar("package", {"package.json": json.dumps(manifest).encode()}, None)
        self.packages[name] = (manifest, archive, archive)


def document(manifest, archive, url):
    """What a registry says about a package with one version."""
    version = manifest["version"]
    dist = {"tarball": url, "shasum": hashlib.sha1(archive).hexdigest()}
    return {"name": manifest["name"], "dist-tags": {"latest": version}, "versions": {version: {**manifest, "dist": dist}}}
