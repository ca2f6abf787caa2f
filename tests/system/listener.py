"""Hears advertisements and says which, when, and at what cost; runs inside the machine, as root.

    listener.py bleak|mgmt HOST PORT

`bleak` hears as the daemon does, by its own radio. `mgmt` hears by the kernel's management socket, without
D-Bus: a process of its own reads it (in the field that one would have CAP_NET_ADMIN, the daemon nothing) and
hands what it hears to this one over a socket, as it would to the daemon. Both scan actively, with a monitor.

It connects to HOST:PORT and answers each line there with one: `clock` with CLOCK_MONOTONIC, `count` with how
many reports came so far, `begin` with `true`, `end` with what came and was spent since; all as JSON.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

OURS = 0xFFFF  # the company whose manufacturer data are ours: the one for tests
Hear = Callable[[bytes], None]

# --- as the daemon hears ------------------------------------------------------------------------------------


async def by_bleak(hear: Hear) -> None:
    """The daemon's own radio."""
    from gatewayd.config import model as config  # noqa: PLC0415 - not loaded, and paid for, by the other path
    from gatewayd.core.model import Advertisement  # noqa: PLC0415
    from gatewayd.edge.ble import Radio  # noqa: PLC0415

    def on_advertisement(advertisement: Advertisement) -> None:
        hear(advertisement.manufacturer_data[OURS])

    await Radio(
        config.Radio(enabled=True, adapters=(), canary=None),
        on_advertisement=on_advertisement,
        report=lambda hearing: print(hearing.state, hearing.detail, file=sys.stderr, flush=True),
        alive=lambda: None,
        concerns=lambda _address, _service_data, manufacturer_data, _rssi_dbm: OURS in manufacturer_data,
    ).run()


# --- by the kernel's management socket ----------------------------------------------------------------------
# BlueZ, doc/mgmt-protocol.rst. Every packet: code, controller, length of what follows.

HEADER = struct.Struct("<HHH")
AF_BLUETOOTH, BTPROTO_HCI, HCI_DEV_NONE, HCI_CHANNEL_CONTROL = 31, 1, 0xFFFF, 3
START_DISCOVERY, ADD_PATTERNS_MONITOR = 0x0023, 0x0052
DISCOVERING, DEVICE_FOUND, MONITOR_DEVICE_FOUND = 0x0013, 0x0012, 0x002F
LOW_ENERGY = 0x06  # public and random addresses
BEFORE_DATA = 14  # address, its type, RSSI, flags, length of the data
HANDLE = 2  # of the monitor, before all that in its own event
FLAGS, MANUFACTURER = 0x01, 0xFF  # AD types
PATTERN = struct.Struct("<BBB31s")  # AD type, offset, length, value


def control_socket() -> socket.socket:
    """The management socket. Python's own bind knows no channels."""
    control = socket.socket(AF_BLUETOOTH, socket.SOCK_RAW, BTPROTO_HCI)
    address = struct.pack("<HHH", AF_BLUETOOTH, HCI_DEV_NONE, HCI_CHANNEL_CONTROL)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.bind(control.fileno(), address, len(address)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return control


def read_management(out: socket.socket) -> None:
    """Scan actively, with a monitor beside it, and hand on what is ours of all that is heard."""
    adapter = int(min(path.name for path in Path("/sys/class/bluetooth").iterdir())[len("hci") :])
    control = control_socket()

    def order(code: int, content: bytes) -> None:
        control.send(HEADER.pack(code, adapter, len(content)) + content)

    order(ADD_PATTERNS_MONITOR, bytes([1]) + PATTERN.pack(FLAGS, 0, 1, b"\x06"))
    order(START_DISCOVERY, bytes([LOW_ENERGY]))
    while True:
        packet = control.recv(1024)
        event, _, _ = HEADER.unpack_from(packet)
        if event in (DEVICE_FOUND, MONITOR_DEVICE_FOUND):
            start = HEADER.size + BEFORE_DATA + (HANDLE if event == MONITOR_DEVICE_FOUND else 0)
            if (ours := manufacturer_data(packet, start)) is not None:
                out.send(ours)
        elif event == DISCOVERING and not packet[HEADER.size + 1]:
            order(START_DISCOVERY, bytes([LOW_ENERGY]))  # the kernel ends one after 10 s


def manufacturer_data(packet: bytes, start: int) -> bytes | None:
    """Our own in an advertisement; None when it has none."""
    while start + 3 < len(packet) and (length := packet[start]):
        if packet[start + 1] == MANUFACTURER and packet[start + 2] | packet[start + 3] << 8 == OURS:
            return packet[start + 4 : start + 1 + length]
        start += 1 + length
    return None


async def by_management(hear: Hear) -> None:
    """What the process that reads the management socket hands on."""
    mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        mine.close()
        read_management(other)  # ends when nobody reads any more, or with the machine's patience
    other.close()
    mine.setblocking(False)
    asyncio.get_running_loop().add_reader(mine, lambda: hear(mine.recv(1024)))
    await asyncio.Event().wait()


# --- what it costs ------------------------------------------------------------------------------------------


SPENDERS = ("own", "bluetoothd", "dbus-daemon", "kernel", "machine")


def cpu_s() -> dict[tuple[str, int], float]:
    """CPU time so far, by who spent it and in which process; `machine`: all that no core was idle."""
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    up_s, idle_s = map(float, Path("/proc/uptime").read_text().split())
    spent = {("machine", 0): up_s * os.sysconf("SC_NPROCESSORS_ONLN") - idle_s}
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                stat = (process / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):  # it has just ended
                continue
            name, fields = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
            if who := whose(int(process.name), int(fields[1]), name):
                spent[who, int(process.name)] = (int(fields[11]) + int(fields[12])) * tick_s  # proc(5)
    return spent


def spent_s(before: dict[tuple[str, int], float]) -> dict[str, float]:
    """CPU time since, by who spent it; that of a kernel's thread that has ended meanwhile is not known."""
    spent = dict.fromkeys(SPENDERS, 0.0)
    for (who, process), after_s in cpu_s().items():
        spent[who] += after_s - before.get((who, process), 0.0)
    return spent


def whose(pid: int, parent: int, name: str) -> str | None:
    """Which of those that are counted a process belongs to."""
    if os.getpid() in (pid, parent):
        return "own"
    if name in ("bluetoothd", "dbus-daemon"):
        return name
    return "kernel" if name.startswith(("kworker", "ksoftirqd")) else None


# --- asked from outside -------------------------------------------------------------------------------------


class Record:
    """What was heard since the beginning: the number in each report, and when it came."""

    def __init__(self) -> None:
        self._heard: list[tuple[int, float]] = []
        self._before = cpu_s()

    def hear(self, data: bytes) -> None:
        self._heard.append((int.from_bytes(data, "little"), time.monotonic()))

    def answer(self, question: str) -> object:
        """To one line of whoever measures."""
        if question == "clock":
            return time.monotonic()
        if question == "count":
            return len(self._heard)
        if question == "begin":
            self._heard.clear()
            self._before = cpu_s()
            return True
        return {"heard": self._heard, "cpu_s": spent_s(self._before)}


async def main(path: str, host: str, port: str) -> None:
    """Listen until whoever measures hangs up."""
    record = Record()
    listen = {"bleak": by_bleak, "mgmt": by_management}[path]
    listening = asyncio.create_task(listen(record.hear))
    reader, writer = await asyncio.open_connection(host, int(port))
    async for line in reader:
        writer.write(json.dumps(record.answer(line.decode().strip())).encode() + b"\n")
    listening.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
