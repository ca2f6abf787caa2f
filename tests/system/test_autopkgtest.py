"""The package's own tests, as a distribution runs them, on the machine where it is installed."""

from __future__ import annotations

import re
import subprocess
import time
from typing import Final

from system.claims import Claims
from system.image import PROJECT
from system.rig import Rig

CONTROL: Final = PROJECT / "debian" / "tests" / "control"
SOURCE: Final = "/root/gatewayd"
RESULTS: Final = "/root/autopkgtest"
STATE: Final = "/var/lib/gatewayd"
LIMIT_S: Final = 800.0  # it takes less than a minute on a machine that is not emulated
# All unit tests would take more than an hour here: the quick ones. The machine is one of its own, which a
# testbed of the kind null cannot know. With debian/files there the tree counts as built, so that nothing is
# fetched; the package under test is the one that is installed.
RUN: Final = (
    f"rm -rf {RESULTS}; touch {SOURCE}/debian/files && autopkgtest --env=GATEWAYD_QUICK=1"
    f" --ignore-restrictions=isolation-container --output-dir={RESULTS} {SOURCE} -- null"
)
_NAME: Final = re.compile(r"^(?:Tests: |Features: test-name=)(.+)$", re.MULTILINE)
_PASSED: Final = re.compile(r"^=+ (\d+) passed", re.MULTILINE)


async def test_its_own_tests_pass(rig: Rig, claims: Claims) -> None:
    """Every one of debian/tests runs and passes, against the package as apt installed it."""
    await rig.machine.run("rm /etc/gatewayd/conf.d/rig.conf && systemctl restart gatewayd")
    try:
        await rig.machine.put(sources(), f"{SOURCE}/source.tar")
        await rig.machine.run(f"cd {SOURCE} && tar -x -f source.tar && rm source.tar")
        began_s = time.monotonic()
        status, said = await rig.machine.attempt(RUN, limit_s=LIMIT_S)
        took_s = time.monotonic() - began_s
        assert status == 0, said[-4000:]
        summary = await rig.machine.run(f"cat {RESULTS}/summary")
        results = dict(line.split(maxsplit=1) for line in summary.splitlines())
        assert results == dict.fromkeys(_NAME.findall(CONTROL.read_text()), "PASS")
        units = _PASSED.findall(await rig.machine.run(f"cat {RESULTS}/unit-stdout"))
    finally:
        # A testbed is thrown away; in this one alarms were left open.
        await rig.machine.run(f"systemctl stop gatewayd; rm -rf {SOURCE} {RESULTS} {STATE}/*")
        await rig.configure()
        rig.ops.turn_the_page()
        await rig.ready()
    claims.show(
        f"autopkgtest: {', '.join(results)}",
        f"{len(results)} of {len(results)} pass in {took_s:.0f} s, unit: {units[0]} tests",
    )


def sources() -> bytes:
    """This tree without what was made from it, as an archive."""
    made = ("--exclude=./.*", "--exclude=./dist", "--exclude=__pycache__", "--exclude=*.egg-info")
    archive = subprocess.run(["tar", "-c", *made, "-C", PROJECT, "."], capture_output=True, check=True)
    return archive.stdout
