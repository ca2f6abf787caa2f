"""The best source of time that is there now wins, and says how good it is."""

import logging
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from gatewayd.core import payload
from gatewayd.core.model import ClockSource, Fix, FixMode, Instant, State
from gatewayd.edge import clock
from gatewayd.edge.clock import Clock, KernelSync, adjtimex, boot_id

BOOT = "0b0b0b0b-0000-4000-8000-000000000000"
TRUE_S = 1_790_000_000.0  # the true time at monotonic 0
UNSYNCHRONISED = KernelSync(synchronised=False, max_error_us=16_000_000)


@dataclass
class Kernel:
    """The kernel's clocks, as they would stand on a machine."""

    mono_s: float = 100.0
    offset_s: float = 0.0  # wall minus monotonic
    sync: KernelSync = UNSYNCHRONISED
    forbidden: bool = False
    looked: list[float] = field(default_factory=list)

    def mono(self) -> float:
        return self.mono_s

    def wall(self) -> float:
        return self.mono_s + self.offset_s

    def adjtimex(self) -> KernelSync:
        self.looked.append(self.mono_s)
        if self.forbidden:
            raise PermissionError(1, "Operation not permitted")
        return self.sync

    def clock(self, rtc: Path) -> Clock:
        return Clock(boot=BOOT, mono=self.mono, wall=self.wall, sync=self.adjtimex, rtc=rtc)


def fix(mono_s: float, utc_s: float | None, *, boot: str = BOOT, simulated: bool = False) -> Fix:
    received = Instant(boot=boot, mono_s=mono_s, wall_s=0.0, source=ClockSource.NONE, uncertainty_ms=1)
    return Fix(mode=FixMode.FIX_3D, received=received, lat=52.0, lon=5.0, utc_s=utc_s, simulated=simulated)


@pytest.fixture
def no_rtc(tmp_path: Path) -> Path:
    return tmp_path / "rtc0"


def rtc_says(folder: Path, text: str) -> Path:
    (folder / "since_epoch").write_text(text)
    return folder


def test_a_synchronised_kernel_is_ntp(no_rtc: Path) -> None:
    """With chrony or timesyncd at work the wall clock counts, as exact as the kernel says."""
    kernel = Kernel(offset_s=TRUE_S, sync=KernelSync(synchronised=True, max_error_us=4_200))
    now = kernel.clock(no_rtc).now()
    assert now == Instant(
        boot=BOOT, mono_s=100.0, wall_s=TRUE_S + 100, source=ClockSource.NTP, uncertainty_ms=5
    )


def test_a_machine_that_knows_nothing_says_so(no_rtc: Path) -> None:
    """No NTP, no GNSS, no real-time clock: the wall clock as it stands, source none."""
    kernel = Kernel(offset_s=TRUE_S)
    time = kernel.clock(no_rtc)
    assert time.state().source is ClockSource.NONE
    assert time.health() == (
        State.FAILED,
        "time not known: no NTP, no GNSS, no real-time clock that was right lately",
    )


def test_a_synchronised_clock_in_the_past_is_not_believed(no_rtc: Path) -> None:
    """A kernel that claims to be in step in 1970 is not."""
    kernel = Kernel(offset_s=0.0, sync=KernelSync(synchronised=True, max_error_us=1))
    assert kernel.clock(no_rtc).state().source is ClockSource.NONE


def test_a_machine_that_wakes_three_years_back_knows_nothing_until_it_is_set(tmp_path: Path) -> None:
    """Though its real-time clock says the same: none. Once it is set, what was heard is told rightly."""
    past = TRUE_S - 3 * 365 * 86_400
    kernel = Kernel(offset_s=past)
    time = kernel.clock(rtc_says(tmp_path, f"{past + 100:.0f}\n"))
    heard = time.now()
    assert (heard.source, heard.wall_s) == (ClockSource.NONE, past + 100)
    kernel.offset_s, kernel.sync = TRUE_S, KernelSync(synchronised=True, max_error_us=900)
    kernel.mono_s += 60
    told = datetime.fromisoformat(payload.at(heard, time.state())).timestamp()
    assert told == pytest.approx(TRUE_S + 100, abs=0.001)


