"""What the scripts of this directory need of the host and of cargo. Asks for nothing it can find out."""

import json
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def fail(message, code=1):
    print(f"{os.path.basename(sys.argv[0])}: {message}", file=sys.stderr)
    sys.exit(code)


def need(**packages):
    """Finds each command, or installs its Debian package, or says how to."""
    missing = sorted({package for command, package in packages.items() if shutil.which(command) is None})
    if not missing:
        return
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        fail(f"{', '.join(missing)} is missing; install it: sudo {' '.join(install)}", 2)
    quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
    subprocess.run(["apt-get", "update", "-qq"], check=True, **quiet)
    subprocess.run(install, check=True, **quiet)


def said(*words, **options):
    """What a command prints."""
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, **options).stdout.strip()


def build(package, *binaries):
    """Builds binaries as they are shipped, and says where they are."""
    words = ["cargo", "build", "--release", "--locked", "-p", package]
    for binary in binaries:
        words += ["--bin", binary]
    if subprocess.run(words, cwd=ROOT, check=False).returncode != 0:
        fail("the build failed")
    target = json.loads(said("cargo", "metadata", "--no-deps", "--format-version", "1"))["target_directory"]
    return [os.path.join(target, "release", binary) for binary in binaries]


def commit():
    """The commit, marked when something is not committed; what these scripts keep themselves does not count."""
    kept = [f":!bench/{name}" for name in ("economy.md", "experiments", "instructions.json", "scaling.md", "times.md")]
    changed = said("git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!loadtest/results", *kept)
    return said("git", "rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")
