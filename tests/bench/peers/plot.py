"""Draws how many alarms had arrived over time through an outage: an SVG, one stepped line a system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

WIDTH: Final = 860
HEIGHT: Final = 440
LEFT: Final = 60
RIGHT: Final = 250  # the systems' names stand there, each where its line ends
TOP: Final = 46
BOTTOM: Final = 50
LINE_HEIGHT: Final = 16  # of two names
STEP_S: Final = 10
STEP_COUNT: Final = 20
# Of Okabe and Ito: told apart also by those who do not see red and green.
COLOURS: Final = ("#0072b2", "#d55e00", "#e69f00", "#009e73", "#cc79a7", "#56b4e9")
SENT: Final = "sent"


class _Frame:
    """Where seconds and counts lie in the picture."""

    def __init__(self, begins_s: float, ends_s: float, most: int) -> None:
        self.begins_s = begins_s
        self.ends_s = ends_s
        self.top = -(-max(most, 1) // STEP_COUNT) * STEP_COUNT

    def x(self, at_s: float) -> float:
        return LEFT + (at_s - self.begins_s) / (self.ends_s - self.begins_s) * (WIDTH - LEFT - RIGHT)

    def y(self, count: float) -> float:
        return HEIGHT - BOTTOM - count / self.top * (HEIGHT - TOP - BOTTOM)

    def seen(self, times: Sequence[float]) -> list[float]:
        return [at_s for at_s in times if at_s <= self.ends_s]

    def line(self, times: Sequence[float], look: str) -> str:
        steps = "".join(f"H{self.x(at_s):.1f}V{self.y(n):.1f}" for n, at_s in enumerate(self.seen(times), 1))
        path = f"M{self.x(self.begins_s):.1f} {self.y(0):.1f}{steps}H{self.x(self.ends_s):.1f}"
        return f'<path d="{path}" fill="none" {look}/>'


def draw(
    sent: Sequence[float], arrived: Mapping[str, Sequence[float]], *, outage_s: float, ends_s: float
) -> str:
    """Return the picture. Times are seconds since the outage began, sorted; it ends at `ends_s`."""
    frame = _Frame(min(sent, default=0.0), ends_s, len(sent))
    x, y = frame.x, frame.y
    looks = dict(zip(arrived, COLOURS, strict=False))
    return "\n".join(
        [
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" xmlns="http://www.w3.org/2000/svg" role="img" '
            'font-family="sans-serif" font-size="12" fill="#222">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
            f'<text x="{LEFT}" y="20" font-size="15" font-weight="bold">'
            f"Alarms that had arrived, through {outage_s:g} s of silence</text>",
            f'<rect x="{x(0):.1f}" y="{TOP}" width="{x(outage_s) - x(0):.1f}" height="{y(0) - TOP:.1f}" '
            'fill="#eee"/>',
            f'<text x="{x(outage_s / 2):.1f}" y="{TOP - 6}" text-anchor="middle">the link is dead</text>',
            *_axes(frame),
            frame.line(sent, 'stroke="#888" stroke-width="1.5" stroke-dasharray="5 4"'),
            *(
                frame.line(times, f'stroke="{looks[name]}" stroke-width="2.5"')
                for name, times in reversed(list(arrived.items()))  # the first on top
            ),
            *_names(frame, {SENT: sent, **arrived}, {SENT: "#666", **looks}),
            "</svg>\n",
        ]
    )


def _axes(frame: _Frame) -> list[str]:
    left, right, floor = LEFT, frame.x(frame.ends_s), frame.y(0)
    parts = []
    for count in range(0, frame.top + 1, STEP_COUNT):
        at = frame.y(count)
        parts.append(f'<path d="M{left} {at:.1f}H{right:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{count}</text>')
    for second in range(0, int(frame.ends_s) + 1, STEP_S):
        at = frame.x(second)
        parts.append(f'<path d="M{at:.1f} {floor:.1f}v5" stroke="#222"/>')
        parts.append(f'<text x="{at:.1f}" y="{floor + 18:.1f}" text-anchor="middle">{second}</text>')
    middle = (left + right) / 2
    parts.append(f'<path d="M{left} {TOP}V{floor:.1f}H{right:.1f}" fill="none" stroke="#222"/>')
    parts.append(
        f'<text x="{middle:.1f}" y="{HEIGHT - 10}" text-anchor="middle">seconds since it died</text>'
    )
    turned = f'transform="translate(16 {(TOP + floor) / 2:.1f}) rotate(-90)" text-anchor="middle"'
    parts.append(f"<text {turned}>alarms at the broker</text>")
    return parts


def _names(frame: _Frame, lines: Mapping[str, Sequence[float]], looks: Mapping[str, str]) -> list[str]:
    """Each name where its line ends, moved down where it would cover the one above."""
    counts = {name: len(frame.seen(times)) for name, times in lines.items()}
    parts, room = [], 0.0
    for name, count in sorted(counts.items(), key=lambda each: -each[1]):
        room = max(frame.y(count) + 4, room + LINE_HEIGHT)
        text = f"{escape(name)}: {count}"
        parts.append(
            f'<text x="{frame.x(frame.ends_s) + 8:.1f}" y="{room:.1f}" fill="{looks[name]}">{text}</text>'
        )
    return parts