def test_the_offset_is_learnt_from_fixes(no_rtc: Path) -> None:
    """Three fixes tell the time; one wrong one among them moves nothing."""
    kernel = Kernel()
    time = kernel.clock(no_rtc)
    time.learn(fix(97, TRUE_S + 97))
    time.learn(fix(98, TRUE_S + 98 + 7 * 86_400))
    assert time.state().source is ClockSource.NONE
    time.learn(fix(99, TRUE_S + 99 - 0.3))
    now = time.now()
    assert (now.wall_s, now.source) == (TRUE_S + 100, ClockSource.GNSS)
    assert now.uncertainty_ms == 1001
    assert time.health() == (State.OK, "time from GNSS")


def test_an_offset_without_new_fixes_grows_uncertain(no_rtc: Path) -> None:
    """The crystal drifts: an hour without a fix adds 0.36 s."""
    kernel = Kernel()
    time = kernel.clock(no_rtc)
    for second in range(3):
        time.learn(fix(second, TRUE_S + second))
    kernel.mono_s = 3602.0
    assert time.state().uncertainty_ms == 1360


@pytest.mark.parametrize(
    "useless",
    [
        fix(1, None),
        fix(1, TRUE_S, simulated=True),
        fix(1, 315_964_800.0),  # GPS's own epoch: week rollover
        fix(1, TRUE_S, boot="another"),
        Fix(mode=FixMode.NONE, utc_s=TRUE_S),
    ],
)
def test_a_fix_without_a_credible_time_teaches_nothing(no_rtc: Path, useless: Fix) -> None:
    """Simulated, timeless, implausible and foreign fixes do not move the clock."""
    time = Kernel().clock(no_rtc)
    for _ in range(5):
        time.learn(useless)
    assert time.state().source is ClockSource.NONE


def test_ntp_comes_before_gnss(no_rtc: Path) -> None:
    """Once the kernel is in step, it counts within a second."""
    kernel = Kernel()
    time = kernel.clock(no_rtc)
    for second in range(3):
        time.learn(fix(second, TRUE_S + second))
    assert time.now().source is ClockSource.GNSS
    kernel.offset_s, kernel.sync = TRUE_S, KernelSync(synchronised=True, max_error_us=900)
    kernel.mono_s += 1.0
    assert time.now().source is ClockSource.NTP
    assert time.health() == (State.OK, "synchronised by the system")


def test_a_step_of_the_wall_clock_is_followed_at_once(no_rtc: Path) -> None:
    """When chrony steps the clock, the next instant has the new time and looks at the state anew."""
    kernel = Kernel(offset_s=TRUE_S - 3600)
    time = kernel.clock(no_rtc)
    kernel.mono_s += 0.1
    kernel.offset_s, kernel.sync = TRUE_S, KernelSync(synchronised=True, max_error_us=900)
    assert time.now().wall_s == pytest.approx(TRUE_S + 100.1)
    assert time.now().source is ClockSource.NTP


def test_a_step_of_the_wall_clock_does_not_move_gnss_time(no_rtc: Path) -> None:
    """The offset learnt from fixes is against the monotonic clock."""
    kernel = Kernel()
    time = kernel.clock(no_rtc)
    for second in range(3):
        time.learn(fix(second, TRUE_S + second))
    kernel.offset_s = 5e8
    assert time.now().wall_s == TRUE_S + 100


def test_the_kernel_is_asked_once_a_second(no_rtc: Path) -> None:
    """A thousand advertisements a second do not make a thousand system calls."""
    kernel = Kernel(offset_s=TRUE_S)
    time = kernel.clock(no_rtc)
    for _ in range(1000):
        kernel.mono_s += 0.002
        time.now()
    assert len(kernel.looked) <= 3


