"""Tags as their makers describe them: what each sends at rest, when pressed, and after a new battery.

Written from the families' formats, not from the decoders. `says` is what tells one content of a tag from
another; frames that say the same cannot be told apart by anybody.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from gatewayd.core.tags.text import BASE_UUID

# Bursts: half of them no longer than a second; a good tag repeats its press for a minute.
BURSTS_S: Final = (0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 3.0, 3.0, 10.0, 60.0)
COPY_S: Final = 0.1
HEARTBEAT_S: Final = 8.0
NEVER: Final = 0xFFFF  # Kontakt: seconds since the last click


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One advertisement."""

    address: str
    says: str
    stream: str = ""  # frames of several streams are on the air in turn, each with a number of its own
    own: bool = True  # whether it shows the press itself, while its burst lasts
    counter: int | None = None  # of a sealed one: higher with each content, from 0 with a new battery
    service_data: Mapping[str, bytes] = field(default_factory=dict)
    manufacturer_data: Mapping[int, bytes] = field(default_factory=dict)


def _service(short: str) -> str:
    return BASE_UUID.format(short.lower())


class Tag:
    """A tag that says nothing at rest; each family fills in what it sends."""

    family = ""
    section = ""  # its configuration, without name and address
    numbered = True  # whether its frames number what they say
    sealed = False  # whether it proves itself
    bursts_s: tuple[float, ...] = BURSTS_S
    copy_s = COPY_S
    rest_s: float | None = HEARTBEAT_S  # between frames at rest
    deaf_s = 0.0  # after the burst of a press the next one cannot be told for so long
    goes_on = False  # whether frames at rest still tell of the last press
    stream = ""  # of the last press

    def __init__(self, name: str, address: str, dice: random.Random) -> None:
        self.name = self.worker = name
        self.address = address
        self.key: bytes | None = None

    def configuration(self) -> str:
        """Its section of the gateway's file."""
        return f"[tag {self.name}]\naddress = {self.address}\nworker = {self.worker}\n{self.section}"

    def press(self, dice: random.Random) -> None:
        """Somebody presses (one of) its buttons."""

    def new_battery(self) -> None:
        """Its numbers begin anew."""

    def pressed(self, since_s: float) -> list[Frame]:
        """What goes out at once `since_s` after the press, while its burst lasts."""
        raise NotImplementedError

    def at_rest(self, since_s: float) -> list[Frame]:
        """What goes out at once between presses, `since_s` after the last one."""
        return []

    def _frame(
        self,
        says: str,
        service_data: Mapping[str, bytes] | None = None,
        manufacturer_data: Mapping[int, bytes] | None = None,
    ) -> Frame:
        return Frame(
            address=self.address,
            says=says,
            service_data=service_data or {},
            manufacturer_data=manufacturer_data or {},
        )


class BTHome(Tag):
    """Shelly BLU and kin, plain: each content takes the next packet id; a heartbeat says "none"."""

    family = "bthome"
    section = "format = bthome\n"
    buttons = 1
    repeats = False  # its heartbeat is the old press with the old packet id

    def __init__(self, name: str, address: str, dice: random.Random) -> None:
        super().__init__(name, address, dice)
        self._id = dice.randrange(256)
        self._counter = dice.randrange(5_000)
        self._state = bytes(self.buttons)
        self.battery_pct = 90
        if self.sealed:
            self.key = dice.randbytes(16)
            self.section = f"format = bthome\nkey_credential = {name}\n"
        self._content = self._build()

    def press(self, dice: random.Random) -> None:
        which = dice.randrange(self.buttons)
        self.press_as(dice.choice((1, 1, 1, 2, 4)), which)

    def press_as(self, event: int, which: int = 0) -> None:
        """Somebody presses this button in this pattern, by BTHome's number of it."""
        self._next(bytes(event if each == which else 0 for each in range(self.buttons)))

    def new_battery(self) -> None:
        self._id = self._counter = 0
        self._state = bytes(self.buttons)
        self._content = self._build()

    def pressed(self, since_s: float) -> list[Frame]:
        return [self._content]

    def at_rest(self, since_s: float) -> list[Frame]:
        if self.repeats:
            self._counter += 1
            self._content = self._build()
        else:
            self._next(bytes(self.buttons))
        return [self._content]

    def _next(self, state: bytes) -> None:
        self._id = (self._id + 1) % 256
        self._counter += 1
        self._state = state
        self._content = self._build()

    def _build(self) -> Frame:
        objects = bytes((0x00, self._id, 0x01, self.battery_pct)) + b"".join(
            bytes((0x3A, each)) for each in self._state
        )
        says = f"{self._id} {self._state.hex()}"
        if self.key is None:
            return self._frame(says, {_service("FCD2"): b"\x44" + objects})
        counter = self._counter.to_bytes(4, "little")
        nonce = bytes.fromhex(self.address.replace(":", "")) + b"\xd2\xfc\x45" + counter
        both = AESCCM(self.key, tag_length=4).encrypt(nonce, objects, None)
        sealed = b"\x45" + both[:-4] + counter + both[-4:]
        return replace(self._frame(says, {_service("FCD2"): sealed}), counter=self._counter)


