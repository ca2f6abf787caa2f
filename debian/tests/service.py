"""The service is enabled, says READY, goes on for longer than its watchdog waits, and stops cleanly."""

import re
import time
from typing import Final

from testbed import SERVICE, run, says, told, until

WATCHED_S: Final = 25  # WatchdogSec= of the unit is 20


def main() -> None:
    version = run("dpkg-query", "--show", "--showformat=${Version}", "gatewayd")
    assert run("gatewayd", "--version").split()[-1] == version
    assert run("systemctl", "is-enabled", SERVICE).strip() == "enabled"
    assert told("Type") == "notify"
    run("systemctl", "restart", SERVICE)  # returns when it is READY, fails when it never is
    pid, restarts = told("MainPID"), told("NRestarts")
    assert run("ps", "-o", "user=,args=", pid).split()[0] == "gatewayd"
    until("a line that says how it is", lambda: re.search(r"radio|hearing", told("StatusText")))
    until("a line in the journal", says(f"gatewayd {version} is ready"))
    time.sleep(WATCHED_S)
    assert (told("ActiveState"), told("MainPID"), told("NRestarts")) == ("active", pid, restarts)
    run("systemctl", "stop", SERVICE)
    assert (told("Result"), told("ExecMainStatus")) == ("success", "0")
    run("systemctl", "start", SERVICE)


main()
