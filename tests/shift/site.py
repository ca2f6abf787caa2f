"""A gateway of the shift: the daemon's own deciding part and health, on the shift's clock, with a disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from simulated import Machine, hear

from gatewayd.config.layers import Layers
from gatewayd.config.load import assemble
from gatewayd.config.model import Config
from gatewayd.core import payload, topic
from gatewayd.core.command import Incoming
from gatewayd.core.health import Facts, Health, HostFacts
from gatewayd.core.model import Body, Component, Instant, State
from gatewayd.core.topic import Kind
from gatewayd.gateway import Gateway
from gatewayd.records import ALARM
from gatewayd.uplink import Batch
from shift.tags import Frame, Tag

SIGN_S: Final = 6.0  # a gateway's signs of life at the broker
INTERVAL_S: Final = 60.0  # [health] interval
FACTS: Final = Facts(host=HostFacts())


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """A press as the gateway told it."""

    tag: str
    alarm: str
    heard_s: float  # true time
    raised: bool  # it began the alarm
    press_key: str | None = None
    auth: str | None = None  # None, and no event: only counted on an open alarm
    event: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """A time in which ops knew that the gateway does not hear, true time."""

    began_s: float
    ended_s: float


@dataclass(slots=True)
class Site:
    """One gateway, which dies and comes back with what its disk has."""

    machine: Machine
    config: Config
    hears: bool = True  # whether the adapter and bluetoothd deliver
    gateway: Gateway | None = None
    scanning: bool = False
    activations: list[Activation] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    restarted_s: float = 0.0  # the last time
    _presses: dict[str, int] = field(default_factory=dict)  # of each alarm
    _health: Health | None = None
    _radio: Body = field(default_factory=dict)  # as last told
    _absent_s: float | None = None  # since when it is known not to hear
    _runs: int = 0
    _orders: int = 0

    @property
    def name(self) -> str:
        return self.machine.name

    def start(self) -> None:
        """The daemon starts; its records are not read yet."""
        self._runs += 1
        self.restarted_s = self.machine.clock()
        self.gateway = Gateway(
            self.config, run=f"{self.name}-{self._runs}", now=self.machine.now, accepted=lambda _: None
        )
        self.gateway.sender = self
        self._health = Health.begin(self.machine.now())
        self.scanning = False
        self.tell()

    def restore(self) -> None:
        if self.gateway is not None:
            self.gateway.restore(self.machine.read())

    def die(self) -> None:
        """The daemon ends, and the broker's will says so: it was last heard of at its last sign of life."""
        self.gateway = self._health = None
        if self._absent_s is None:
            self._absent_s = self.machine.clock() - self.machine.clock() % SIGN_S

    def report(self, detail: str = "") -> None:
        """What the radio edge says: `detail` of a failure, or that it hears."""
        if self._health is not None:
            state = State.FAILED if detail else State.OK
            self._health = self._health.report(Component.RADIO, state, detail, self.machine.now())
            self.tell()

    def scan(self) -> None:
        """The daemon's radio edge has begun."""
        self.scanning = True
        self.report("" if self.hears else "the adapter is off")

    def tell(self) -> None:
        """Publish health where it is due; ops notes since when the gateway is said not to hear."""
        if self._health is not None and self._health.message_due(self.machine.now(), INTERVAL_S):
            self._health, draft = self._health.publish(FACTS, self.machine.now())
            self._note(draft.body["components"][Component.RADIO])  # type: ignore[index,call-overload]

    def _note(self, radio: Any) -> None:
        since_s = self.machine.true_s(radio["since"])
        if radio["state"] != State.OK:
            self._absent_s = since_s if self._absent_s is None else min(since_s, self._absent_s)
            return
        if self._absent_s is not None:
            self.absences.append(Absence(began_s=self._absent_s, ended_s=since_s))
            self._absent_s = None
        last = radio.get("last_outage")
        if last is not None:
            began_s = self.machine.true_s(last["began_at"])
            self.absences.append(Absence(began_s=began_s, ended_s=began_s + last["lasted_s"]))

    def end(self) -> None:
        """The shift is over."""
        if self._absent_s is not None:
            self.absences.append(Absence(began_s=self._absent_s, ended_s=self.machine.clock()))

    def hear(self, frame: Frame) -> bool:
        """Hear it if that is possible, as the radio edge does; whether it was."""
        if self.gateway is None or not (self.hears and self.scanning):
            return False
        hear(self.gateway, frame, self.machine.now().mono_s)
        return True

    def tick(self) -> None:
        if self.gateway is not None:
            self.gateway.on_tick()
            self.tell()

    def close(self, alarm: str) -> bool:
        """Ops closes an alarm; whether the gateway was there to be told."""
        if self.gateway is None:
            return False
        self._orders += 1
        order = {"id": f"{self.name}-{self._orders}", "actor": {"id": "desk"}, "alarm": alarm}
        text = json.dumps({**order, "outcome": "real"}).encode()
        self.gateway.on_command(Incoming(name="alarm/close", payload=text))
        return True

    def send(self, batch: Batch) -> None:
        """The uplink and the disk: what is sent is stored, and looked at for presses."""
        self.machine.store(batch.records, batch.forget)
        for (kind, alarm), text in batch.records.items():
            if kind == ALARM:
                self._look(alarm, payload.load(text), batch)

    def _look(self, alarm: str, state: Body, batch: Batch) -> None:
        presses, tag, pressed = state["presses"], state["tag"], state["pressed_at"]
        assert isinstance(presses, int)
        assert isinstance(tag, dict)
        assert isinstance(pressed, Instant)
        before = self._presses.get(alarm, 0)
        self._presses[alarm] = presses
        for more in range(before, presses):
            told = Activation(
                tag=str(tag["id"]), alarm=alarm, heard_s=self.machine.true_s(pressed), raised=more == 0
            )
            self.activations.append(replace(told, **_event(alarm, batch)))


def _event(alarm: str, batch: Batch) -> dict[str, Any]:
    """What the event of a press says, if it is told by one."""
    for message in batch.messages:
        where = topic.parse(message.topic)
        if where is None or where.kind is not Kind.ALARM_EVENT or where.alarm != alarm:
            continue
        if message.body["type"] in {"raised", "repeated"}:
            body: Any = message.body
            return {
                "press_key": body.get("press_key"),
                **{name: body["tag"][name] for name in ("auth", "event")},
            }
    return {}


def configured(tags: Sequence[Tag], text: str = "[gateway]\nid = gw-1\n[audio]\nenabled = no\n") -> Config:
    """A gateway to which all of these are assigned."""
    layers = Layers()
    layers.add((text + "".join(tag.configuration() for tag in tags)).encode(), "gatewayd.conf")
    config = assemble(layers, credentials=None, machine_id="0" * 32).config
    keys = {tag.name: tag.key for tag in tags}
    return replace(config, tags=tuple(replace(tag, key=keys.get(tag.name)) for tag in config.tags))
