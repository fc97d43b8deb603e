"""What a machine should be like: every judgement, on both sides of its limit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core import diagnosis_bluez as stack
from gatewayd.core import diagnosis_host as host
from gatewayd.core import diagnosis_radio as radio
from gatewayd.core import diagnosis_terms as terms
from gatewayd.core import diagnosis_unit as unit
from gatewayd.core import diagnosis_wires as wires
from gatewayd.core.diagnosis import CHECKS, diagnose, passes, worst
from gatewayd.core.findings import Finding, NotSeen, Severity
from gatewayd.core.term import Term

FINE, NOTE, WARNING, ERROR = Severity.FINE, Severity.NOTE, Severity.WARNING, Severity.ERROR
NOT_LOOKED_AT = Severity.NOT_LOOKED_AT
NOW = 1_790_000_000
DAY_S = 86_400

GOOD_CONF = """\
# as docs/hardware.md has it
[General]
ControllerMode = le
ReverseServiceDiscovery = false
TemporaryTimeout=195
KernelExperimental = 671b10b5-42c0-4696-9227-eb28d1b049d6
Experimental = true
[LE]
MinConnectionInterval = 6
[GATT]
ExchangeMTU = 512
Channels = 1
[Policy]
ReconnectAttempts = 0
AutoEnable = true
"""
ADAPTER = radio.Adapter(
    "hci0",
    "B8:27:EB:00:00:01",
    powered=True,
    roles=frozenset({"central", "peripheral", "central-peripheral"}),
    advertisements=1,
)
BLUETOOTH = radio.Bluetooth(running=True, adapters=(ADAPTER,), blocked=(), serving=True)
DISK = host.Disk("/var/lib/gatewayd", "ext4", 10**10, 10**6, (3.0, 9.0))
ACCESS = host.Access(
    user=True,
    policy=True,
    helper=True,
    forgets=True,
    state=host.State("/var/lib/gatewayd", "gatewayd", 0o700),
)
CLOCK = host.Clock((host.Chip("rtc-ds1307", NOW),), NOW, promised=True)
GOOD = {
    host.CONFIGURATION: host.Configuration("/etc/gatewayd/gatewayd.toml", ()),
    stack.VERSIONS: stack.Versions("6.12.47+rpt-rpi-v8", "5.82"),
    stack.SETTINGS: stack.Settings(GOOD_CONF, "5.82"),
    radio.ADAPTERS: BLUETOOTH,
    radio.ADVERTISING: BLUETOOTH,
    terms.TERMS: terms.Terms({"credential": Term(NOW - DAY_S, NOW + DAY_S)}, NOW),
    wires.WIRES: wires.Wires(),
    unit.UNIT: unit.Unit((), {}),
    host.PERMISSIONS: ACCESS,
    host.CLOCK: CLOCK,
    host.STORAGE: DISK,
    host.JOURNAL: host.Journal("volatile", on_disk=False),
}


def about(name: str, seen: object) -> list[tuple[Severity, str]]:
    """Severities and messages of one check."""
    return [
        (each.severity, each.message)
        for each in diagnose({**GOOD, name: seen})
        if each.check == name
    ]


def severities(name: str, seen: object) -> list[Severity]:
    return [severity for severity, _ in about(name, seen)]


# --- the table ------------------------------------------------------------------------------
def test_a_good_machine_is_fine_in_every_respect() -> None:
    findings = diagnose(GOOD)
    assert [each.check for each in findings] == [each.name for each in CHECKS]
    assert worst(findings) is FINE
    assert passes(findings, strict=True)


def test_what_nobody_looked_at_is_said() -> None:
    findings = diagnose({})
    assert {each.severity for each in findings} == {NOT_LOOKED_AT}
    assert passes(findings)
    assert not passes(findings, strict=True)


def test_why_something_was_not_seen_is_handed_on() -> None:
    observed = {**GOOD, host.STORAGE: NotSeen("we may not write there", "sudo")}
    (finding,) = [each for each in diagnose(observed) if each.severity is not FINE]
    assert finding == Finding(host.STORAGE, NOT_LOOKED_AT, "we may not write there", "sudo")


def test_an_observation_of_another_kind_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="storage: Journal is no Disk"):
        diagnose({host.STORAGE: host.Journal("auto", on_disk=False)})


@pytest.mark.parametrize(
    ("severity", "lenient", "strict"),
    [(FINE, True, True), (NOTE, True, True), (NOT_LOOKED_AT, True, False),
     (WARNING, True, False), (ERROR, False, False)],
)  # fmt: skip
def test_what_passes(severity: Severity, lenient: bool, strict: bool) -> None:
    findings = (Finding("a", FINE, "-"), Finding("b", severity, "-", "-"))
    assert (passes(findings), passes(findings, strict=True)) == (lenient, strict)
    assert worst(findings) is severity


def test_nothing_found_is_fine() -> None:
    assert worst(()) is FINE
    assert [each.word for each in Severity] == [
        "fine", "not looked at", "note", "warning", "error",
    ]  # fmt: skip


versions = st.from_regex(r"\A\d{1,2}\.\d{1,3}(\.\d{1,3})?(\+rpt)?\Z") | st.text(max_size=8)
texts = st.text(alphabet=st.sampled_from("[]=#\n abGLEtrue195MinConectIrvalGA,"), max_size=60)


@given(
    st.builds(stack.Versions, versions, versions),
    st.builds(stack.Settings, texts, versions),
    st.builds(
        host.Disk, st.just("/x"), st.sampled_from(("ext4", "tmpfs")), st.integers(0, 10**9),
        st.none() | st.integers(0, 2000), st.lists(st.floats(0, 2000), max_size=3).map(tuple),
    ),
    st.builds(host.Journal, st.sampled_from(("auto", "persistent", "none")), st.booleans()),
)  # fmt: skip
def test_whatever_is_wrong_has_its_remedy_in_one_line(
    seen_versions: stack.Versions,
    seen_settings: stack.Settings,
    seen_disk: host.Disk,
    seen_journal: host.Journal,
) -> None:
    findings = diagnose(
        {
            stack.VERSIONS: seen_versions,
            stack.SETTINGS: seen_settings,
            host.STORAGE: seen_disk,
            host.JOURNAL: seen_journal,
        }
    )
    assert {each.check for each in findings} == {each.name for each in CHECKS}
    for each in findings:
        assert "\n" not in each.remedy
        assert bool(each.remedy) or each.severity in (FINE, NOT_LOOKED_AT)


# --- versions -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kernel", "bluez", "severity"),
    [
        # https://github.com/bluez/bluez/issues/2269: 6.12.87 works, 6.12.93 does not
        ("6.12.87+rpt-rpi-v8", "5.79", FINE),
        ("6.12.93+rpt-rpi-v8", "5.79", ERROR),
        ("6.12.93+rpt-rpi-v8", "5.86", ERROR),
        ("6.12.93+rpt-rpi-v8", "5.87", FINE),
        ("6.12.120", "5.82", ERROR),
        # https://github.com/raspberrypi/linux/issues/7473: 6.18.34 does not, 6.18.37 does
        ("6.18.33+rpt-rpi-2712", "5.82", FINE),
        ("6.18.34+rpt-rpi-2712", "5.82", ERROR),
        ("6.18.36", "5.82", ERROR),
        ("6.18.37-v8+", "5.82", FINE),
        ("6.19.1", "5.82", FINE),
        # how old is too old, and what is only good to know
        ("5.15.61-v8+", "5.66", WARNING),
        ("5.15.84-v8+", "5.62", WARNING),
        ("6.1.0-37-amd64", "5.66", NOTE),
        ("6.12.0", "5.66", FINE),
        ("unknown", "5.66", NOT_LOOKED_AT),
        ("6.1.0", "", NOT_LOOKED_AT),
    ],
)
def test_versions(kernel: str, bluez: str, severity: Severity) -> None:
    ((found, message),) = about(stack.VERSIONS, stack.Versions(kernel, bluez))
    assert found is severity, message
    assert kernel in message


def test_every_known_bad_pair_is_bad_and_its_neighbours_are_not() -> None:
    for pair in stack.KNOWN_BAD:
        bluez = ".".join(map(str, (pair.bluez[0], pair.bluez[1] - 1)))
        at = ".".join(map(str, pair.kernel))
        before = ".".join(map(str, (*pair.kernel[:2], pair.kernel[2] - 1)))
        assert severities(stack.VERSIONS, stack.Versions(at, bluez)) == [ERROR]
        assert severities(stack.VERSIONS, stack.Versions(before, bluez)) == [FINE]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("6.12.93+rpt-rpi-v8", (6, 12, 93)), ("5.66", (5, 66)), ("6", (6,)), ("v6", ()), ("", ())],
)
def test_numbers_of_versions(text: str, numbers: tuple[int, ...]) -> None:
    assert stack.version(text) == numbers


# --- main.conf ------------------------------------------------------------------------------
def test_key_files() -> None:
    text = "[A]\nx = 1\n# y = 2\n; z\n[B]\nx= a = b  \nx=later # kept\n\nnonsense\n[A]\nw="
    assert stack.key_file(text) == {
        ("A", "x"): "1",
        ("B", "x"): "later # kept",
        ("A", "w"): "",
    }


@pytest.mark.parametrize("wanted", stack.WANTED, ids=lambda each: each.key)
def test_each_setting_is_missed_alone(wanted: radio.Wanted) -> None:
    lines = [each for each in GOOD_CONF.splitlines() if not each.startswith(wanted.key)]
    changed = "\n".join([*lines, f"[{wanted.section}]", f"{wanted.key} = something else"])
    ((severity, message),) = about(stack.SETTINGS, stack.Settings(changed, "5.82"))
    assert severity is wanted.severity
    assert message == f"{wanted.key} is something else: {wanted.without}"
    unset = about(stack.SETTINGS, stack.Settings("\n".join(lines), "5.82"))
    by_default = (wanted.section, wanted.key) in stack.DEFAULTS
    assert unset == (
        [(FINE, "as a gateway wants it")]
        if by_default
        else [(wanted.severity, f"{wanted.key} is not set: {wanted.without}")]
    )


@pytest.mark.parametrize(
    ("value", "severity"),
    [
        ("true", FINE),
        (f"15c0a148-c273-11ea-b3de-0242ac130004, {stack.SIMULTANEOUS_ROLES}", FINE),
        ("15c0a148-c273-11ea-b3de-0242ac130004", WARNING),
        (f"{stack.SIMULTANEOUS_ROLES} # both roles", WARNING),  # a comment is part of the value
        ("false", WARNING),
    ],
)
def test_experimental_features_of_the_kernel(value: str, severity: Severity) -> None:
    text = GOOD_CONF.replace(stack.SIMULTANEOUS_ROLES, value)
    assert severities(stack.SETTINGS, stack.Settings(text, "5.82")) == [severity]


def test_what_older_versions_need_beyond_that() -> None:
    without = GOOD_CONF.replace("Experimental = true\n", "").replace("AutoEnable = true\n", "")
    assert severities(stack.SETTINGS, stack.Settings(without, "5.77")) == [FINE]
    ((severity, message),) = about(stack.SETTINGS, stack.Settings(without, "5.66"))
    assert (severity, "1.28 s" in message) == (WARNING, True)
    oldest = about(stack.SETTINGS, stack.Settings(without, "5.64"))
    assert [message.split()[0] for _, message in oldest] == ["AutoEnable", "BlueZ"]


@pytest.mark.parametrize(
    ("mtu", "bluez", "severity"),
    [("512", "5.68", FINE), ("513", "5.68", WARNING), ("517", "5.69", FINE),
     ("all", "5.66", WARNING), (None, "5.66", WARNING), (None, "5.82", FINE)],
)  # fmt: skip
def test_large_writes(mtu: str | None, bluez: str, severity: Severity) -> None:
    line = "" if mtu is None else f"ExchangeMTU = {mtu}\n"
    text = GOOD_CONF.replace("ExchangeMTU = 512\n", line)
    assert severities(stack.SETTINGS, stack.Settings(text, bluez)) == [severity]


@pytest.mark.parametrize(
    ("channels", "bluez", "severity"),
    [("1", "5.66", FINE), ("3", "5.66", WARNING), (None, "5.66", WARNING),
     (None, "5.67", FINE), ("2", "5.82", WARNING)],
)  # fmt: skip
def test_channels_that_overtake_each_other(
    channels: str | None, bluez: str, severity: Severity
) -> None:
    line = "" if channels is None else f"Channels = {channels}\n"
    text = GOOD_CONF.replace("Channels = 1\n", line)
    assert severities(stack.SETTINGS, stack.Settings(text, bluez)) == [severity]


@pytest.mark.parametrize(
    ("restart", "severity"),
    [(None, FINE), ("on-failure", FINE), ("always", FINE), ("no", WARNING),
     ("on-success", WARNING)],
)  # fmt: skip
def test_a_bluetoothd_that_crashes(restart: str | None, severity: Severity) -> None:
    assert severities(stack.SETTINGS, stack.Settings(GOOD_CONF, "5.82", restart)) == [severity]


# --- adapters -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("adapter", "severity", "said"),
    [
        (ADAPTER, FINE, "at once"),
        (replace(ADAPTER, powered=False), ERROR, "switched off"),
        (replace(ADAPTER, roles=frozenset({"central", "peripheral"})), WARNING, "one at a time"),
        (replace(ADAPTER, roles=frozenset({"central"})), ERROR, "cannot be peripheral"),
        (replace(ADAPTER, roles=frozenset()), ERROR, "cannot be central nor peripheral"),
    ],
)
def test_adapters(adapter: radio.Adapter, severity: Severity, said: str) -> None:
    ((found, message),) = about(radio.ADAPTERS, replace(BLUETOOTH, adapters=(adapter,)))
    assert (found, said in message) == (severity, True), message


def test_no_adapter_no_bluetoothd_and_rfkill() -> None:
    none = replace(BLUETOOTH, adapters=())
    assert about(radio.ADAPTERS, none) == [(ERROR, "bluetoothd knows no adapter")]
    assert about(radio.ADAPTERS, replace(none, running=False, blocked=("hci0",))) == [
        (ERROR, "hci0 is blocked by rfkill"),
        (ERROR, "bluetoothd does not run"),
    ]
    two = replace(BLUETOOTH, adapters=(ADAPTER, replace(ADAPTER, name="hci1")))
    assert severities(radio.ADAPTERS, two) == [FINE, FINE]


def test_adapters_that_the_configuration_names() -> None:
    other = replace(ADAPTER, name="hci1", address="00:00:00:00:00:09", powered=False)
    one_role = replace(ADAPTER, roles=frozenset({"central", "peripheral"}))
    both = replace(BLUETOOTH, adapters=(one_role, other))
    assert severities(radio.ADAPTERS, both) == [WARNING, ERROR]
    assert severities(radio.ADAPTERS, replace(both, named=(ADAPTER.address,))) == [WARNING]
    missing = replace(both, named=(ADAPTER.address, "00:00:00:00:00:08"))
    assert about(radio.ADAPTERS, missing) == [
        (ERROR, "00:00:00:00:00:08, which the configuration names, is not there"),
        (FINE, f"hci0 ({ADAPTER.address}) has one role, and plays it"),
    ]
    assert severities(radio.ADAPTERS, replace(missing, adapters=())) == [ERROR]
    silent = replace(both, adapters=(replace(ADAPTER, advertisements=0), other))
    assert severities(radio.ADVERTISING, replace(silent, named=(ADAPTER.address,))) == [ERROR]


@pytest.mark.parametrize(
    ("serving", "counts", "severity"),
    [
        (True, (1,), FINE),
        (True, (0, 2), FINE),
        (True, (0,), ERROR),
        (True, (None,), ERROR),
        (True, (), ERROR),
        (False, (1,), NOT_LOOKED_AT),
    ],
)
def test_advertising(serving: bool, counts: tuple[int | None, ...], severity: Severity) -> None:
    adapters = tuple(replace(ADAPTER, advertisements=each) for each in counts)
    seen = replace(BLUETOOTH, adapters=adapters, serving=serving)
    assert severities(radio.ADVERTISING, seen) == [severity]


# --- the machine ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("chips", "promised", "severity", "said"),
    [
        ((), True, ERROR, "promises"),
        ((), False, WARNING, "there is none:"),
        ((), None, WARNING, "there is none:"),
        ((host.Chip("a", None),), True, ERROR, "does not know"),
        ((host.Chip("a", 0),), False, WARNING, "does not know"),
        ((host.Chip("a", host.LIVED_IN_S - 1),), None, WARNING, "does not know"),
        ((host.Chip("a", NOW - 121),), True, WARNING, "differ"),
        ((host.Chip("a", NOW - 121), host.Chip("b", NOW + 120)), True, FINE, "knows"),
        ((host.Chip("a", None), host.Chip("b", NOW)), True, FINE, "b knows"),
        ((host.Chip("a", NOW),), False, NOTE, "does not count on it"),
        ((host.Chip("a", NOW),), None, FINE, "shows when unplugged"),
    ],
)
def test_clocks(
    chips: tuple[host.Chip, ...], promised: bool | None, severity: Severity, said: str
) -> None:
    ((found, message),) = about(host.CLOCK, host.Clock(chips, NOW, promised))
    assert (found, said in message) == (severity, True), message


@pytest.mark.parametrize(
    ("change", "severity", "said"),
    [
        ({}, FINE, "durable in 9 ms"),
        ({"sync_ms": (5.0, 100.0)}, FINE, "100 ms"),
        ({"sync_ms": (5.0, 101.0)}, WARNING, "101 ms"),
        ({"sync_ms": (5.0, 1001.0)}, ERROR, "1001 ms"),
        ({"sync_ms": ()}, ERROR, "cannot be written"),
        ({"filesystem": "tmpfs"}, ERROR, "power cut"),
        ({"free_bytes": host.LITTLE_BYTES - 1}, WARNING, "499 MiB"),
        ({"free_bytes": host.NOTHING_BYTES - 1}, ERROR, "19 MiB"),
        ({"free_inodes": 999}, WARNING, "999 more files"),
        ({"free_inodes": host.NOTHING_INODES - 1}, ERROR, "19 more files"),
        ({"read_only": True, "sync_ms": None}, ERROR, "is read-only"),
        ({"read_only": True, "sync_ms": ()}, ERROR, "is read-only"),
        ({"barred": True, "sync_ms": None}, NOT_LOOKED_AT, "may not write"),
        # the room is what is wrong, and nothing has to be replaced
        ({"free_bytes": 0, "sync_ms": ()}, ERROR, "0 MiB left"),
        ({"free_inodes": 0, "sync_ms": ()}, ERROR, "0 more files"),
        ({"free_inodes": None}, FINE, "MiB free"),
    ],
)
def test_disks(change: dict[str, object], severity: Severity, said: str) -> None:
    disk = replace(DISK, **change)  # type: ignore[arg-type] # one field each
    ((found, message),) = about(host.STORAGE, disk)
    assert (found, said in message) == (severity, True), message


def test_a_disk_can_be_bad_in_several_ways() -> None:
    untried = replace(DISK, sync_ms=None)
    ((severity, message),) = about(host.STORAGE, untried)
    assert (severity, "durable" in message) == (FINE, False)
    seen = host.Disk("/x", "tmpfs", 0, 0, ())
    assert severities(host.STORAGE, seen) == [ERROR, ERROR, ERROR]
    assert severities(host.STORAGE, replace(seen, read_only=True)) == [ERROR] * 4


@pytest.mark.parametrize(
    ("storage", "on_disk", "severity"),
    [
        ("volatile", True, FINE),
        ("auto", False, FINE),
        ("auto", True, NOTE),
        ("persistent", False, NOTE),
        ("none", True, FINE),
    ],
)
def test_journals(storage: str, on_disk: bool, severity: Severity) -> None:
    assert severities(host.JOURNAL, host.Journal(storage, on_disk)) == [severity]


@pytest.mark.parametrize(
    ("change", "severity"),
    [
        ({}, FINE),
        ({"state": None}, FINE),
        ({"user": False}, ERROR),
        ({"policy": False}, WARNING),
        ({"helper": False}, NOTE),
        ({"forgets": False}, WARNING),
        ({"state": host.State("/x", "root", 0o700)}, WARNING),
        ({"state": host.State("/x", "gatewayd", 0o750)}, WARNING),
    ],
)
def test_access(change: dict[str, object], severity: Severity) -> None:
    access = replace(ACCESS, **change)  # type: ignore[arg-type] # one field each
    assert severities(host.PERMISSIONS, access) == [severity]


def test_problems_of_the_configuration() -> None:
    seen = host.Configuration("gatewayd.toml", (("no such zone", "did you mean"), ("bad", "")))
    findings = [each for each in diagnose({host.CONFIGURATION: seen}) if each.severity is ERROR]
    assert [(each.message, each.remedy) for each in findings] == [
        ("no such zone", "did you mean"),
        ("bad", "mend gatewayd.toml"),
    ]


# --- what has an end ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("left_s", "severity", "message"),
    [
        (16 * DAY_S, FINE, "the credential ends in 16 days"),
        (15 * DAY_S + 1, FINE, "the credential ends in 15 days"),
        (15 * DAY_S, WARNING, "the credential ends in 15 days and was not renewed"),
        (1, WARNING, "the credential ends in 0 days and was not renewed"),
        (0, ERROR, "the credential ended 0 days ago: phones and locks refuse this gateway"),
        (-DAY_S, ERROR, "the credential ended 1 day ago: phones and locks refuse this gateway"),
    ],
)
def test_what_ends_soon(left_s: int, severity: Severity, message: str) -> None:
    term = Term(NOW + left_s - 90 * DAY_S, NOW + left_s)
    assert about(terms.TERMS, terms.Terms({"credential": term}, NOW)) == [(severity, message)]


def test_each_that_ends_is_said_and_the_rest_together() -> None:
    good, bad = Term(NOW - DAY_S, NOW + 90 * DAY_S), Term(0, NOW)
    seen = terms.Terms({"credential": good, "certificate": good}, NOW)
    together = "the credential ends in 90 days, the certificate ends in 90 days"
    assert about(terms.TERMS, seen) == [(FINE, together)]
    seen = terms.Terms({"credential": good, "certificate": bad}, NOW)
    assert about(terms.TERMS, seen) == [
        (ERROR, "the certificate ended 0 days ago: the broker refuses this gateway"),
        (FINE, "the credential ends in 90 days"),
    ]


# --- the daemon's unit -------------------------------------------------------------------------
CLOSED = {
    "PrivateNetwork": ("yes",), "IPAddressDeny": ("any",), "RestrictAddressFamilies": ("AF_UNIX",),
    "PrivateDevices": ("yes",), "LoadCredential": ("gateway.pem:/etc/gatewayd/gateway.pem",),
}  # fmt: skip
OPENED = {
    "uplink.conf": {
        "PrivateNetwork": ("yes", "no"), "IPAddressDeny": (),
        "RestrictAddressFamilies": ("AF_UNIX", "AF_INET AF_INET6"),
    },
    "uplink-certificate.conf": {"LoadCredential": ("tls.key:/etc/gatewayd/tls.key",)},
    "element.conf": {"LoadCredential": ("x:y", "element.pin:/etc/gatewayd/element.pin")},
    "relay.conf": {"PrivateDevices": ("no",), "DeviceAllow": ("char-gpiochip rw",)},
    "serial.conf": {"PrivateDevices": ("No",), "DeviceAllow": ("char-5", "char-4 rw")},
}  # fmt: skip


@pytest.mark.parametrize("name", unit.OPENINGS)
def test_a_unit_that_is_not_opened_for_what_is_needed(name: str) -> None:
    (found,) = (each for each in diagnose({unit.UNIT: unit.Unit((name,), CLOSED)}) if each.remedy)
    assert (found.check, found.severity) == (unit.UNIT, ERROR)
    assert f"the unit lacks {name}" in found.message
    assert f"drop-ins/{name};" in found.remedy
    said = [(FINE, f"opened for what the configuration needs: {name}")]
    assert about(unit.UNIT, unit.Unit((name,), {**CLOSED, **OPENED[name]})) == said
    for each in OPENED[name]:  # half of it is not enough
        half = {**CLOSED, **OPENED[name], each: CLOSED.get(each, ())}
        assert severities(unit.UNIT, unit.Unit((name,), half)) == [ERROR]


def test_a_unit_that_is_to_be_closed() -> None:
    assert about(unit.UNIT, unit.Unit((), CLOSED)) == [(FINE, "closed")]
    own = {"PrivateDevices": ("no",), "DeviceAllow": ("/dev/ttyUSB0 rw",)}  # somebody's own file
    assert severities(unit.UNIT, unit.Unit(("serial.conf",), own)) == [FINE]
    other = {"PrivateDevices": ("no",), "DeviceAllow": ("char-40 rw",)}
    assert severities(unit.UNIT, unit.Unit(("serial.conf",), other)) == [ERROR]
