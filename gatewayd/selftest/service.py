"""The service: whether systemd runs the daemon, since when, and how it ended before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gatewayd.selftest.row import Finding, fail, off, ok, span, warn

NAME: Final = "gatewayd.service"
BLUETOOTH: Final = "bluetooth.service"

_LOG: Final = "`journalctl -u gatewayd -n 50` says why"
_BAD_CONFIGURATION: Final = "78"  # EX_CONFIG of sysexits(3), the daemon's own
_RUNNING: Final = frozenset({"active", "reloading"})
# A daemon that was started again fewer times has had a bug or a broken device, and is back.
_RESTARTS_SHOWN: Final = 1


def is_installed(unit: Mapping[str, str]) -> bool:
    """Say whether systemd knows the service."""
    return unit.get("LoadState") == "loaded"


def main_pid(unit: Mapping[str, str]) -> int | None:
    """Return the process of the service; None when it does not run."""
    pid = int(unit.get("MainPID") or 0)
    return pid or None


def up_s(unit: Mapping[str, str], mono_s: float) -> float:
    """Return for how long the service has been up. `mono_s`: now, CLOCK_MONOTONIC."""
    return max(0.0, mono_s - int(unit.get("ActiveEnterTimestampMonotonic") or 0) / 1e6)


def judge(unit: Mapping[str, str], mono_s: float, *, elsewhere: bool) -> list[Finding]:
    """Say how the service is. `elsewhere`: the self-test is of another configuration than the service's."""
    if elsewhere:
        return [off("not looked at: the self-test is not of the installed configuration")]
    if unit.get("LoadState") == "masked":
        return [
            fail("gatewayd.service is masked", "systemctl unmask gatewayd; systemctl enable --now gatewayd")
        ]
    if not is_installed(unit):
        return [off("systemd knows no gatewayd.service here: not installed as a service")]
    findings = [_state(unit, mono_s), *_restarts(unit)]
    if unit.get("UnitFileState") == "disabled":
        findings.append(warn("it does not start when the machine does", "systemctl enable gatewayd"))
    if unit.get("NeedDaemonReload") == "yes":
        findings.append(
            warn(
                "its unit or a drop-in was changed since systemd read it",
                "systemctl daemon-reload; systemctl restart gatewayd",
            )
        )
    if drop_ins := unit.get("DropInPaths"):
        findings.append(ok(f"with the drop-ins {drop_ins}"))
    return findings


def _state(unit: Mapping[str, str], mono_s: float) -> Finding:
    active, sub, status = unit.get("ActiveState", ""), unit.get("SubState", ""), unit.get("StatusText", "")
    if active in _RUNNING:
        said = f": {status}" if status else ""
        return ok(f"runs for {span(up_s(unit, mono_s))} as process {unit.get('MainPID')}{said}")
    last = f"{active} ({sub}), last exit status {unit.get('ExecMainStatus')}, result {unit.get('Result')}"
    if unit.get("ExecMainStatus") == _BAD_CONFIGURATION:
        return fail(
            f"{last}: the configuration was refused",
            "correct it until `gatewayd check-config` is content, then `systemctl restart gatewayd`",
        )
    if active == "inactive" and unit.get("Result") == "success":
        return fail("it does not run: no press is heard", "systemctl start gatewayd")
    return fail(f"it does not run: {last}", f"systemctl restart gatewayd; {_LOG}")


def _restarts(unit: Mapping[str, str]) -> list[Finding]:
    restarts = int(unit.get("NRestarts") or 0)
    if restarts < _RESTARTS_SHOWN:
        return []
    times = "once" if restarts == 1 else f"{restarts} times"
    return [warn(f"systemd had to start it again {times} since it was started", _LOG)]
