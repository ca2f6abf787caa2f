"""Where the peers come from: PyPI, at the versions written here, each in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

CACHE: Final = Path(__file__).parents[3] / ".cache" / "peers"
THINGSBOARD: Final = "thingsboard-gateway==3.8.5"
THEENGS: Final = "TheengsGateway==1.8.0"


def installed(requirement: str) -> Path:
    """Return the environment that has `requirement`, made the first time."""
    environment = CACHE / requirement
    done = environment / "installed"
    if not done.exists():
        print(f"installing {requirement} from PyPI into {environment}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
        pip = (str(environment / "bin" / "pip"), "install", "--disable-pip-version-check", "--quiet")
        subprocess.run([*pip, requirement], check=True, stderr=subprocess.DEVNULL)
        done.touch()
    return environment


def site_packages(environment: Path) -> Path:
    """Return where an environment's packages lie."""
    (found,) = environment.glob("lib/python3*/site-packages")
    return found
