"""The status: what is written is read, bounded; what anybody else wrote is read strictly."""

from __future__ import annotations

import contextlib
import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from firmware_proto.errors import RemoteProtocolError
from gatewayd.status import (
    MAX_COUNT,
    MAX_HOLES,
    MAX_LISTS,
    MAX_LOCKS,
    MAX_STATES,
    MAX_STATUS_BYTES,
    ListStatus,
    LockStatus,
    OperatorStatus,
    Status,
    StorageStatus,
    coarse,
    decode,
    encode,
)

WHOLE = Status(
    online=True,
    version="1.2.3",
    kernel="6.12.25+rpt-rpi-v8",
    bluez="5.66",
    slot="A",
    clock="holdover",
    trust_serial=7,
    credential=(1_750_000_000, 1_781_536_000),
    certificate=(1_750_000_001, 1_757_776_001),
    unpulled_days=3,
    other_log=True,
    strangers=1024,
    faults=2,
    radio="advertising",
    radio_both_roles=True,
    radio_losses=8,
    radio_sent_away=4,
    radio_repairs=1,
    storage=StorageStatus(
        free_percent=80, free_mb=16384, kept=True, read_only=True, written_gb=3,
        life_used_percent=20, own_mb=8, log="log_full", log_troubles=2, missing=3, unrecorded=1,
    ),
    operator=OperatorStatus(
        states={"settings stairwell-7": 3}, orders=9, orders_missing=((1, 1), (4, 6)),
        unconfirmed=("street",),
    ),
    lists=(ListStatus(issuer="housing", uri="https://housing.example/keys", issued_at=1750000000),),
    locks={
        "street": LockStatus(
            troubles=("low_battery",), reached=True, model="Bolt 2", firmware="1.0",
            heard_days=0, battery_percent=9, battery_mv=2410, rssi_dbm=-65,
        )
    },
)  # fmt: skip
"""Every field has something to say, so that no field is left out of these tests."""


def test_no_field_is_untested() -> None:
    for struct in (WHOLE, WHOLE.storage, WHOLE.operator, WHOLE.lists[0], WHOLE.locks["street"]):
        silent = [
            each.name
            for each in msgspec.structs.fields(struct)
            if not each.name.endswith("_left_out") and getattr(struct, each.name) == each.default
        ]
        assert silent == []


def test_what_is_written_is_read() -> None:
    data = encode(WHOLE)
    assert decode(data) == WHOLE
    assert json.loads(data)["locks"]["street"]["battery_percent"] == 9
    assert encode(Status(online=False)) == b'{"online":false}'


def test_it_says_nothing_of_persons() -> None:
    told = set(json.loads(encode(WHOLE))) | set(json.loads(encode(WHOLE))["locks"]["street"])
    assert told & {"holder", "token", "key", "issuer", "phone", "bolt", "latch", "leaf"} == set()