class SilentBTHome(BTHome):
    """Plain, and nothing at rest: the press stays the last thing heard."""

    rest_s = None


class SealedBTHome(BTHome):
    sealed = True


class RepeatingBTHome(BTHome):
    """Sealed; the heartbeat is the old press under its old id and a new counter."""

    sealed = True
    repeats = True
    goes_on = True


class FourButtons(BTHome):
    sealed = True
    buttons = 4


class UnnumberedBTHome(Tag):
    """A press without a packet id: only time tells it from its copies."""

    family = "bthome"
    section = "format = bthome\n"
    numbered = False
    bursts_s = (0.5, 0.5, 1.0, 3.0, 8.0)
    rest_s = None
    deaf_s = 10.5

    def pressed(self, since_s: float) -> list[Frame]:
        return [self._frame("press", {_service("FCD2"): bytes.fromhex("44 01 5A 3A 01")})]


class Moko(Tag):
    """BXP-B: single, double and long each have a frame and a count, on the air in turn."""

    family = "moko"
    section = "format = moko\n"
    rest_s = 2.0
    goes_on = True
    wraps = 1 << 16
    kinds = ("press", "double", "long")

    def __init__(self, name: str, address: str, dice: random.Random) -> None:
        super().__init__(name, address, dice)
        self._counts = [self.wraps - 3, dice.randrange(self.wraps), dice.randrange(self.wraps)]
        self._kind = 0

    def press(self, dice: random.Random) -> None:
        self._kind = dice.choice((0, 0, 0, 1, 2))
        self.stream = self.kinds[self._kind]
        self._counts[self._kind] = (self._counts[self._kind] + 1) % self.wraps

    def new_battery(self) -> None:
        self._counts = [0, 0, 0]

    def pressed(self, since_s: float) -> list[Frame]:
        return [self._slot(kind, kind == self._kind) for kind in range(3)]

    def at_rest(self, since_s: float) -> list[Frame]:
        return [self._slot(kind, False) for kind in range(3)]

    def _slot(self, kind: int, triggered: bool) -> Frame:
        data = bytes((0x20 + kind, 2 * triggered)) + self._counts[kind].to_bytes(2, "big") + b"\x01\x02"
        return replace(
            self._frame(str(self._counts[kind]), {_service("FEE0"): data}),
            stream=self.kinds[kind],
            own=triggered,
        )


class Ela(Tag):
    """Blue … Touch: a count of 15 bits and whether the button is down, in every frame."""

    family = "ela"
    section = "format = ela\n"
    rest_s = 3.0
    goes_on = True

    def __init__(self, name: str, address: str, dice: random.Random) -> None:
        super().__init__(name, address, dice)
        self._count = (1 << 15) - 2

    def press(self, dice: random.Random) -> None:
        self._count = (self._count + 1) % (1 << 15)

    def new_battery(self) -> None:
        self._count = 0

    def pressed(self, since_s: float) -> list[Frame]:
        return [self._touch(1)]

    def at_rest(self, since_s: float) -> list[Frame]:
        return [self._touch(0)]

    def _touch(self, down: int) -> Frame:
        state = (self._count * 2 + down).to_bytes(2, "little")
        return self._frame(str(self._count), None, {0x0757: b"\xb2" + state + b"\xf1\x40"})


class Kontakt(Tag):
    """Telemetry every second: clicks and how long ago the last one was."""

    family = "kontakt"
    section = "format = kontakt\n"
    bursts_s = (30.0,)  # for so long it says that it was clicked just now
    copy_s = 1.0
    rest_s = 3.0
    goes_on = True

    def __init__(self, name: str, address: str, dice: random.Random) -> None:
        super().__init__(name, address, dice)
        self._clicks = 253
        self._clicked = False

    def press(self, dice: random.Random) -> None:
        self._clicks = (self._clicks + 1) % 256
        self._clicked = True

    def new_battery(self) -> None:
        self._clicks, self._clicked = 0, False

    def pressed(self, since_s: float) -> list[Frame]:
        return self.at_rest(since_s)

    def at_rest(self, since_s: float) -> list[Frame]:
        ago = min(int(since_s), NEVER - 1) if self._clicked else NEVER
        data = b"\x03\x04\x11" + bytes((self._clicks,)) + ago.to_bytes(2, "little")
        return [self._frame(str(self._clicks), {_service("FE6A"): data})]


