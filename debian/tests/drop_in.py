"""A file in conf.d wins over gatewayd.conf; a bad one is refused by file and line, and the good one stays."""

import json
import subprocess
from pathlib import Path
from typing import Final

from testbed import DROP_IN, GATEWAY, SERVICE, Ops, broker, files, run, says, settings, told, until

MAIN: Final = Path("/etc/gatewayd/gatewayd.conf")
BAD_CONFIGURATION: Final = 78


def line_of(text: str) -> int:
    return DROP_IN.read_text().splitlines().index(text) + 1


def shown(*arguments: str) -> dict[str, str]:
    """What `show-config` makes of the gateway's id."""
    found: dict[str, str] = json.loads(run("gatewayd", "show-config", "--json", *arguments))["gateway"]["id"]
    return found


def wins(ops: Ops) -> None:
    """For the program and for the service that is reloaded."""
    assert shown("--config", str(MAIN))["value"] == "gw-main"
    assert shown() == {"value": GATEWAY, "from": f"{DROP_IN}:{line_of(f'id = {GATEWAY}')}"}
    run("gatewayd", "check-config")
    run("systemctl", "reload", SERVICE)
    until("a birth under the id of the drop-in", lambda: ops.last("status", "state", "online"))


def is_refused(ops: Ops) -> None:
    """By the program, by the service that runs, and by the one that starts."""
    with DROP_IN.open("a") as file:
        file.write("[outbox]\nbudget = plenty\n")
    begins = f"{DROP_IN}:{line_of('budget = plenty')}: [outbox] budget = plenty: expected "
    checked = subprocess.run(["gatewayd", "check-config"], capture_output=True, text=True, check=False)
    assert checked.returncode == BAD_CONFIGURATION
    (error,) = (line for line in (checked.stdout + checked.stderr).splitlines() if line.startswith(begins))

    pid = told("MainPID")
    run("systemctl", "reload", SERVICE)
    until("the refusal in health", lambda: ops.refused(error))
    until("the error in the journal", says(error))
    until("what it runs on", says("running on the one before"))
    assert told("MainPID") == pid

    until("the last good one", lambda: GATEWAY in Path("/var/lib/gatewayd/last_good.conf").read_text())
    before = len(ops.on("status"))
    run("systemctl", "restart", SERVICE)
    until("a farewell and a birth under the same id", lambda: len(ops.on("status")) >= before + 2)
    until("a birth", lambda: ops.last("status", "state", "online"))
    until("the refusal in health", lambda: ops.refused(error))
    until("the error in the journal", says(error))
    until("what it runs on", says("running on the last good one"))


def main() -> None:
    original = MAIN.read_text()
    assert "\n#id =\n" in original
    with broker() as at, Ops(at.port) as ops, files(settings(at.port)):
        try:
            MAIN.write_text(original.replace("\n#id =\n", "\nid = gw-main\n"))
            wins(ops)
            is_refused(ops)
        finally:
            MAIN.write_text(original)


main()
