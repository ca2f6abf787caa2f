"""Compiles what tests preload below a process."""

import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent / "shim"


def compile_shim(name: str, directory: Path) -> Path:
    """Compile `shim/NAME.c` into `directory` and return what LD_PRELOAD takes."""
    library = directory / f"{name}.so"
    warnings = ("-Wall", "-Wextra", "-Werror")
    source = SOURCES / f"{name}.c"
    subprocess.run(
        ["gcc", *warnings, "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True
    )
    return library
