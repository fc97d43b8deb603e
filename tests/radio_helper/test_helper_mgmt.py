"""Management packets: what the kernel may send is understood, everything else is an error."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.radio_helper import mgmt
from gatewayd.radio_helper.mgmt import Command, MgmtError, Opcode, Reply
from tests.support import fake_mgmt as kernel

PEER = bytes.fromhex("C0FFEE010203")
ASKED = mgmt.connection(1, PEER, 2)
ANSWER = kernel.complete(0x31, 1, 0, PEER[::-1] + b"\x02" + struct.pack("<bbb", -60, 4, 127))


def test_commands_are_these_bytes() -> None:
    assert mgmt.index_list().encode().hex() == "0300ffff0000"
    assert mgmt.information(2).encode().hex() == "040002000000"
    assert mgmt.set_powered(0, on=True).encode().hex() == "05000000010001"
    assert mgmt.set_powered(0, on=False).encode().hex() == "05000000010000"
    assert ASKED.encode().hex() == "310001000700030201eeffc002"


def test_a_reading() -> None:
    reply = mgmt.parse_reply(ANSWER, ASKED)
    assert reply is not None
    assert (reply.status, mgmt.rssi_dbm(reply.data, ASKED)) == (0, -60)
    unknown = PEER[::-1] + b"\x02" + struct.pack("<bbb", 127, 127, 127)
    assert mgmt.rssi_dbm(unknown, ASKED) is None


def test_a_packet_cut_or_grown_is_an_error() -> None:
    for cut in range(len(ANSWER)):
        with pytest.raises(MgmtError):
            mgmt.parse_reply(ANSWER[:cut], ASKED)
    with pytest.raises(MgmtError):
        mgmt.parse_reply(ANSWER + b"\0", ASKED)


def test_what_is_not_about_us_is_no_reply() -> None:
    others = (
        kernel.event(kernel.DEVICE_FOUND, 1, b"an advertisement"),
        kernel.event(0xFFFF, 0xFFFF, b""),
        kernel.complete(0x31, 2, 0, b"another controller"),
        kernel.complete(0x05, 1, 0, b"another command"),
        kernel.status(0x05, 1, 0),
    )
    assert [mgmt.parse_reply(each, ASKED) for each in others] == [None] * len(others)


def test_failures_have_a_status() -> None:
    assert mgmt.parse_reply(kernel.status(0x31, 1, 0x11), ASKED) == Reply(0x11)
    failed = mgmt.parse_reply(kernel.complete(0x31, 1, 0x02, PEER[::-1] + b"\x02abc"), ASKED)
    assert failed is not None
    assert failed.status == mgmt.NOT_CONNECTED


@pytest.mark.parametrize(
    "packet",
    [
        kernel.event(kernel.COMPLETE, 1, b"\x31\x00"),
        kernel.event(kernel.STATUS, 1, b""),
        kernel.event(kernel.STATUS, 1, b"\x31\x00\x05\x00"),
        kernel.status(0x31, 1, 0),
    ],
    ids=["result without status", "empty status", "status with data", "success without result"],
)
def test_results_that_do_not_add_up(packet: bytes) -> None:
    with pytest.raises(MgmtError):
        mgmt.parse_reply(packet, ASKED)


def test_lists_of_controllers() -> None:
    assert mgmt.indexes(struct.pack("<H", 0)) == ()
    assert mgmt.indexes(struct.pack("<HHH", 2, 0, 3)) == (0, 3)
    whole = struct.pack("<HHH", 2, 0, 3)
    for wrong in (b"", b"\0", whole[:-1], whole[:-2], whole + b"\0\0", struct.pack("<H", 0xFFFF)):
        with pytest.raises(MgmtError):
            mgmt.indexes(wrong)


def test_information_and_settings_have_one_length() -> None:
    assert mgmt.address(PEER[::-1] + bytes(274)) == PEER
    mgmt.check_settings(bytes(4))
    for length in (0, 6, 279, 281):
        with pytest.raises(MgmtError):
            mgmt.address(bytes(length))
        with pytest.raises(MgmtError):
            mgmt.check_settings(bytes(length))


def test_readings_of_another_peer_or_length_are_errors() -> None:
    good = PEER[::-1] + b"\x02" + bytes(3)
    for wrong in (good[:-1], good + b"\0", bytes(10), PEER[::-1] + b"\x01" + bytes(3)):
        with pytest.raises(MgmtError):
            mgmt.rssi_dbm(wrong, ASKED)


codes = st.sampled_from((0x0001, 0x0002, 0x0012))
heads = st.builds(struct.pack, st.just("<HB"), st.sampled_from((0x31, 0x05)), st.integers(0, 20))


@given(
    st.one_of(
        st.binary(max_size=40),
        st.builds(
            kernel.event, codes, st.integers(0, 2), st.builds(bytes.__add__, heads, st.binary())
        ),
    )
)
def test_arbitrary_packets_are_replies_nothing_or_errors(packet: bytes) -> None:
    try:
        reply = mgmt.parse_reply(packet, ASKED)
    except MgmtError:
        return
    if reply is None:
        return
    code, index, _, opcode, status = struct.unpack_from("<HHHHB", packet)
    assert (code in (1, 2), index, opcode, status) == (True, 1, 0x31, reply.status)
    assert packet.endswith(reply.data)


@given(st.binary(max_size=300))
def test_arbitrary_return_parameters_are_understood_or_errors(data: bytes) -> None:
    for parse in (mgmt.indexes, mgmt.address, lambda it: mgmt.rssi_dbm(it, ASKED)):
        try:
            parsed = parse(data)
        except MgmtError:
            continue
        assert len(data) in {2 + 2 * len(parsed) if isinstance(parsed, tuple) else 10, 280}


def test_every_command_is_one_of_four() -> None:
    assert {each.value for each in Opcode} == {0x03, 0x04, 0x05, 0x31}
    assert Command(Opcode.INDEX_LIST).index == mgmt.NO_CONTROLLER