def test_every_part_of_it_alone_is_refused() -> None:
    data = encode(WHOLE)
    for cut in range(len(data)):
        with pytest.raises(RemoteProtocolError):
            decode(data[:cut])
    for behind in (b"x", b"{}", b"\0", b","):
        with pytest.raises(RemoteProtocolError):
            decode(data + behind)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        b'{"online":1}',
        b'{"online":null}',
        b'{"online":true,"version":"' + b"1" * 65 + b'"}',
        b'{"online":true,"faults":-1}',
        b'{"online":true,"faults":%d}' % (MAX_COUNT + 1),
        b'{"online":true,"faults":1e400}',
        b'{"online":true,"faults":' + b"9" * 5000 + b"}",
        b'{"online":true,"strangers":NaN}',
        b'{"online":true,"clock":"perhaps"}',
        b'{"online":true,"storage":{"free_percent":101}}',
        b'{"online":true,"trust_serial":%d}' % 2**63,
        b'{"online":true,"operator":[]}',
        b'{"online":true,"operator":{"states":{"x":-1}}}',
        b'{"online":true,"operator":{"states":{"' + b"x" * 161 + b'":1}}}',
        b'{"online":true,"operator":{"orders_missing":[[1]]}}',
        b'{"online":true,"operator":{"orders_missing":[[1,2,3]]}}',
        b'{"online":true,"operator":{"orders_missing":[' + b"[1,1]," * 64 + b"[1,1]]}}",
        b'{"online":true,"lists":[{}]}',
        b'{"online":true,"lists":[{"issuer":"x","uri":"y","issued_at":1.5}]}',
        b'{"online":true,"lists":[{"issuer":"x","uri":"' + b"y" * 257 + b'","issued_at":1}]}',
        b'{"online":true,"locks":{"":{}}}',
        b'{"online":true,"locks":{"../x":{}}}',
        b'{"online":true,"locks":{"a\\n":{}}}',
        b'{"online":true,"locks":{"a":{"troubles":["<b>"]}}}',
        b'{"online":true,"locks":{"a":{"troubles":["jammed\\n"]}}}',
        b'{"online":true,"locks":{"a":{"rssi_dbm":21}}}',
        b'{"online":true,"x":' + b"[" * 8000,
        b'{"online":true,"version":"\xff"}',
        b'{"online":true,"x":"' + b"x" * MAX_STATUS_BYTES + b'"}',
    ],
)
def test_what_is_no_status_is_refused(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(payload)


def test_what_a_newer_gateway_adds_is_passed_over() -> None:
    newer = json.loads(encode(WHOLE)) | {"later": {"deep": [1, 2]}}
    newer["locks"]["street"]["colour"] = "red"
    assert decode(json.dumps(newer).encode()) == WHOLE


@given(st.binary(max_size=200))
@example(b'{"online":true,"x":"\xed\xa0\x80"}')
def test_bytes_of_strangers_are_read_or_refused(payload: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert isinstance(decode(payload), Status)


@given(st.data())
def test_damaged_statuses_are_read_or_refused(data: st.DataObject) -> None:
    payload = bytearray(encode(WHOLE))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        again = decode(bytes(payload))
    except RemoteProtocolError:
        return
    assert decode(encode(again)) == again


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(st.sampled_from([each.name for each in msgspec.structs.fields(Status)]), _VALUES)
def test_any_value_in_any_place_is_read_or_refused(name: str, value: object) -> None:
    stated = json.loads(encode(WHOLE)) | {name: value}
    try:
        again = decode(json.dumps(stated).encode())
    except RemoteProtocolError:
        return
    assert decode(encode(again)) == again


@pytest.mark.parametrize("doors", [1, 40, MAX_LOCKS, 1000])
def test_a_house_of_any_size_has_a_status_of_bounded_size(doors: int) -> None:
    lock = WHOLE.locks["street"]
    fine = msgspec.structs.replace(lock, troubles=(), model="ü" * 32)
    house = {f"door-{number}": fine for number in range(doors)} | {"zz-last": lock}
    data = encode(msgspec.structs.replace(WHOLE, locks=house))
    assert len(data) <= MAX_STATUS_BYTES
    told = decode(data)
    assert "zz-last" in told.locks
    assert len(told.locks) + told.locks_left_out == doors + 1
    assert len(told.locks) >= min(doors + 1, 15)


@pytest.mark.parametrize("doors", [1, MAX_LOCKS])
def test_whatever_an_operator_says_there_is_place_for_locks_with_troubles(doors: int) -> None:
    lists = [
        ListStatus(issuer='"' * 64, uri=f"{number:\x01>256}", issued_at=MAX_COUNT - number)
        for number in range(MAX_LISTS + 1)
    ]
    said = OperatorStatus(
        states={f"{number:x>160}": 2**63 - 1 for number in range(MAX_STATES + 1)},
        orders=2**63 - 1,
        orders_missing=((2**63 - 1, 2**63 - 1),) * (MAX_HOLES + 1),
    )
    house = {f"door-{number}": LockStatus() for number in range(doors)} | WHOLE.locks
    full = msgspec.structs.replace(WHOLE, operator=said, lists=tuple(lists), locks=house)
    data = encode(full)
    told = decode(data)
    assert len(data) <= MAX_STATUS_BYTES
    assert told.operator is not None
    assert "street" in told.locks
    assert len(told.operator.orders_missing) == MAX_HOLES
    assert len(told.operator.states) + told.operator.states_left_out == MAX_STATES + 1
    assert len(told.lists) + told.lists_left_out == MAX_LISTS + 1
    assert encode(told) == data


def test_of_lists_that_are_too_many_the_oldest_are_told() -> None:
    lists = tuple(
        ListStatus(issuer="housing", uri=f"{number:y>256}", issued_at=100 - number)
        for number in range(MAX_LISTS)
    )
    told = decode(encode(msgspec.structs.replace(WHOLE, lists=lists)))
    assert 0 < len(told.lists) < MAX_LISTS
    assert told.lists == lists[::-1][: len(told.lists)]


@given(st.integers(0, 2**60))
def test_coarse(count: int) -> None:
    told = coarse(count)
    assert told.bit_count() == min(count, 1)
    assert told <= count < max(2 * told, 1)
