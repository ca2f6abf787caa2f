"""The architecture, held: who may import whom, and what `core/` must never touch."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "gatewayd"

# The rooms of the house, and what each may look into. `edge` modules and `sim` modules never import a
# sibling edge; that is checked below.
MAY_IMPORT = {
    "core": {"core"},
    "config": {"core", "config"},
    "edge": {"core", "config", "edge"},  # only of its own package; checked below
    "sim": {"core", "config", "edge", "sim"},
    "schema": set(),
    "uplink": {"core", "config", "edge", "uplink"},
    "recorder": {"core"},
    "supervisor": {"core"},
    "announcer": {"core", "config", "records", "__init__"},
    "near": {"core"},
    "caretaker": {"core", "edge"},
    "notary": {"core", "config", "edge", "recorder", "records", "uplink"},
    "records": {"core"},
    "listener": {"core", "records", "supervisor"},
    "logbook": {"core"},
    "driller": {"core", "config"},
    "visits": {"core", "config", "records"},
    "wearers": {"core", "config", "records"},
    "whereabouts": {"core", "config", "records"},
    "gateway": {
        "core", "config", "announcer", "driller", "listener", "logbook", "near", "notary", "recorder",
        "records", "supervisor", "uplink", "visits", "wearers", "whereabouts",
    },
    "timekeeper": {"edge"},
    "app": {"core", "config", "edge", "uplink", "gateway", "caretaker", "records", "timekeeper"},
    "run": {"core", "config", "edge", "app"},
    "scan": {"core", "config", "edge", "scan"},
    "enrol": {"core", "config", "scan", "selftest", "enrol"},
    "selftest": {"core", "config", "edge", "timekeeper", "selftest"},
    "monitor": {"core", "config", "monitor"},
    "ops": {"core", "monitor", "ops"},
    "outbox": {"core", "config", "edge", "monitor", "selftest", "outbox"},
    "evidence": {"core", "edge", "monitor"},
    "demo": {"core", "config", "sim", "monitor"},
    "manual": {"core", "config", "cli"},
    "cli": {
        "core", "config", "edge", "run", "scan", "enrol", "selftest", "monitor", "ops", "outbox", "evidence",
        "demo", "cli",
    },
    "__main__": {"cli"},
    "__init__": set(),
}  # fmt: skip
IMPURE = {
    "asyncio", "time", "logging", "sqlite3", "socket", "threading", "subprocess", "os", "random", "secrets",
    "pathlib", "selectors", "bleak", "dbus_fast", "paho", "alsaaudio", "serial", "gpiozero", "systemd",
    "opuslib", "gatewayd.edge",
}  # fmt: skip


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            module = node.module or ""
            found.add(module)
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_room_may(path: Path) -> None:
    """cli → app → {uplink, edge, sim} → core, config."""
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "gatewayd" or len(parts) == 1:
            continue
        target = (
            parts[1] if (PACKAGE / parts[1]).exists() or (PACKAGE / f"{parts[1]}.py").exists() else "__init__"
        )
        allowed = MAY_IMPORT[room(path)] | {"__init__"}
        if room(path) == "__init__":
            continue
        assert target in allowed, f"{path} imports {name}"
        if room(path) == "edge" and target == "edge" and len(parts) > 2:
            own = path.relative_to(PACKAGE / "edge").parts[0].removesuffix(".py")
            assert parts[2] == own, f"edges never import each other: {path} imports {name}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").rglob("*.py")), ids=lambda path: path.name)
def test_core_is_pure(path: Path) -> None:
    """No I/O, asyncio, clock, logging or device library below core/."""
    for name in imports(path):
        assert not {name, name.split(".")[0]} & IMPURE, f"{path} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_grows_past_500_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500
