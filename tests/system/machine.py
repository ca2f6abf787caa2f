"""One emulated machine: boot it, run commands in it, pull its plugs, cut its power.

It is emulated in software, so everything in it takes about twenty times as long as on the machine it runs on.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from gatewayd.sim.broker import LOOPBACK, free_port
from system.image import Image

BOOT_S: Final = 240.0  # it takes 25 to 50 s on two idle cores; a busy machine may take a while
RUN_S: Final = 120.0  # for a command
GPS: Final = "gps"  # the receiver's name in the emulator
# Now and then a kernel that is emulated on several cores trips over its own patched code (an int3) in its
# first seconds: it boots again by itself, as a machine with a watchdog does, and that is told.
KERNEL: Final = "root=/dev/vda rw console=ttyS0 quiet mitigations=off panic=1"
PANIC: Final = "Kernel panic"
JOURNAL: Final = "journalctl --boot --no-pager --output=short-precise"
_RECEIVER: Final = ("usb-serial", "receiver")


class MachineError(Exception):
    """The machine did not do what it was told; says what it was and what came instead."""


class Machine:
    """A machine with a disk of its own, in `folder` (a short path: sockets lie in it).

    `hci`: the socket where its Bluetooth controller listens; `receiver`: the terminal its GPS receiver is
    at. Both must be there before it starts.
    """

    def __init__(self, image: Image, folder: Path, *, hci: Path, receiver: Path) -> None:
        self.folder = folder
        self.console = folder / "console.log"
        self.panics = 0  # of its kernel while it booted, each followed by a boot of its own accord
        self._serial = folder / "serial.log"  # of this boot
        self._image = image
        self._hci = hci
        self._receiver = receiver
        self._disk = folder / "disk"
        self._port = free_port()
        self._emulator: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", image.disk, self._disk], check=True)

    # --- power ----------------------------------------------------------------------------------------------

    async def boot(self, clock: datetime | None = None) -> float:
        """Switch it on and wait until it lets us in; returns the seconds that took.

        `clock`: what its real-time clock shows; None: the time.
        """
        began = asyncio.get_running_loop().time()
        self._switch_on(clock)
        try:
            async with asyncio.timeout(BOOT_S):
                while await self._ssh("true") is None:
                    if self._emulator is None or self._emulator.poll() is not None:
                        raise MachineError(f"expected an emulator that runs, it ended: see {self.console}")
                    await asyncio.sleep(0.5)
        except TimeoutError:
            raise MachineError(f"expected a boot within {BOOT_S:.0f} s: see {self._serial}") from None
        finally:
            self.panics += self._serial.read_text(errors="replace").count(PANIC)
        return asyncio.get_running_loop().time() - began

    def _switch_on(self, clock: datetime | None) -> None:
        with self.console.open("ab") as log:
            self._emulator = subprocess.Popen(
                self._command(clock), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def cut(self) -> None:
        """Cut the power: what was not on the disk is gone."""
        if self._emulator is not None:
            self._emulator.kill()
            self._emulator.wait()
            self._emulator = None
        leave = [*self._ssh_command(), "-O", "exit"]
        subprocess.run(leave, capture_output=True, check=False, timeout=RUN_S)

    def _command(self, clock: datetime | None) -> list[str]:
        base = "utc" if clock is None else f"{clock.astimezone(UTC):%Y-%m-%dT%H:%M:%S}"
        forward = f"hostfwd=tcp:{LOOPBACK}:{self._port}-:22"
        return [
            *("qemu-system-x86_64", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max"),
            *("-smp", "2", "-m", "1536", "-nodefaults", "-no-user-config", "-display", "none"),
            *("-kernel", str(self._image.kernel), "-initrd", str(self._image.initrd)),
            *("-append", KERNEL),
            *("-rtc", f"base={base}", "-device", "virtio-rng-pci"),
            *("-drive", f"file={self._disk},format=raw,if=virtio"),
            *("-serial", f"file:{self._serial}"),
            *("-qmp", f"unix:{self.folder / 'qmp'},server=on,wait=off"),
            *("-device", "virtio-serial-pci", "-chardev", f"socket,id=hci,path={self._hci}"),
            *("-device", "virtconsole,chardev=hci"),
            *("-device", "qemu-xhci", "-chardev", f"serial,id={GPS},path={self._receiver}"),
            *("-device", f"{_RECEIVER[0]},id={_RECEIVER[1]},chardev={GPS}"),
            *("-netdev", f"user,id=control,{forward}"),
            *("-device", "virtio-net-pci,netdev=control,mac=52:54:00:00:00:01"),
            *("-netdev", "user,id=uplink,net=10.0.3.0/24"),
            *("-device", "virtio-net-pci,netdev=uplink,mac=52:54:00:00:00:02"),
        ]

    # --- plugs ----------------------------------------------------------------------------------------------

    async def unplug_receiver(self) -> None:
        """Pull the GPS receiver's USB plug."""
        await self._order("device_del", id=_RECEIVER[1])

    async def plug_receiver(self) -> None:
        """Put it back."""
        await self._order("device_add", driver=_RECEIVER[0], id=_RECEIVER[1], chardev=GPS)

    async def _order(self, command: str, **arguments: Any) -> None:
        """Give the emulator an order in its own protocol, QMP."""
        reader, writer = await asyncio.open_unix_connection(self.folder / "qmp")
        try:
            await reader.readline()  # it greets
            for order in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                writer.write(json.dumps(order).encode() + b"\n")
                answer = json.loads(await reader.readline())
                while "event" in answer:
                    answer = json.loads(await reader.readline())
                if "error" in answer:
                    raise MachineError(f"{command}: {answer['error']}")
        finally:
            writer.close()
            await writer.wait_closed()

    # --- commands in it -------------------------------------------------------------------------------------

    async def run(self, command: str, *, limit_s: float = RUN_S) -> str:
        """Run a shell command as root and return what it printed. MachineError when it fails."""
        status, printed = await self.attempt(command, limit_s=limit_s)
        if status != 0:
            raise MachineError(f"{command}: exit status {status}: {printed[-2000:]}")
        return printed

    async def attempt(self, command: str, *, limit_s: float = RUN_S) -> tuple[int, str]:
        """Run a shell command that may fail; its exit status and what it printed, errors included."""
        async with self.running(command) as process:
            try:
                async with asyncio.timeout(limit_s):
                    printed, _ = await process.communicate()
            except TimeoutError:
                raise MachineError(f"{command}: expected it to end within {limit_s:.0f} s") from None
        return process.returncode or 0, printed.decode(errors="replace")

    @asynccontextmanager
    async def running(self, command: str) -> AsyncIterator[Process]:
        """A command that goes on, for whoever reads what it prints; at the end it is ended."""
        process = await asyncio.create_subprocess_exec(
            *self._ssh_command(), command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def journal(self) -> str:
        """What its journal says of this boot, and systemd of the daemon, to be read by a person."""
        command = [*self._ssh_command(), f"{JOURNAL}; systemctl status --lines=0 gatewayd"]
        told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=RUN_S)
        return told.stdout or f"nothing: {told.stderr}"

    async def put(self, content: bytes, path: str, mode: str = "644") -> None:
        """Write a file in it."""
        process = await asyncio.create_subprocess_exec(
            *self._ssh_command(), f"install -D -m {mode} /dev/stdin {path}", stdin=PIPE
        )
        await process.communicate(content)
        if process.returncode != 0:
            raise MachineError(f"{path}: expected it to be written, exit status {process.returncode}")

    async def _ssh(self, command: str) -> str | None:
        """What a command printed; None while the machine does not let us in."""
        process = await asyncio.create_subprocess_exec(
            *self._ssh_command(), command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL
        )
        printed, _ = await process.communicate()
        return printed.decode() if process.returncode == 0 else None

    def _ssh_command(self) -> list[str]:
        """One connection for all commands: to begin one takes seconds in there."""
        options = {
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "ConnectTimeout": "10",
            "ServerAliveInterval": "30",  # an emulator on a busy machine may be silent for a while
            "ControlMaster": "auto",
            "ControlPath": str(self.folder / "ssh"),
            "ControlPersist": "3600",
        }
        flags = [flag for name, value in options.items() for flag in ("-o", f"{name}={value}")]
        return [
            "ssh",
            "-F",
            "none",
            "-i",
            str(self._image.key),
            "-p",
            str(self._port),
            *flags,
            f"root@{LOOPBACK}",
        ]

    def remove(self) -> None:
        """Cut the power and forget the disk."""
        self.cut()
        shutil.rmtree(self.folder, ignore_errors=True)
