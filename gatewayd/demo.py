"""The demonstration: a tag is pressed, and the real gateway tells a simulated ops desk, all on this machine.

bluetoothd with its radio and tag, the receiver and the microphone are simulated, on the real D-Bus, serial
port and alsa-lib; the broker and the daemon are what runs in a vehicle.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

from gatewayd.config.model import Broker
from gatewayd.core.topic import Kind
from gatewayd.monitor.client import Monitor, Options, View
from gatewayd.monitor.desk import LiveView, PlainView
from gatewayd.monitor.news import News, duration_ms
from gatewayd.sim.broker import LOOPBACK, BrokerError
from gatewayd.sim.desk import Desk
from gatewayd.sim.world import GATEWAY, PREFIX, World

LIMIT_S: Final = 50.0  # for the whole story; it takes about 12 s
SOUND_S: Final = 3.0  # what a headless run waits for
WATCHED_S: Final = 10.0  # how long a person watches the sound come in
# The picture: the monospaced font of whoever looks at it, nothing fetched from elsewhere.
_SVG: Final = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: monospace; font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-family: sans-serif; font-size: 18px; font-weight: bold; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
ACTOR: Final = {"id": "demo", "name": "the demo's ops desk"}


@dataclass(slots=True, kw_only=True)
class Story:
    """What the ops desk has seen so far."""

    alarm: str | None = None
    online: bool = False
    ready: bool = False  # the radio listens and there is a fix
    events: list[str] = field(default_factory=list)
    position: dict[str, Any] | None = None
    hops_ms: dict[str, float] = field(default_factory=dict)
    handling: str = ""
    chunks: set[int] = field(default_factory=set)
    sound_ms: int = 0

    def take(self, news: News) -> None:
        """Take one message in."""
        body = dict(news.body or {})
        match news.kind:
            case Kind.STATUS:
                self.online = body.get("state") == "online"
            case Kind.HEALTH:
                states = {name: part["state"] for name, part in body["components"].items()}
                self.ready = states["gps"] == "ok" and states["radio"] in {"ok", "degraded"}
                self.ready &= "scans" in body["components"]["radio"]["detail"] and states["mic"] == "ok"
            case Kind.ALARM_EVENT:
                self.alarm = news.alarm
                self.events.append(str(body["type"]))
                self.position = body.get("position", self.position)
            case Kind.ALARM_STATE:
                self.hops_ms = body.get("hops_ms", self.hops_ms)
                self.handling = body.get("handling", self.handling)
            case Kind.ALARM_AUDIO if news.n is not None and news.n not in self.chunks:
                self.chunks.add(news.n)
                self.sound_ms += duration_ms(news)
            case _:
                pass

    def told(self, sound_s: float) -> bool:
        """Whether everything that makes an alarm has arrived."""
        parts = {"raised", "position", "audio_started"} <= set(self.events)
        return parts and self.sound_ms >= sound_s * 1000

    def result(self, audio_file: Path) -> dict[str, Any]:
        """The outcome as one JSON object, as the contract has it."""
        confirmed_ms = self.hops_ms.get("confirmed")
        ok = self.told(SOUND_S) and self.events[0] == "raised" and confirmed_ms is not None
        return {
            "ok": ok and self.handling == "closed" and audio_file.exists(),
            "alarm": self.alarm,
            "heard_to_confirmed_ms": confirmed_ms,
            "position": self.position,
            "audio_chunks": len(self.chunks),
            "audio_s": round(self.sound_ms / 1000, 2),
            "audio_file": str(audio_file),
            "events": self.events,
        }


class _Watching:
    """A monitor's view that also follows the story; the messages come in on another thread."""

    def __init__(self, view: View, story: Story, loop: asyncio.AbstractEventLoop) -> None:
        self._view = view
        self._story = story
        self._loop = loop
        self.news = asyncio.Event()

    def show(self, news: News, level_dbfs: float | None) -> None:
        self._view.show(news, level_dbfs)
        self._loop.call_soon_threadsafe(self._take, news)

    def _take(self, news: News) -> None:
        self._story.take(news)
        self.news.set()

    def say(self, line: str) -> None:
        self._view.say(line)

    def tick(self) -> None:
        self._view.tick()

    def close(self) -> None:
        self._view.close()


