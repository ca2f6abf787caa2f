"""Asks what is within reach of whoever runs it; runs inside the machine, with the package's dependencies.

    probe.py FILE BROKER PORT CREDENTIAL    all of it, the answers as JSON into FILE
    probe.py - --forbidden                  only what the service must not reach, to standard output

An answer is "reached", or the error that came instead. A question that would do harm if it were allowed is
asked in a way that fails later and otherwise (a module that is none, the clock set to the time it shows).
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import alsaaudio
from serial import Serial

from gatewayd.config.credentials import credentials_directory, read_credential
from gatewayd.edge.clock import adjtimex

FINIT_MODULE = {"x86_64": 313, "aarch64": 273}[os.uname().machine]  # its number among the system calls
ADJ_TICK = 0x4000  # linux/timex.h
TIMEX_LONGS = 64
READS = 10  # of the microphone: a slow machine overruns at the first
AF_BLUETOOTH_MONITOR = (31, socket.SOCK_RAW, 1)  # HCI, as a sniffer opens it


def answers(questions: dict[str, Callable[[], object]]) -> dict[str, str]:
    """Ask each."""
    found = {}
    for name, ask in questions.items():
        try:
            ask()
        except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
            found[name] = repr(error)
        else:
            found[name] = "reached"
    return found


# --- what must be out of reach ------------------------------------------------------------------------------


def load_a_module() -> None:
    """Ask the kernel to load an empty file: whoever may is told that it is no module (ENOEXEC)."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(__file__).open("rb") as file:
        libc.syscall(FINIT_MODULE, file.fileno(), b"", 0)
    if ctypes.get_errno() != errno.ENOEXEC:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def set_the_clock() -> None:
    time.clock_settime(time.CLOCK_REALTIME, time.time())


def adjust_the_clock() -> None:
    timex = (ctypes.c_long * TIMEX_LONGS)()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.adjtimex(timex)
    timex[0] = ADJ_TICK  # as it is
    if libc.adjtimex(timex) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def find_other_processes() -> None:
    owners = {process.stat().st_uid for process in Path("/proc").iterdir() if process.name.isdecimal()}
    if not owners - {os.getuid()}:
        raise ProcessLookupError("none of another user can be seen")


FORBIDDEN: dict[str, Callable[[], object]] = {
    "/home": lambda: Path("/home/other/readable").read_bytes(),
    "/root": lambda: list(Path("/root").iterdir()),
    "another user's file": lambda: Path("/srv/other/private").read_bytes(),
    "another user's file that all may write": lambda: Path("/srv/other/writable").write_bytes(b""),
    "/etc": lambda: Path("/etc/gatewayd/conf.d/README").open("ab").close(),
    "the secrets' folder": lambda: list(Path("/etc/gatewayd/credentials").iterdir()),
    "module loading": load_a_module,
    "setting the clock": set_the_clock,
    "adjusting the clock": adjust_the_clock,
    "raw IP": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close(),
    "raw Ethernet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "raw Bluetooth": lambda: socket.socket(*AF_BLUETOOTH_MONITOR).close(),
    "/dev/mem": lambda: os.close(os.open("/dev/mem", os.O_RDONLY)),
    "the disk": lambda: os.close(os.open("/dev/vda", os.O_RDONLY)),
    "the kernel's log": lambda: os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)),
    "other processes": lambda: os.kill(1, 0),
    "other processes' list": find_other_processes,
}


# --- what it needs ------------------------------------------------------------------------------------------


def ask_bluez() -> None:
    """Ask bluetoothd over D-Bus for its adapters."""
    ask = ("call", "org.bluez", "/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
    if b"org.bluez.Adapter1" not in subprocess.check_output(["busctl", "--system", *ask], timeout=60):
        raise RuntimeError("no adapter")


def read_the_receiver() -> None:
    """Read a sentence from the GPS receiver as the daemon opens it."""
    with Serial("/dev/gps", 9600, timeout=10) as receiver:
        if b"$" not in receiver.read(400):
            raise RuntimeError("no sentence")


def record() -> None:
    """Record a moment."""
    pcm = alsaaudio.PCM(alsaaudio.PCM_CAPTURE, alsaaudio.PCM_NORMAL, "plughw:CARD=Loopback,DEV=1", channels=1)
    try:
        lengths = [pcm.read()[0] for _ in range(READS)]
    finally:
        pcm.close()
    if max(lengths) <= 0:
        raise RuntimeError(f"no sound: {lengths}")


def needed(broker: str, port: str, credential: str) -> dict[str, Callable[[], object]]:
    """The service's own business."""
    return {
        "BlueZ over D-Bus": ask_bluez,
        "the receiver": read_the_receiver,
        "the microphone": record,
        "whether the clock is in step": adjtimex,
        "the broker": lambda: socket.create_connection((broker, int(port)), timeout=30).close(),
        "its secrets": lambda: read_credential(credentials_directory(os.environ), credential),
        "its state": (Path(os.environ["STATE_DIRECTORY"]) / "probe").touch,
    }


def main(file: str, *more: str) -> None:
    """Ask, and write down what was answered."""
    found = {"forbidden": answers(FORBIDDEN)}
    if more != ("--forbidden",):
        found["needed"] = answers(needed(*more))
    text = json.dumps(found)
    if file == "-":
        sys.stdout.write(text)
    else:
        Path(file).write_text(text)


main(*sys.argv[1:])
