"""What scripts/packages, scripts/wheel and scripts/npm share: the version, the systems, and archives with equal bytes."""

import gzip
import io
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "target/packages"
MANIFEST = tomllib.loads((ROOT / "Cargo.toml").read_text())
VERSION, DESCRIPTION = MANIFEST["workspace"]["package"]["version"], MANIFEST["package"]["description"]
# For each target, the platform tag of its wheel and the name of its npm package.
SYSTEMS = {
    "x86_64-unknown-linux-musl": ("manylinux_2_17_x86_64.musllinux_1_1_x86_64", "linux-x64"),
    "aarch64-unknown-linux-musl": ("manylinux_2_17_aarch64.musllinux_1_1_aarch64", "linux-arm64"),
    "x86_64-pc-windows-gnu": ("win_amd64", "win32-x64"),
    "aarch64-apple-darwin": ("macosx_11_0_arm64", "darwin-arm64"),
}
# The time of every file in every archive, so that the same program gives the same package: that of npm's own archives.
TIME = 499_162_500


def target_of(name):
    """The target with this wheel tag or npm name."""
    found = [target for target, names in SYSTEMS.items() if name in names]
    return found[0] if found else sys.exit(f"unknown system {name}; known: " + " ".join(sum(SYSTEMS.values(), ())))


def program_name(target):
    return "jamjam-dev.exe" if "windows" in target else "jamjam-dev"


def program(binary, target):
    """Name and content of the program in a package. It must be the one that the package is for."""
    content = pathlib.Path(binary).read_bytes()
    # `jamjam-dev --version` prints it.
    if target.encode() not in content:
        sys.exit(f"{binary} is not a program for {target}")
    return program_name(target), content


def wheel_name(tag):
    # Python writes the version 1.0.0-rc.1 as 1.0.0rc1.
    version = re.sub(r"-([a-z]+)\.", r"\1", VERSION)
    return f"jamjam_dev-{version}-py3-none-{tag}.whl"


def licenses(target=None):
    """Our licenses and, for a package with a program, those of what it contains, by file name."""
    files = {name: (ROOT / name).read_bytes() for name in ("LICENSE-APACHE", "LICENSE-MIT")}
    if target:
        command = [sys.executable, ROOT / "scripts/third-party", target]
        files["THIRD-PARTY"] = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return files


def repository():
    """The repository's URL, which only the workflow of a release knows."""
    name = os.environ.get("GITHUB_REPOSITORY")
    return f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{name}" if name else None


def write(name, content):
    """Writes a package and prints its path and size."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / name).write_bytes(content)
    print(f"{OUTPUT / name}: {len(content)} bytes")


def tar(folder, files, program):
    """A compressed archive of `files` in `folder`, of which `program` is executable."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=TIME, filename="") as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo(f"{folder}/{name}")
                entry.size, entry.mtime, entry.mode = len(content), TIME, 0o755 if name == program else 0o644
                archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def zipped(files, programs):
    """A zip archive of `files`, of which `programs` are executable."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, (1985, 10, 26, 8, 15, 0))
            # 3 is Unix: otherwise, the mode does not count.
            entry.create_system, entry.compress_type = 3, zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if name in programs else 0o100644) << 16
            archive.writestr(entry, content)
    return buffer.getvalue()
