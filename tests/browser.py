"""The browser that the tests of the page drive: ``python -m tests.browser`` finds one, or gets one where it may.

Owns where to look and what to do when there is none. `make test` runs it before pytest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome")
HOW_TO = "no Chromium found: the tests of the page are skipped; install `chromium`, or set CHROMIUM to one"


def find_chromium() -> str | None:
    """The path of a Chromium: what CHROMIUM names, else the first in PATH."""
    named = os.environ.get("CHROMIUM")
    candidates = (shutil.which(name) for name in ((named,) if named else NAMES))
    return next((path for path in candidates if path), None)


def must_be_there() -> bool:
    """Whether to fail, not to skip, without a browser: a gate that skips is none."""
    return os.environ.get("CI", "").lower() == "true"


def main() -> int:
    """Make sure that there is a browser. Only where none is, and only as root on Debian, something is installed."""
    if find_chromium() or (_may_install() and _install() and find_chromium()):
        return 0
    sys.stderr.write(f"{HOW_TO}\n")
    return 1 if must_be_there() else 0


def _may_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None and "CHROMIUM" not in os.environ


def _install() -> bool:
    sys.stdout.write("installing Chromium for the tests of the page ...\n")
    sys.stdout.flush()
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    steps = (["apt-get", "-qq", "update"], ["apt-get", "-qq", "install", "-y", "--no-install-recommends", "chromium"])
    return all(
        subprocess.run(step, env=quiet, stdout=subprocess.DEVNULL, check=False).returncode == 0 for step in steps
    )


if __name__ == "__main__":
    sys.exit(main())
