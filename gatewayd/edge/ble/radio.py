"""The radio: one adapter or several, each with a scan and a ladder of recovery of its own.

Every adapter that is on is used where none is configured: two hear what one misses, and one goes on where the
other dies. One that was off from the start is left off while another scans, and switched on where none does.
What both hear is one press: core/presence compares what was said, not who heard it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from gatewayd.config import model as config
from gatewayd.core.health import Alive
from gatewayd.core.model import Advertisement, State
from gatewayd.core.recovery import Finding, Hearing, together
from gatewayd.edge.ble.bluez import NONE_FREE, Adapter, UnavailableError, choose
from gatewayd.edge.ble.ear import Concerns, Ear, Timing
from gatewayd.edge.ble.remedies import Remedies


def _everything(
    _address: str,
    _service_data: Mapping[str, bytes],
    _manufacturer_data: Mapping[int, bytes],
    _rssi_dbm: int | None,
) -> bool:
    return True


def _scans(ear: Ear) -> bool:
    """Whether an ear has an adapter that hears, as far as is known: a quiet road is no failure."""
    if ear.adapter is None or ear.hearing is None:
        return ear.adapter is not None
    return ear.hearing.proven or not (ear.trusted or ear.hearing.state is State.FAILED)


class Radio:
    """Hears advertisements until it is cancelled, whatever happens to adapters, bluetoothd or D-Bus.

    `on_advertisement` is called in the event loop for every report that `concerns` wants (default: all of
    them), repeats included: both must be cheap and must not raise. It is given the data that were sent now,
    though BlueZ and bleak keep those of earlier frames of the device too, so that the other slots of a tag do
    not pass for an alarm slot that goes on for ever. A press is decided on counters or edges all the same,
    never on being called.

    How that can be told: while a client asks for duplicates BlueZ signals `ManufacturerData`, and likewise
    `ServiceData`, with every frame that has such data, and the property then holds the entries of this frame
    (and its scan response) only; a frame without such data leaves the property alone and unsignalled. What
    cannot be told: of two frames with the same property that bluetoothd takes in one turn of its loop the
    later one's data are signalled alone; a burst's next copy makes up for it. And in the second before a scan
    that died is replaced, BlueZ may merge entries within a property.

    `remedies`: what may be done about a radio that does not hear; None, for whoever only listens beside the
    daemon: nothing but fresh scans.
    """

    def __init__(
        self,
        settings: config.Radio,
        *,
        on_advertisement: Callable[[Advertisement], None],
        report: Callable[[Hearing], None],
        alive: Alive,
        concerns: Concerns = _everything,
        remedies: Remedies | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._wanted = settings.adapters
        self._canary = settings.canary.upper() if settings.canary else None
        self._on_advertisement = on_advertisement
        self._report = report
        self._alive = alive
        self._concerns = concerns
        self._remedies = remedies
        self._timing = timing or Timing()
        self._ears: dict[Ear, str | None] = {}  # and the adapter each must have; None: any that is free
        self._used: set[str] = set()  # addresses of adapters that were on; any other is off on purpose
        self._awaited: set[Ear] = set()  # those that made no progress since the last sign of life
        self._said: Hearing | None = None
        self._group: asyncio.TaskGroup

    async def run(self) -> None:
        """Scan until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            for wanted in self._wanted or (None,):
                self._add(wanted)

    def _add(self, wanted: str | None) -> None:
        ear = Ear(
            choose=self._choose,
            canary=self._canary,
            on_advertisement=self._on_advertisement,
            concerns=self._concerns,
            changed=self._tell,
            alone=self._alone,
            alive=self._lives,
            remedies=self._remedies,
            timing=self._timing,
        )
        self._ears[ear] = wanted
        self._group.create_task(ear.run(), name=f"radio {wanted or len(self._ears)}")

    def _choose(self, ear: Ear, adapters: tuple[Adapter, ...]) -> Adapter:
        """Pick an adapter; where any will do, one more ear always looks out for the next that comes."""
        others = [other for other in self._ears if other is not ear]
        taken = {other.adapter.address for other in others if other.adapter is not None}
        adapter = choose(adapters, self._ears[ear], taken)
        if adapter.powered:
            self._used.add(adapter.address)
        elif self._ears[ear] is None and others and adapter.address not in self._used:
            if any(map(_scans, others)):
                raise UnavailableError(NONE_FREE, Finding.TAKEN)  # somebody wants it off
            if ear.path != adapter.path:
                ear.failing = None  # it is switched on when no other scanned for long enough from now on
        if self._ears[ear] is None and adapter.powered and all(other.adapter for other in others):
            self._add(None)
        return adapter

    def _alone(self, ear: Ear) -> bool:
        """Whether none of the others hears, nor has an adapter to mend where this one only looks out."""
        others = [other for other in self._ears if other is not ear]
        looks_out = ear.path is None and any(other.path is not None for other in others)
        return not looks_out and not any(other.hearing and other.hearing.proven for other in others)

    def _lives(self, ear: Ear) -> None:
        """A sign of life of all is one of the radio."""
        self._awaited.discard(ear)
        if not self._awaited:
            self._awaited = set(self._ears)
            self._alive()

    def _tell(self) -> None:
        """Report how all of them together are, on change. Where none hears one that is off must do."""
        if not any(map(_scans, self._ears)):
            for ear in self._ears:
                if ear.hearing and ear.hearing.detail == NONE_FREE:
                    ear.nudge()
        each = [ear.hearing for ear in self._ears if ear.hearing and ear.hearing.detail != NONE_FREE]
        if not each:
            return
        hearing = together(each, all_wanted=bool(self._wanted))
        if hearing != self._said:
            self._said = hearing
            self._report(hearing)
