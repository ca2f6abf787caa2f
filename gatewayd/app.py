"""The daemon: wiring, start order, signals, reload, stop order. It decides nothing.

The radio hears from the first moment on; what it hears is kept until the disk's records are read. An edge is
started again, alone, when a reload changes what it is made from.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import threading
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from gatewayd import __version__
from gatewayd.caretaker import Caretaker
from gatewayd.config.load import Loaded, Started, keep, load, read_machine_id, without_keyless
from gatewayd.config.model import Config
from gatewayd.config.problem import ConfigurationError
from gatewayd.core.drain import Backlog
from gatewayd.core.health import Alive, Facts, Health, OutboxFacts, power
from gatewayd.core.journal import MessageId, fields
from gatewayd.core.model import Advertisement, Component, Fix, State, Tag, TagReport, Told
from gatewayd.core.preroll import PreRoll
from gatewayd.core.recovery import Hearing
from gatewayd.core.tags import itag
from gatewayd.edge.ble import Buttons, Radio, Remedies, runtime_folder
from gatewayd.edge.clock import Clock, boot_id
from gatewayd.edge.gpio import Gpio
from gatewayd.edge.gps import Gps
from gatewayd.edge.host import Host
from gatewayd.edge.mic import Microphone
from gatewayd.edge.outbox import Outbox
from gatewayd.edge.systemd import Systemd
from gatewayd.gateway import Gateway
from gatewayd.records import RECORDS
from gatewayd.timekeeper import keep_time
from gatewayd.uplink import Uplink

logger = logging.getLogger(__name__)

TICK_S: Final = 1.0
COUNT_S: Final = 5.0  # half a dozen small files and a query: little, and not every second
EDGES_STOP_S: Final = 1.5  # a driver that hangs must not keep the last chunk and the disk from their turn
STOP_S: Final = 4.5  # SIGTERM stops within 5 s, whatever hangs
# A loop's bound in the systemd watchdog: several times what it promises, so that a busy machine is no hang.
BOUND_S: Final = 30.0
RECORDS_S: Final = 3.0  # for the disk to say what it knows; then the gateway hears and alarms without it


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """How one edge is made: of which settings, and the coroutine that runs it."""

    made_of: Callable[[Config], object]
    run: Callable[[Config, Alive], Coroutine[Any, Any, None] | None]  # None: it is off


def _buttons(config: Config) -> tuple[Tag, ...]:
    """The tags that must be connected to be heard."""
    return tuple(tag for tag in config.tags if config.radio.enabled and tag.format == itag.NAME)


class App:
    """One run of the daemon."""

    def __init__(
        self, started: Started, *, config_path: Path | None, state: Path, credentials: Path | None
    ) -> None:
        self._loaded = started.loaded
        self._config = started.loaded.config
        self._refused = started.errors
        self._warnings = started.loaded.warnings
        self._config_path = config_path
        self._state = state
        self._credentials = credentials
        self._systemd = Systemd()
        self._clock = Clock(boot=boot_id())
        self._host = Host()
        self._host_facts = self._host.facts()
        self._stop = asyncio.Event()
        self._reload_wanted = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup
        self._bugs = 0
        self._external_power: bool | None = None
        self._waiting: OutboxFacts | None = None
        self._gpio: Gpio | None = None
        self._buttons: Buttons | None = None
        now = self._clock.now
        self._gateway = Gateway(
            self._config,
            run=str(uuid.uuid4()),
            now=now,
            accepted=self._accepted,
            tell_room=self._tell_room,
            tell_wearer=self._tell_wearer,
            show_test=self._show_test,
            tested=self._tested,
        )
        self._caretaker = Caretaker(
            systemd=self._systemd,
            now=now,
            publish=self._gateway.publish,
            facts=self._facts,
            status=self._status,
            show=self._show,
        )
        outbox = self._config.outbox
        self._outbox = Outbox(
            outbox.path or state / "outbox.db",
            budget_bytes=outbox.budget_bytes,
            now=now,
            report=self._caretaker.report(Component.OUTBOX),
            alive=self._caretaker.must_run("outbox", BOUND_S),
        )
        self._backlog = Backlog()
        self._uplink: Uplink  # made when it is started, so anew with every configuration of it
        self._edges = {
            "radio": Edge(made_of=lambda config: config.radio, run=self._run_radio),
            "buttons": Edge(made_of=_buttons, run=self._run_buttons),
            "gps": Edge(made_of=lambda config: config.gps.source, run=self._run_gps),
            "mic": Edge(made_of=lambda config: config.audio, run=self._run_mic),
            "gpio": Edge(made_of=lambda config: config.gpio, run=self._run_gpio),
            "uplink": Edge(made_of=lambda config: (config.mqtt, config.gateway), run=self._run_uplink),
        }

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT; then stop within 5 s and lose nothing."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.set_exception_handler(self._on_bug)
        loop.add_signal_handler(signal.SIGHUP, self._reload_wanted.set)
        async with asyncio.TaskGroup() as self._group:
            self._start("outbox", self._outbox.run())
            self._gateway.notary.begin(self._state, self._credentials)
            for name in self._edges:
                self._start_edge(name)
            await self._restore()
            self._start("caretaker", self._caretaker.run(lambda: self._config.health.interval_s))
            self._start("ticks", self._tick_forever(self._caretaker.must_run("ticks", BOUND_S)))
            self._start("counts", self._count_forever())
            self._start("time", keep_time(self._clock, self._outbox))
            # What was imported stays: a full collection, which an alarm may have to wait for, takes 5 ms with
            # this and 20 to 60 ms without (measured).
            gc.collect()
            gc.freeze()
            self._systemd.ready()
            logger.info("gatewayd %s is ready", __version__, extra=fields(MessageId.STARTED))
            self._tell_configuration("the last good one")
            if not self._refused:
                self._keep(self._loaded)
            self._start("reloads", self._reload_forever())
            await self._stop.wait()
            await self._wind_down()

    # --- start and stop -------------------------------------------------------------------------------------

    def _start(self, name: str, run: Coroutine[Any, Any, None]) -> None:
        self._tasks[name] = self._group.create_task(run, name=name)

    def _start_edge(self, name: str) -> None:
        run = self._edges[name].run(self._config, self._caretaker.must_run(name, BOUND_S))
        if run is None:
            self._caretaker.need_not_run(name)
        else:
            self._start(name, run)

    async def _end(self, name: str) -> None:
        task = self._tasks.get(name)
        self._caretaker.need_not_run(name)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            del self._tasks[name]

    async def _restore(self) -> None:
        """Give the gateway what the disk knows, or begin without it when the disk does not answer."""
        reading = asyncio.create_task(self._read_records(), name="records")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        await asyncio.wait({reading, stopping}, timeout=RECORDS_S, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if self._stop.is_set():
            reading.cancel()
        elif reading.done():
            self._gateway.restore(reading.result())
        else:
            logger.error("the disk did not answer within %.0f s: beginning without what it knows", RECORDS_S)
            self._gateway.restore({})
            self._start("late records", self._restore_late(reading))

    async def _restore_late(self, reading: asyncio.Task[dict[str, dict[str, str]]]) -> None:
        self._gateway.restore_late(await reading)
        logger.info("the disk has answered: what it knows is known now")

    async def _read_records(self) -> dict[str, dict[str, str]]:
        return {kind: await self._outbox.records(kind) for kind in RECORDS}

    async def _wind_down(self) -> None:
        """Stop hearing first, then close the recording, then say goodbye; the disk is the last to go."""
        self._systemd.stopping()
        logger.info("stopping", extra=fields(MessageId.STOPPED))
        asyncio.get_running_loop().call_later(STOP_S, self._leave)
        hearing = (
            "reloads",
            "late records",
            "time",
            "counts",
            "ticks",
            "radio",
            "buttons",
            "gps",
            "gpio",
            "mic",
        )
        await asyncio.wait([asyncio.create_task(self._end(name)) for name in hearing], timeout=EDGES_STOP_S)
        self._gateway.recorder.finish()
        self._gateway.finish()
        for name in ("caretaker", "uplink", "outbox"):
            await self._end(name)

    def _leave(self) -> None:
        """Go: what is durable is on disk; a thread or a driver that hangs must not hold us."""
        left = ", ".join(self._tasks) or "a thread"
        logger.error("not everything stopped within %.1f s: leaving %s", STOP_S, left)
        logging.shutdown()
        os._exit(0)

    # --- the edges ------------------------------------------------------------------------------------------

    def _run_radio(self, config: Config, alive: Alive) -> Coroutine[Any, Any, None] | None:
        def report(hearing: Hearing) -> None:
            self._caretaker.take(Component.RADIO, hearing.state, hearing.detail, hearing.until_s)
            self._gateway.supervisor.radio(hearing.state, hearing.detail)

        if not config.radio.enabled:
            report(Hearing(state=State.OFF, detail="not enabled"))
            return None
        return Radio(
            config.radio,
            on_advertisement=self._on_advertisement,
            concerns=self._gateway.listener.concerns,
            report=report,
            alive=alive,
            remedies=Remedies(runtime=runtime_folder(os.environ)),
        ).run()

    def _run_buttons(self, config: Config, alive: Alive) -> Coroutine[Any, Any, None] | None:
        tags = _buttons(config)
        self._buttons = Buttons(tags, on_report=self._on_report, alive=alive) if tags else None
        return self._buttons.run() if self._buttons else None

    def _run_gps(self, config: Config, alive: Alive) -> Coroutine[Any, Any, None] | None:
        report = self._caretaker.report(Component.GPS)
        if config.gps.source is None:
            report(State.OFF, "not configured")
            return None
        return Gps(config.gps, on_fix=self._on_fix, report=report, alive=alive, now=self._clock.now).run()

    def _run_mic(self, config: Config, alive: Alive) -> Coroutine[Any, Any, None] | None:
        report = self._caretaker.report(Component.MIC)
        if not config.audio.enabled:
            report(State.OFF, "not enabled")
            self._gateway.recorder.attach(None)
            return None
        recorder = self._gateway.recorder
        if not config.audio.pre_roll_s:
            microphone = Microphone(config.audio, on_sound=recorder.take, report=report, alive=alive)
            recorder.attach(microphone)
            return microphone.run()
        pre_roll = PreRoll(config.audio.pre_roll_s, recorder.take)
        microphone = Microphone(config.audio, on_sound=pre_roll.take, report=report, alive=alive)
        microphone.start()
        recorder.attach(pre_roll)
        return microphone.run()

    def _run_gpio(self, config: Config, alive: Alive) -> Coroutine[Any, Any, None]:
        self._external_power = None
        self._gpio = Gpio(
            config.gpio,
            now=self._clock.now,
            on_press=self._gateway.on_wired_press,
            on_power=self._on_power,
            report=self._caretaker.report(Component.GPIO),
            alive=alive,
        )
        return self._gpio.run()

    def _run_uplink(self, config: Config, alive: Alive) -> Coroutine[Any, Any, None]:
        self._uplink = self._make_uplink(config, alive)
        return self._uplink.run()

    def _on_advertisement(self, advertisement: Advertisement) -> None:
        """Hear one. A frame that we cannot deal with must not keep the others from being heard."""
        if self._buttons is not None:
            self._buttons.hear(advertisement)
        try:
            self._gateway.on_advertisement(advertisement)
        except Exception:  # D-Bus would swallow it
            self._bugs += 1
            logger.exception("an advertisement could not be dealt with")

    def _on_report(self, name: str, report: TagReport, heard_s: float) -> None:
        try:
            self._gateway.on_report(name, report, heard_s)
        except Exception:  # likewise
            self._bugs += 1
            logger.exception("what tag %s told could not be dealt with", name)

    def _tell_wearer(self, name: str, told: Told) -> None:
        if self._buttons is not None:
            self._buttons.tell(name, told)

    def _on_bug(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback failed: the loop logs it and goes on; health counts it, so somebody will look."""
        self._bugs += 1
        loop.default_exception_handler(context)

    def _on_fix(self, fix: Fix) -> None:
        self._clock.learn(fix)
        self._gateway.on_fix(fix)

    def _on_power(self, present: bool | None) -> None:
        """Publish lost power, and save what is in memory: the rest of it may go any moment."""
        changed = self._external_power is not present
        self._external_power = present
        self._report_power()
        if changed and present is False:
            self._gateway.store_all()
            self._uplink.save()
            logger.warning("external power is lost", extra=fields(MessageId.POWER_CHANGED))

    def _report_power(self) -> None:
        state, detail = power(self._external_power, self._host_facts.undervoltage)
        self._caretaker.report(Component.POWER)(state, detail)

    def _make_uplink(self, config: Config, alive: Alive) -> Uplink:
        uplink = Uplink(
            mqtt=config.mqtt,
            gateway=config.gateway,
            version=__version__,
            outbox=self._outbox,
            stamp=self._gateway.stamp,
            now=self._clock.now,
            clock=self._clock.state,
            credentials=self._credentials,
            report=self._caretaker.report(Component.UPLINK),
            alive=alive,
            on_hop=self._gateway.on_hop,
            on_command=self._gateway.on_command,
            on_retained_state=self._gateway.on_retained_alarm,
            on_test=self._gateway.driller.on_back,
            on_adopted=self._caretaker.tell,
            on_outbox_replaced=self._gateway.on_outbox_replaced,
            on_forgotten=self._gateway.on_forgotten,
            backlog=self._backlog,
        )
        self._gateway.sender = uplink
        return uplink

    # --- what is told about the whole -----------------------------------------------------------------------

    async def _tick_forever(self, alive: Alive) -> None:
        while True:
            self._gateway.on_tick()
            self._caretaker.report(Component.CLOCK)(*self._clock.health())
            self._report_power()
            alive()
            await asyncio.sleep(TICK_S)

    async def _count_forever(self) -> None:
        """Count what waits and ask the machine: a disk that hangs may hold this up, and nothing else."""
        while True:
            self._host_facts = self._host.facts()
            self._waiting = await self._uplink.facts()
            await asyncio.sleep(COUNT_S)

    def _facts(self) -> Facts:
        return Facts(
            host=self._host_facts,
            outbox=self._waiting,
            external_power=self._external_power,
            puback_ms=None if self._uplink.puback_s is None else self._uplink.puback_s * 1000,
            sent_today_bytes=self._uplink.sent_today_bytes,
            counters={**self._uplink.counters, **({"bugs": self._bugs} if self._bugs else {})},
            refused=tuple(str(error) for error in self._refused),
            warnings=tuple(str(problem) for problem in self._warnings),
            evidence=self._gateway.notary.body,
            tests=self._gateway.tests,
        )

    def _status(self, health: Health) -> str:
        return health.status_line(
            hearing=self._gateway.listener.hearing,
            online=self._uplink.connected,
            waiting=None if self._waiting is None else self._waiting.depth,
            alarms=self._gateway.open_alarms,
        )

    def _show(self, overall: State) -> None:
        if self._gpio is not None:
            self._gpio.show(overall)

    def _accepted(self, by: Literal["disk", "broker"]) -> None:
        if self._gpio is not None:
            self._gpio.accepted(by)

    def _tested(self) -> None:
        self._caretaker.tell()

    def _show_test(self) -> None:
        if self._gpio is not None:
            self._gpio.show_test()

    def _tell_room(self, told: Told) -> None:
        if self._gpio is not None:
            self._gpio.tell(told)

    # --- the configuration ----------------------------------------------------------------------------------

    def _tell_configuration(self, instead: str) -> None:
        for problem in self._warnings:
            logger.warning("configuration: %s", problem)
        for error in self._refused:
            logger.error("configuration: %s", error, extra=fields(MessageId.CONFIGURATION_REFUSED))
        if self._refused:
            logger.error("the new configuration is bad: running on %s", instead)
        self._caretaker.tell()

    def _keep(self, loaded: Loaded) -> None:
        """Keep what we run on as the last good configuration. A disk that hangs holds up nothing."""

        def write() -> None:
            problem = keep(loaded, self._state)
            if problem is not None:
                logger.error("configuration: %s", problem)

        threading.Thread(target=write, name="keep", daemon=True).start()

    async def _reload_forever(self) -> None:
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            await self._reload()

    async def _reload(self) -> None:
        """Read the configuration again; run on it if it is good, else go on as before, and say so."""
        self._systemd.reloading()
        self._refused = ()
        self._gateway.notary.begin(self._state, self._credentials)
        try:
            loaded = await asyncio.to_thread(self._load)
        except ConfigurationError as error:
            self._refused = error.errors
        else:
            await self._change(without_keyless(loaded, self._config.tags))
        self._tell_configuration("the one before")
        self._systemd.ready()

    def _load(self) -> Loaded:
        return load(self._config_path, credentials=self._credentials, machine_id=read_machine_id())

    async def _change(self, loaded: Loaded) -> None:
        """Run on another configuration: only the edges that it changes start again."""
        before, self._config, self._warnings = self._config, loaded.config, loaded.warnings
        if before.outbox != self._config.outbox:
            logger.warning("[outbox] changed: it holds from the next start on")
        self._gateway.configure(self._config)
        for name, edge in self._edges.items():
            if edge.made_of(before) != edge.made_of(self._config):
                await self._end(name)
                self._start_edge(name)
        logger.info("the configuration was read again", extra=fields(MessageId.CONFIGURATION_CHANGED))
        self._keep(loaded)
