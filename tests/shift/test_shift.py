"""Every press raises exactly one alarm, or health had said that nothing is heard: a short shift of all tags.

`scripts/shift` runs it for as long as one likes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from gatewayd.core import health, presence
from gatewayd.core.tag_record import Count, Frame, Kind, TagPresence
from gatewayd.core.tags import FAMILIES, itag
from shift.__main__ import work
from shift.tags import MODELS, Tag

PRESSES: Final = 200
SEED: Final = 5
FAULTS_S: Final = 60.0  # more often than in the long form: a short shift must see each


def test_every_press_raises_once_or_health_said_why() -> None:
    """Mixed families, 100 other advertisers, adapters, bluetoothd, daemon and machine failing at random."""
    verdict = work(SEED, PRESSES, FAULTS_S)
    assert verdict.against == []
    assert verdict.counts["raised"] > PRESSES  # at two gateways
    assert verdict.counts["deaf"]
    assert verdict.counts["recordings"]


def test_every_family_is_worn() -> None:
    """Each family that the gateway knows is in the shift's table, unless it is heard over a connection."""
    worn = {model.family for model in MODELS if isinstance(model, type) and issubclass(model, Tag)}
    assert worn == set(FAMILIES) - {itag.NAME}


def _never(*_: object) -> bool:
    return False


def _no_memory(_text: str) -> TagPresence:
    return TagPresence()


def _every_proof(
    _presence: TagPresence, _tag: object, report: Any, _frame: Frame | None
) -> tuple[Kind, object]:
    return Kind.PROVEN, report.auth


def _counted_once(known: TagPresence, event: Any, presses: Any, heard: Any) -> tuple[Any, bool]:
    return {**known.counts, event.value: Count(count=presses.count, heard=heard)}, presses.now


_NUMBER: Final = presence._number


def _by_counter(report: Any) -> tuple[int | None, str]:
    number, key = _NUMBER(report)
    return number, key if report.counter is None else str(report.counter)


_EDGE: Final = presence._next_edge


def _on_air_for(on_air_s: float) -> Any:
    return lambda edge, tag, *heard: _EDGE(edge, replace(tag, on_air_s=on_air_s), *heard)


def _at_rest(edge: Any, tag: Any, *heard: Any) -> Any:
    return _EDGE(edge, replace(tag, resting=None), *heard)


MUTATIONS: Final[dict[str, tuple[object, str, object]]] = {
    "copies count": (presence, "_repeats", _never),
    "an id that was there before is a copy": (
        presence,
        "_is_new",
        lambda frames, kind, frame: kind not in frames,
    ),
    "a recording is proof": (presence, "_kind", _every_proof),
    "a restart forgets": (TagPresence, "from_json", _no_memory),
    "every triggered frame is a press": (presence, "_next_count", _counted_once),
    "a slot is soon off the air": (presence, "_next_edge", _on_air_for(1.0)),
    "a slot is long on the air": (presence, "_next_edge", _on_air_for(300.0)),
    "a slot of a minute is there for half of it": (presence, "_next_edge", _on_air_for(30.0)),
    "what is said at rest is a press": (presence, "_next_edge", _at_rest),
    "an event's silence is short": (presence, "EVENT_SILENCE_S", 0.2),
    "an event's silence is long": (presence, "EVENT_SILENCE_S", 300.0),
    "a count is believed after hours": (presence, "COUNT_SILENCE_S", 1e9),
    "a key for each counter": (presence, "_number", _by_counter),
    "one key for all": (presence, "_number", lambda _report: (0, "0")),
    "health says nothing": (health.Health, "message_due", _never),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_judge_notices(monkeypatch: pytest.MonkeyPatch, mutation: str) -> None:
    """With a rule broken something is against it; otherwise the shift above would prove nothing."""
    monkeypatch.setattr(*MUTATIONS[mutation])
    assert work(SEED, PRESSES, FAULTS_S).against
