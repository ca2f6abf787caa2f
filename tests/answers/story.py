"""One visit, one press and what follows, told by the commands of those who see to it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from end_to_end.ops import Ops, listening

from answers.questions import (
    ADDRESS,
    CHARGED,
    CHECK_IN,
    CODE_WORD,
    DISCREET,
    EVALUATED,
    EVIDENCE,
    FAST,
    LISTEN,
    LOCATION,
    RECEIVES,
    STEPS,
)
from answers.terminal import Terminal, Typed
from gatewayd.core.topic import Kind
from gatewayd.sim.world import GATEWAY, TAG, World

HEARD_S = 6.0  # of the room, before the alarm is closed
OVERDUE_S = 5 * 60 + 60 + 30 + 15.0  # the shortest visit, its grace, the pre-alarm, and some


async def tell(folder: Path, *, overdue: bool) -> dict[str, list[Typed]]:
    """Let it happen; what was typed, by question. `overdue`: wait for a visit that nobody ends, 7 min."""
    (folder / "world").mkdir()
    world = World(folder / "world", configuration="[visit]\nreminder = 1min\n")
    async with world.up(), listening(world.broker.port) as ops:
        await world.start()
        await ops.ready()
        terminal = Terminal(world, folder)
        await _before(terminal, world, ops)
        alarm = await _alarm(terminal, world, ops)
        await _after(terminal, ops, alarm)
        if overdue:
            await _overdue(terminal, ops)
    return terminal.typed


async def _before(terminal: Terminal, world: World, ops: Ops) -> None:
    """The button is tried, the visit told."""
    await terminal.type(CHARGED, f"gatewayd ops {GATEWAY} test/press_window {TAG} --for-s 60")
    await world.press(for_s=0)
    test = await ops.raised()
    await ops.until("the test's state", lambda: ops.state(test))
    await terminal.type(CHARGED, "gatewayd ops list")
    await terminal.type(CHARGED, f"gatewayd ops {GATEWAY} test/press_window {TAG} --for-s 0")
    await terminal.type(CHARGED, f"gatewayd ops {GATEWAY} close {test} --outcome test")
    await ops.until("the end of the test", lambda: ops.state(test).get("handling") == "closed")
    tag = told(f"tag/{TAG}", "{state, battery, battery_pct, last_test_at, last_seen_at}")
    await terminal.type(CHARGED, tag)
    await terminal.type(CHARGED, f"gatewayd ops {GATEWAY} coverage/get {TAG}")
    await terminal.type(
        ADDRESS,
        f"gatewayd ops {GATEWAY} visit/open v-1204 --worker nurse-1 --expected-end +45min --risk high"
        " --street Lindengracht --number 12 --addition b --floor 3 --city Amsterdam --note 'dog in the hall'"
        " --code-word-ref 'card 7'",
    )
    await terminal.type(DISCREET, "gatewayd show-config | grep -E 'silent|beep|status_led|buzzer'")


async def _alarm(terminal: Terminal, world: World, ops: Ops) -> str:
    """She presses once. Whoever sits at the desk hears, and acts."""
    saving = "mkdir incident; gatewayd monitor --save incident --timeout 25"
    desk = await terminal.begin(saving)
    await asyncio.sleep(2.0)  # it has subscribed by then
    known = {str(body["alarm"]) for body in ops.events("raised")}
    await world.press(for_s=0)
    await ops.until("the alarm", lambda: {str(body["alarm"]) for body in ops.events("raised")} - known)
    [alarm] = {str(body["alarm"]) for body in ops.events("raised")} - known
    await ops.until("its sound", lambda: len(ops.chunks(alarm)) > 2)
    await terminal.type(RECEIVES, "gatewayd ops list")
    await terminal.type(RECEIVES, f"gatewayd ops {GATEWAY} accept {alarm}")
    await terminal.type(FAST, told(f"{alarm}/state", "{opened_at, delivery}"))
    await terminal.type(LOCATION, told(f"{alarm}/state", ".position"))
    await terminal.type(STEPS, f"gatewayd ops {GATEWAY} respond {alarm} --eta-s 480")
    await terminal.type(STEPS, f"gatewayd ops {GATEWAY} note {alarm} --text 'police informed'")
    await terminal.type(STEPS, told(f"{alarm}/state", "{handling, owner, responders}"))
    await asyncio.sleep(HEARD_S)
    await terminal.type(STEPS, f"gatewayd ops {GATEWAY} on_scene {alarm}")
    await terminal.type(
        STEPS, f"gatewayd ops {GATEWAY} close {alarm} --outcome real --police 'reference 4711'"
    )
    await terminal.type(STEPS, told(f"{alarm}/state", ".timeline[] | [.at, .type, .actor.name] | @tsv"))
    await ops.until("the proof", lambda: ops.of(Kind.ALARM_EVIDENCE, alarm))
    await terminal.keep(LISTEN, saving, desk)
    return alarm


async def _after(terminal: Terminal, ops: Ops, alarm: str) -> None:
    """The incident is looked at, and shown to be whole."""
    await terminal.type(LISTEN, f"gatewayd ops {GATEWAY} listen/start {alarm}")
    await terminal.type(EVALUATED, "ls incident incident/*.evidence")
    await terminal.type(EVIDENCE, "gatewayd evidence key > gw-demo.pem; cat gw-demo.pem")
    await terminal.type(EVIDENCE, "gatewayd evidence verify incident/*.evidence --key gw-demo.pem")
    await terminal.type(
        EVIDENCE,
        "cp -r incident/*.evidence altered; printf x >> altered/audio/1;"
        " gatewayd evidence verify altered --key gw-demo.pem",
    )
    await terminal.type(EVALUATED, "gatewayd audit")
    await terminal.type(EVALUATED, f"gatewayd ops {GATEWAY} review {alarm}")
    raised = "jq -c 'select(.type == \"raised\").visit | {what}' incident/*.evidence/events.jsonl"
    await terminal.type(ADDRESS, raised.replace("{what}", "{address, note, risk}"))
    await terminal.type(CODE_WORD, raised.replace("{what}", "{code_word_ref}"))
    await terminal.type(CHECK_IN, f"gatewayd ops {GATEWAY} visit/extend v-1204")
    await terminal.type(CHECK_IN, "gatewayd ops list")
    await terminal.type(CHECK_IN, f"gatewayd ops {GATEWAY} visit/close v-1204")


async def _overdue(terminal: Terminal, ops: Ops) -> None:
    """Nobody ends the next visit."""
    before = len(ops.events("raised"))
    await terminal.type(
        CHECK_IN,
        f"gatewayd ops {GATEWAY} visit/open v-1205 --worker nurse-1 --expected-end +5min"
        " --street Dam --number 1 --city Amsterdam",
    )
    await ops.until("an alarm", lambda: len(ops.events("raised")) > before, limit_s=OVERDUE_S)
    await terminal.type(CHECK_IN, "gatewayd ops list")


def told(topic: str, what: str) -> str:
    """A command that shows what a retained topic tells."""
    of = f'first(inputs | select(.topic | endswith("{topic}"))).payload | {what}'
    return f"gatewayd monitor --json --timeout 2 | jq -rcn '{of}'"
