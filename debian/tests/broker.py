"""An alarm raised while there is no broker, by a daemon that is then killed, arrives when there is one.

The real service, in its sandbox; only the bus on which it finds BlueZ is not the machine's: there a simulated
tag is pressed, so that this needs no radio.
"""

import json
import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Final

from testbed import GATEWAY, SERVICE, Ops, broker, entries, files, run, settings, told, until

from gatewayd.core.journal import MessageId
from gatewayd.sim.broker import Broker
from gatewayd.sim.dbus import SYSTEM_BUS

USER: Final = pwd.getpwnam("gatewayd")
UNIT: Final = Path("/run/systemd/system/gatewayd.service.d/autopkgtest.conf")
# A tag of its own for each run: the gateway remembers the counter of every tag that it has heard.
TAG: Final = f"autopkgtest-{os.urandom(4).hex()}"
CREDENTIAL: Final = Path("/etc/gatewayd/credentials") / TAG
ADDRESS: Final = "C4:11:22:33:44:55"
KEY: Final = "231d39c1d7cc1ab1aee224cd096db932"  # from a published test vector
SECTION: Final = f"""
[tag {TAG}]
format = bthome
address = {ADDRESS}
key_credential = {TAG}
worker = nurse-1
"""


@contextmanager
def child(*command: str, bus: str = "") -> Iterator[IO[str]]:
    """A program of the service's user that has said that it is ready; what it reads."""
    with subprocess.Popen(
        command,
        env={"PATH": os.environ["PATH"], SYSTEM_BUS: bus},
        user=USER.pw_uid,
        group=USER.pw_gid,
        extra_groups=[],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline(), f"expected {command[0]} to run, it ended"
        try:
            yield process.stdin
        finally:
            process.terminate()


@contextmanager
def air() -> Iterator[tuple[str, IO[str]]]:
    """A bus with a BlueZ on it that takes orders; the bus's address, and where the orders go."""
    with TemporaryDirectory(dir="/run") as folder:
        os.chown(folder, USER.pw_uid, USER.pw_gid)
        bus = f"unix:path={folder}/bus"
        options = ("--session", "--nofork", "--nopidfile", f"--address={bus}", "--print-address=1")
        with (
            child("dbus-daemon", *options),
            child("python3", "-m", "gatewayd.sim.air", bus=bus) as orders,
        ):
            yield bus, orders


def main() -> None:
    with air() as (bus, orders), broker() as at, Ops(at.port) as ops:
        pointed = {UNIT: f"[Service]\nEnvironment={SYSTEM_BUS}={bus}\n", CREDENTIAL: KEY}
        with files(pointed | settings(at.port, SECTION)):
            run("systemctl", "restart", SERVICE)
            until("a birth", lambda: ops.last("status", "state", "online"))
            until("a radio that scans", lambda: scans(ops))
            alarm = raised_without(at, orders)
            assert ops.on(f"alarm/{alarm}/event") == []
            kill()
            at.start()
            raised = until("the alarm", lambda: ops.on(f"alarm/{alarm}/event"))[0]
            assert (raised["type"], raised["cause"], raised["gateway"]) == ("raised", "panic", GATEWAY)
            assert (raised["tag"]["id"], raised["tag"]["auth"]) == (TAG, "ok")


def scans(ops: Ops) -> bool:
    """Whether health says that the radio listens; nothing was on the air yet."""
    bodies = ops.on("health")
    return bool(bodies) and "scans" in bodies[-1]["components"]["radio"]["detail"]


def raised_without(at: Broker, orders: IO[str]) -> str:
    """Stop the broker and press the tag; the alarm of which the daemon says that it is safe."""
    at.stop()
    print(json.dumps({"do": "press", "address": ADDRESS, "key": KEY}), file=orders, flush=True)
    return str(until("an alarm that is safe", lambda: entries(MessageId.ALARM_ACCEPTED))[-1]["ALARM_ID"])


def kill() -> None:
    """Kill the daemon; returns when systemd has started another one."""
    killed, restarts = told("MainPID"), int(told("NRestarts"))
    run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", SERVICE)
    until("another start", lambda: int(told("NRestarts")) > restarts and told("ActiveState") == "active")
    assert told("MainPID") != killed


main()
