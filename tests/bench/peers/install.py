"""Where the peers come from: PyPI, at the versions written here, each in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

CACHE: Final = Path(__file__).parents[3] / ".cache" / "peers"
THINGSBOARD: Final = "thingsboard-gateway==3.8.5"
THINGSBOARD_BLE: Final = "bleak==3.1.0"  # what it installs itself when its BLE connector starts first
THEENGS: Final = "TheengsGateway==1.8.0"


def installed(requirement: str, *more: str) -> Path:
    """Return the environment that has `requirement`, and `more`, made the first time."""
    environment = CACHE / requirement
    done = environment / "installed"
    wanted = (requirement, *more)
    if not done.exists():
        print(f"installing {requirement} from PyPI into {environment}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
    if not done.exists() or not {*wanted} <= {*done.read_text().split()}:
        pip = ("-m", "pip", "install", "--disable-pip-version-check", "--quiet")
        command = [str(environment / "bin" / "python"), *pip, *wanted]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        done.write_text("\n".join(wanted))
    return environment


def site_packages(environment: Path) -> Path:
    """Return where an environment's packages lie."""
    (found,) = environment.glob("lib/python3*/site-packages")
    return found
