"""What `show-config` shows, and that what is kept and what is shown read back as the same configuration."""

from configuring import loaded
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.config.load import merged
from gatewayd.config.settings import SETTINGS
from gatewayd.config.show import effective, show, show_json

TEXTS = (
    "[gateway]\nid = car-7\n[tag front]\naddress = c4:11:22:33:44:55\ntest_on = long",
    "[mqtt]\nbrokers = a.example [::1]:99",
)


def test_every_value_is_shown_with_where_it_came_from() -> None:
    lines = show(loaded(*TEXTS))
    assert lines[:3] == [
        "[gateway]",
        "id = car-7                                        # 1.conf:2",
        "prefix = gatewayd                                 # default",
    ]
    assert "brokers = a.example:8883 [::1]:99                 # 2.conf:2" in lines
    assert "tls = yes                                         # default" in lines
    assert "alarm_on = press double triple long_double long_triple hold unknown  # default" in lines


def test_a_program_gets_the_same_by_section_and_key() -> None:
    shown = show_json(loaded(*TEXTS))
    assert shown["gateway"]["id"] == {"value": "car-7", "from": "1.conf:2"}
    assert shown["tag front"]["lost_after"] == {"value": "60s", "from": "default"}
    assert shown["visit"]["grace"] == {"value": "60s", "from": "default"}
    assert sum(map(len, shown.values())) == len(SETTINGS)


HOSTS = st.sampled_from(["localhost", "a.example", "127.0.0.1:1", "[::1]", "[2001:db8::2]:8884"])
EVENTS = st.sampled_from(["none", "press", "long hold", "press double unknown"])
MAYBE = {
    ("gateway", "id"): st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    ("gateway", "prefix"): st.sampled_from(["a", "a/b", "zorg-é"]),
    ("mqtt", "brokers"): st.lists(HOSTS, min_size=1, unique=True).map(" ".join),
    ("mqtt", "tls"): st.sampled_from(["", "yes", "ON", "1"]),
    ("mqtt", "username"): st.sampled_from(["", "a # b = c", "[x]", "; d"]),
    ("mqtt", "keep_alive"): st.integers(2, 600).map("{}s".format),
    ("gps", "source"): st.sampled_from(["none", "serial:/dev/ttyS0@4800", "gpsd://[::1]"]),
    ("gpio", "buzzer"): st.integers(0, 27).map(str),
    ("outbox", "budget"): st.sampled_from(["1M", "64M", "1T"]),
    ("tag a", "address"): st.just("C4:11:22:33:44:55"),
    ("tag a", "alarm_on"): EVENTS,
    ("tag b", "address"): st.just("c4:11:22:33:44:66"),
    ("tag b", "test_on"): st.sampled_from(["none", "long hold"]),
    ("tag b", "worker"): st.sampled_from(["", "w:1@x"]),
}
CONFIGURATIONS = st.fixed_dictionaries({}, optional=dict(MAYBE)).flatmap(
    lambda values: st.permutations(sorted(values.items()))
)


def written(values: list[tuple[tuple[str, str], str]]) -> str:
    """Return settings as a file; each tag is given what tells it from others."""
    tags = {section for (section, _), _ in values if section.startswith("tag")}
    have = {name for name, _ in values}
    missing = [
        ((tag, "address"), f"C4:00:00:00:00:0{tag[-1]}") for tag in tags if (tag, "address") not in have
    ]
    return "# settings\n" + "\n".join(
        f"[{section}]\n{key} = {value}" for (section, key), value in values + sorted(missing)
    )


@given(CONFIGURATIONS)
def test_what_is_kept_reads_back_as_the_same_configuration(values: list[tuple[tuple[str, str], str]]) -> None:
    first = loaded(written(values))
    again = loaded("# kept\n" + merged(first))
    assert again.config == first.config
    assert merged(again) == merged(first)


@given(CONFIGURATIONS)
def test_what_is_shown_reads_back_as_the_same_configuration(
    values: list[tuple[tuple[str, str], str]],
) -> None:
    """Every value is shown as one would write it, also those that were found out."""
    first = loaded(written(values))
    sections = show_json(first)
    text = "\n".join(
        f"[{section}]\n" + "\n".join(f"{key} = {item['value']}" for key, item in keys.items())
        for section, keys in sections.items()
    )
    assert loaded(text).config == first.config
    assert {item.key for item in effective(first)} == {key for keys in sections.values() for key in keys}