def test_a_real_time_clock_that_was_right_lately_is_rtc(tmp_path: Path) -> None:
    """A clock with a battery set the wall clock at boot: degraded, to two minutes."""
    kernel = Kernel(offset_s=TRUE_S)
    time = kernel.clock(rtc_says(tmp_path, f"{TRUE_S + 99:.0f}\n"))
    time.trust_rtc(TRUE_S - 30 * 86_400)
    assert time.state().source is ClockSource.RTC
    state, detail = time.health()
    assert (state, detail) == (
        State.DEGRADED,
        "time from the real-time clock, to 2 min, until NTP or GNSS is there",
    )


@pytest.mark.parametrize("text", ["1075\n", f"{TRUE_S - 86_400:.0f}\n", "\n"])
def test_a_real_time_clock_without_battery_is_none(tmp_path: Path, text: str) -> None:
    """One that starts in 1970, disagrees with the wall clock or is unreadable proves nothing."""
    kernel = Kernel(offset_s=TRUE_S)
    time = kernel.clock(rtc_says(tmp_path, text))
    time.trust_rtc(TRUE_S)
    assert time.state().source is ClockSource.NONE
    assert not time.rtc_is_right()


@pytest.mark.parametrize(
    "right_s",
    [
        pytest.param(None, id="never"),
        pytest.param(TRUE_S - 3 * 365 * 86_400, id="three years ago"),
        pytest.param(TRUE_S + 86_400, id="tomorrow"),
    ],
)
def test_a_real_time_clock_that_nobody_has_shown_to_be_right_is_none(
    tmp_path: Path, right_s: float | None
) -> None:
    """It agrees with the wall clock because that was set from it: both may be years wrong."""
    kernel = Kernel(offset_s=TRUE_S)
    time = kernel.clock(rtc_says(tmp_path, f"{TRUE_S + 100:.0f}\n"))
    if right_s is not None:
        time.trust_rtc(right_s)
    assert time.state().source is ClockSource.NONE


@pytest.mark.parametrize(
    ("off_s", "right"), [(50, True), (-50, True), (70, False), (-3 * 365 * 86_400, False)]
)
def test_a_real_time_clock_is_judged_by_who_knows_the_time(tmp_path: Path, off_s: int, right: bool) -> None:
    """Less than a minute off is right; while nobody knows the time nothing is said of it."""
    kernel = Kernel(offset_s=TRUE_S)
    time = kernel.clock(rtc_says(tmp_path, f"{TRUE_S + 100 + off_s:.0f}\n"))
    assert time.rtc_is_right() is None
    for second in range(3):
        time.learn(fix(second, TRUE_S + second))
    assert time.rtc_is_right() is right


def test_a_forbidden_adjtimex_is_said_once_and_shown(no_rtc: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A sandbox that forbids adjtimex is not taken for a machine without NTP: the detail tells."""
    kernel = Kernel(offset_s=TRUE_S, forbidden=True)
    time = kernel.clock(no_rtc)
    kernel.mono_s += 5
    state, detail = time.health()
    assert state is State.FAILED
    assert "adjtimex" in detail
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_the_real_kernel_answers() -> None:
    """adjtimex on this machine gives a bound on the error, and sets nothing."""
    assert adjtimex().max_error_us >= 0


def test_the_real_clock_runs() -> None:
    """Two instants of the real clock are in order and of the same boot."""
    time = Clock(boot=boot_id())
    first, second = time.now(), time.now()
    assert first.boot == second.boot
    assert first.mono_s <= second.mono_s


def test_the_boot_id_is_the_kernels(tmp_path: Path) -> None:
    """The boot id is read as it stands."""
    path = tmp_path / "boot_id"
    path.write_text(f"{BOOT}\n")
    assert boot_id(path) == BOOT


def test_a_hidden_boot_id_is_replaced_by_a_random_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where /proc hides it, each start is a boot of its own, so times are not compared across it."""
    first, second = boot_id(tmp_path / "hidden"), boot_id(tmp_path / "hidden")
    assert first != second
    assert str(uuid.UUID(first)) == first
    assert "boot id" in caplog.text


def test_the_earliest_time_is_a_new_year() -> None:
    """The constant is what its comment says."""
    assert clock.EARLIEST_S == 1_767_225_600.0
