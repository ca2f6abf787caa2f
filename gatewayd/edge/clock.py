"""The time: monotonic from the kernel, wall time with an honest source. Reads clocks, never sets one.

The best source that is there now wins: the kernel's clock while something (chrony, timesyncd) keeps it in
step, else the offset learnt from GNSS fixes, else the kernel's clock where a real-time clock set it that was
right lately, else the kernel's clock as it stands, which is `none`.

A real-time clock that was set wrong tells a wrong time with confidence. So it counts only where NTP or GNSS
has shown it to be right; that is remembered over a restart by `timekeeper`.
"""

from __future__ import annotations

import ctypes
import logging
import math
import os
import statistics
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd.core.model import ClockSource, ClockState, Fix, Instant, State

logger = logging.getLogger(__name__)

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
RTC: Final = Path("/sys/class/rtc/rtc0")

# No true wall time is before the year this program is of: 2026-01-01T00:00:00Z.
EARLIEST_S: Final = 1_767_225_600.0
# The kernel's state and the real-time clock are looked at this often; synchronising takes seconds at least.
LOOK_EVERY_S: Final = 1.0
# A wall clock that moved this much against the monotonic one was set: more than 1 s of the kernel's fastest
# slew (500 ppm), less than any step chrony or timesyncd makes (0.4 s).
STEP_S: Final = 0.25
# A fix's sentences arrive up to a second after the moment they tell of (receivers at 1 Hz).
GNSS_UNCERTAINTY_MS: Final = 1000
# Fixes the offset is the median of: one wrong time among them moves nothing; nine are nine seconds at 1 Hz.
GNSS_FIXES: Final = 9
GNSS_FIXES_NEEDED: Final = 3
# Without fixes the offset drifts with the Pi's crystal, 100 ppm at worst: 0.1 ms each second.
DRIFT_MS_PER_S: Final = 0.1
# A real-time clock is right when it is less than a minute off, and counts for five weeks from then on.
RTC_RIGHT_S: Final = 60.0
RTC_COUNTS_S: Final = 35 * 86_400.0
# That minute, and the 20 ppm that a cheap one drifts in five weeks, which is another.
RTC_UNCERTAINTY_MS: Final = 120_000
# Wall time and real-time clock agree to the second if one was set from the other; a reading takes another.
RTC_AGREES_S: Final = 3.0
# Nobody knows; ten years, the time a gateway may have lain on a shelf.
NONE_UNCERTAINTY_MS: Final = 10 * 365 * 86_400_000

_STA_UNSYNC: Final = 0x40  # linux/timex.h
_TIME_ERROR: Final = 5
_TIMEX_LONGS: Final = 64  # struct timex is 208 bytes on 64 bits; room to spare
_MAXERROR: Final = 3  # index of `maxerror` in longs: modes (padded), offset, freq, maxerror, esterror, status
_STATUS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSync:
    """What adjtimex(2) says: whether something keeps the kernel's clock in step, and how well."""

    synchronised: bool
    max_error_us: int


def adjtimex() -> KernelSync:
    """Read the kernel's synchronisation state. OSError where it is forbidden."""
    # Python has no adjtimex. `modes` is 0: nothing is set. On 32 and on 64 bits alike every member up to
    # `status` fills one long (the two ints, `modes` and `status`, are padded), on little-endian machines.
    timex = (ctypes.c_long * _TIMEX_LONGS)()
    libc = ctypes.CDLL(None, use_errno=True)
    state = libc.adjtimex(timex)
    if state < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    status = ctypes.c_int(timex[_STATUS] & 0xFFFF_FFFF).value
    synchronised = state != _TIME_ERROR and not status & _STA_UNSYNC
    return KernelSync(synchronised=synchronised, max_error_us=timex[_MAXERROR])


def boot_id(path: Path = BOOT_ID) -> str:
    """Read the kernel's boot id. Where it is hidden: a random one, so that nothing is compared across it."""
    try:
        return str(uuid.UUID(path.read_text("ascii").strip()))
    except (OSError, ValueError) as error:
        logger.warning("expected the kernel's boot id in %s, got %s; using a random one", path, error)
        return str(uuid.uuid4())