class Demo:
    """One run of the demonstration."""

    def __init__(self, folder: Path, view: View, audio_file: Path, sound_s: float) -> None:
        self.story = Story()
        self._world = World(folder)
        self._view = view
        self._audio_file = audio_file
        self._sound_s = sound_s

    async def run(self, before_close: Callable[[], None] = lambda: None) -> None:
        """Tell the story. TimeoutError when something in it does not happen."""
        watching = _Watching(self._view, self.story, asyncio.get_running_loop())
        async with asyncio.timeout(LIMIT_S), self._world.up():
            broker = Broker(host=LOOPBACK, port=self._world.broker.port)
            options = Options(brokers=(broker,), prefix=PREFIX, save=self._audio_file)
            monitor = Monitor(options, watching, None)
            seeing = asyncio.create_task(asyncio.to_thread(monitor.run), name="monitor")
            try:
                await self._tell(watching, before_close)
            finally:
                monitor.stop()
                await asyncio.wait([seeing])
                monitor.close()

    async def _tell(self, watching: _Watching, before_close: Callable[[], None]) -> None:
        story, say = self.story, watching.say
        say(
            "starting the real gateway; bluetoothd and the tag, the receiver and the microphone are simulated"
        )
        await self._world.start()
        await self._until(watching, lambda: story.online and story.ready)
        say("the gateway is up: a nurse presses her tag, once")
        await self._world.press()
        await self._until(watching, lambda: story.told(self._sound_s))
        desk = Desk(self._world.broker.port, PREFIX, GATEWAY)
        for command in ("alarm/received", "alarm/accept"):
            await desk.command(command, alarm=story.alarm, actor=ACTOR)
        await self._until(watching, lambda: story.handling == "accepted" and "confirmed" in story.hops_ms)
        before_close()
        await desk.command("alarm/close", alarm=story.alarm, actor=ACTOR, outcome="test")
        await self._until(watching, lambda: story.handling == "closed" and "audio_ended" in story.events)
        say("the alarm is closed: the gateway stops")
        await self._world.stop()

    async def _until(self, watching: _Watching, happened: Callable[[], bool]) -> None:
        while not happened():
            daemon = self._world.daemon
            if daemon is not None and daemon.returncode is not None:
                raise RuntimeError(f"expected the gateway to run, it ended: {self.log}")
            watching.news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await watching.news.wait()

    @property
    def log(self) -> str:
        """What the gateway logged."""
        return self._world.log.read_text(errors="replace") if self._world.log.exists() else "nothing"


def main(*, headless: bool, picture: Path | None) -> int:
    """Run the demonstration; return its exit status: 0 when all of it came true."""
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        audio_file = Path(tempfile.mkdtemp(prefix="gatewayd-demo-")) / "alarm.opus"
        view = _view(headless=headless, drawn=picture is not None)
        demo = Demo(Path(folder), view, audio_file, SOUND_S if headless else WATCHED_S)

        def draw() -> None:
            if picture is not None and isinstance(view, LiveView):
                _draw(view, picture, hidden=f"{audio_file.parent}/")

        try:
            asyncio.run(demo.run(draw))
        except (BrokerError, FileNotFoundError, RuntimeError) as error:
            print(f"gatewayd demo: {error}", file=sys.stderr)
        except TimeoutError:
            seen = ", ".join(demo.story.events) or "no event"
            missing = f"expected the whole story within {LIMIT_S:.0f} s, got {seen}; the gateway's log:"
            print(f"gatewayd demo: {missing}\n{demo.log}", file=sys.stderr)
        result = demo.story.result(audio_file)
    if headless:
        print(json.dumps(result))
    elif result["ok"]:
        print(_farewell(result))
    return 0 if result["ok"] else 1


def _view(*, headless: bool, drawn: bool) -> View:
    """What a person sees: drawn in place on a terminal with `rich`, else lines; progress when headless."""
    out: TextIO = sys.stderr if headless else sys.stdout
    if drawn or (out.isatty() and not headless):
        with suppress(ImportError):
            return LiveView(out)
    return PlainView(out)


def _draw(view: LiveView, picture: Path, *, hidden: str) -> None:
    """Draw what a person sees now, without the `hidden` folder of this machine."""
    from rich.console import Console  # noqa: PLC0415 - optional

    console = Console(record=True, width=118, file=io.StringIO())
    console.print(view.draw())
    picture.write_text(console.export_svg(title="scripts/demo", code_format=_SVG).replace(hidden, ""))


def _farewell(result: dict[str, Any]) -> str:
    where = result["audio_file"]
    return "\n".join(
        (
            "",
            f"heard by the radio → confirmed by the broker: {result['heard_to_confirmed_ms']} ms",
            f"{result['audio_s']} s of sound in {result['audio_chunks']} chunks: {where}",
            f"listen to it:  ffplay {where}    or    mpv {where}    or    opusdec {where} - | aplay",
        )
    )