class IBeacon(Tag):
    """KKM, Blue Charm, Feasycom: a slot on the air for 30 s, every 0.4 s, when pressed."""

    family = "ibeacon"
    configured_as = "ibeacon"
    numbered = False
    bursts_s = (30.0,)
    copy_s = 0.4
    rest_s: float | None = None
    deaf_s = 30.5

    def __init__(self, name: str, address: str, dice: random.Random) -> None:
        super().__init__(name, address, dice)
        self._uuid = dice.randbytes(16)

    def configuration(self) -> str:
        who = f"[tag {self.name}]\nworker = {self.worker}\nformat = {self.configured_as}\n"
        return f"{who}uuid = {UUID(bytes=self._uuid)}\nmajor = 1\nminor = 513\n{self.section}"

    def pressed(self, since_s: float) -> list[Frame]:
        return [self._shows("here", self._uuid)]

    def _shows(self, says: str, uuid: bytes) -> Frame:
        return self._frame(says, None, {0x004C: b"\x02\x15" + uuid + b"\x00\x01\x02\x01\xc5"})


class LongIBeacon(IBeacon):
    """The same, set to be on the air for a minute."""

    section = "on_air = 60s\n"
    bursts_s = (60.0,)
    deaf_s = 60.5


class KontaktBeacon(IBeacon):
    """Kontakt: what the maker's app shows at rest, and beside it for 10 s the UUID's last digit and one."""

    configured_as = "kontakt_ibeacon"
    bursts_s = (10.0,)
    rest_s = 1.0
    deaf_s = 10.5

    def pressed(self, since_s: float) -> list[Frame]:
        last = self._uuid[-1]
        uuid = self._uuid[:-1] + bytes((last & 0xF0 | (last + 1) & 0x0F,))
        return [self._shows("here", uuid), replace(self._shows("rest", self._uuid), own=False)]

    def at_rest(self, since_s: float) -> list[Frame]:
        return [self._shows("rest", self._uuid)]


class Eddystone(Tag):
    """A UID slot on the air for 30 s when pressed, and telemetry all the time."""

    family = "eddystone"
    numbered = False
    bursts_s = (30.0,)
    copy_s = 0.4
    rest_s = 5.0
    deaf_s = 30.5

    def __init__(self, name: str, address: str, dice: random.Random) -> None:
        super().__init__(name, address, dice)
        self._uid = dice.randbytes(16)

    def configuration(self) -> str:
        who = f"[tag {self.name}]\nworker = {self.worker}\nformat = eddystone\n"
        return f"{who}namespace = {self._uid[:10].hex()}\ninstance = {self._uid[10:].hex()}\n"

    def pressed(self, since_s: float) -> list[Frame]:
        return [self._frame("here", {_service("FEAA"): b"\x00\xc5" + self._uid + bytes(2)})]

    def at_rest(self, since_s: float) -> list[Frame]:
        telemetry = b"\x20\x00\x0b\xb8\x15\x00" + int(since_s * 10).to_bytes(8, "big")
        return [self._frame("telemetry", {_service("FEAA"): telemetry})]


class Minew(IBeacon):
    """B10, E8: the information frame for presence, and a slot that is assigned beside it."""

    family = "minew"
    configured_as = "minew_ibeacon"
    rest_s = 5.0

    def configuration(self) -> str:
        return super().configuration() + f"[tag {self.name}-info]\nformat = minew\naddress = {self.address}\n"

    def at_rest(self, since_s: float) -> list[Frame]:
        address = bytes.fromhex(self.address.replace(":", ""))[::-1]
        return [self._frame("info", {_service("FFE1"): b"\xa1\x08\x5a" + address + b"PLUS"})]


MODELS: Final[tuple[Callable[[str, str, random.Random], Tag], ...]] = (
    BTHome,
    SilentBTHome,
    SealedBTHome,
    RepeatingBTHome,
    FourButtons,
    UnnumberedBTHome,
    Moko,
    Ela,
    Kontakt,
    IBeacon,
    LongIBeacon,
    KontaktBeacon,
    Eddystone,
    Minew,
)


def other(number: int, address: Callable[[], str], dice: random.Random) -> Frame:
    """Somebody else's device: a phone, a beacon, a button of another care team."""
    kinds: tuple[Frame, ...] = (
        Frame(address=address(), says="", manufacturer_data={0x0006: dice.randbytes(20)}),
        Frame(address=address(), says="", manufacturer_data={0x004C: b"\x02\x15" + dice.randbytes(21)}),
    )
    foreign = BTHome("foreign", address(), dice)
    foreign.press(dice)
    return (*kinds, *foreign.pressed(0.0))[number % 3]