class Clock:
    """The gateway's clock. `now` is cheap and may be called from any thread."""

    def __init__(
        self,
        *,
        boot: str,
        mono: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sync: Callable[[], KernelSync] = adjtimex,
        rtc: Path = RTC,
    ) -> None:
        self._boot = boot
        self._mono = mono
        self._wall = wall
        self._sync = sync
        self._rtc = rtc
        self._gnss: deque[float] = deque(maxlen=GNSS_FIXES)  # offsets
        self._gnss_s = 0.0  # when the last one was learnt
        self._looked_s = -math.inf
        self._rtc_right_s = -math.inf  # wall time at which the real-time clock was right
        self._sync_error: str | None = None
        self._state = self._look(mono(), wall())

    def now(self) -> Instant:
        """Return this moment: monotonic and wall time with its source."""
        mono_s = self._mono()
        state = self._current(mono_s)
        return Instant(
            boot=self._boot,
            mono_s=mono_s,
            wall_s=mono_s + state.offset_s,
            source=state.source,
            uncertainty_ms=state.uncertainty_ms,
        )

    def state(self) -> ClockState:
        """Return what is known about the clock now."""
        return self._current(self._mono())

    def learn(self, fix: Fix) -> None:
        """Take the time of a fix. One without a credible time, or simulated, teaches nothing."""
        if fix.utc_s is None or fix.received is None or fix.simulated:
            return
        if fix.utc_s < EARLIEST_S or fix.received.boot != self._boot:
            return
        self._gnss.append(fix.utc_s - fix.received.mono_s)
        self._gnss_s = fix.received.mono_s
        self._looked_s = -math.inf

    def rtc_is_right(self) -> bool | None:
        """Return whether the real-time clock tells the time; None: there is none, or nobody else tells it."""
        state = self.state()
        rtc_s = self._rtc_s()
        if rtc_s is None or not state.source.vouched:
            return None
        return abs(rtc_s - self._mono() - state.offset_s) <= RTC_RIGHT_S

    def trust_rtc(self, right_s: float) -> None:
        """Take that the real-time clock was right at `right_s`, wall time."""
        self._rtc_right_s = right_s
        self._looked_s = -math.inf

    def health(self) -> tuple[State, str]:
        """Return how the clock is, and one line about it: for the `clock` component."""
        state = self.state()
        match state.source:
            case ClockSource.NTP:
                return State.OK, "synchronised by the system"
            case ClockSource.GNSS:
                return State.OK, "time from GNSS"
            case ClockSource.RTC:
                about = f"to {RTC_UNCERTAINTY_MS // 60_000} min"
                return State.DEGRADED, f"time from the real-time clock, {about}, until NTP or GNSS is there"
            case ClockSource.NONE:
                reason = f" ({self._sync_error})" if self._sync_error else ""
                known = "no NTP, no GNSS, no real-time clock that was right lately"
                return State.FAILED, f"time not known: {known}{reason}"

    def _current(self, mono_s: float) -> ClockState:
        wall_s = self._wall()
        state = self._state
        follows_wall = state.source is not ClockSource.GNSS
        stepped = follows_wall and abs(wall_s - mono_s - state.offset_s) > STEP_S
        if stepped or mono_s - self._looked_s >= LOOK_EVERY_S:
            state = self._state = self._look(mono_s, wall_s)
        return state

    def _look(self, mono_s: float, wall_s: float) -> ClockState:
        self._looked_s = mono_s
        offset_s = wall_s - mono_s
        sync = self._kernel()
        if sync.synchronised and wall_s >= EARLIEST_S:
            return self._made(offset_s, ClockSource.NTP, max(1, math.ceil(sync.max_error_us / 1000)))
        if len(self._gnss) >= GNSS_FIXES_NEEDED:
            drift_ms = DRIFT_MS_PER_S * max(0.0, mono_s - self._gnss_s)
            uncertainty_ms = GNSS_UNCERTAINTY_MS + math.ceil(drift_ms)
            return self._made(statistics.median(list(self._gnss)), ClockSource.GNSS, uncertainty_ms)
        if wall_s >= EARLIEST_S and self._rtc_counts(wall_s):
            return self._made(offset_s, ClockSource.RTC, RTC_UNCERTAINTY_MS)
        return self._made(offset_s, ClockSource.NONE, NONE_UNCERTAINTY_MS)

    def _made(self, offset_s: float, source: ClockSource, uncertainty_ms: int) -> ClockState:
        return ClockState(boot=self._boot, offset_s=offset_s, source=source, uncertainty_ms=uncertainty_ms)

    def _kernel(self) -> KernelSync:
        try:
            sync = self._sync()
        except OSError as error:
            if self._sync_error is None:
                logger.warning("adjtimex: %s; the clock counts as not synchronised", error)
            self._sync_error = f"adjtimex: {error}"
            return KernelSync(synchronised=False, max_error_us=0)
        self._sync_error = None
        return sync

    def _rtc_counts(self, wall_s: float) -> bool:
        """Whether there is a real-time clock that was right lately and tells the same."""
        if not 0 <= wall_s - self._rtc_right_s <= RTC_COUNTS_S:
            return False
        rtc_s = self._rtc_s()
        return rtc_s is not None and abs(rtc_s - wall_s) <= RTC_AGREES_S

    def _rtc_s(self) -> float | None:
        """What the real-time clock tells; None: there is none, or it cannot be read."""
        try:
            return float((self._rtc / "since_epoch").read_text("ascii"))
        except (OSError, ValueError):
            return None
