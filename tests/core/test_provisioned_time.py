"""A time signed at provisioning is for one gateway, and no answer to a question."""

from __future__ import annotations

import pytest

from firmware_proto.codes import Fault
from firmware_proto.errors import RemoteProtocolError
from gatewayd.cloud.authority import Authority
from gatewayd.core import envelope, provisioned_time
from gatewayd.core.envelope import Kind, Statement, TimeAnswer

NOW = 1_790_000_000
ID = bytes(range(16))


@pytest.fixture(scope="module")
def operator() -> Authority:
    return Authority.create("vestergade-7")


def test_the_time_is_read_back_by_its_gateway_alone(operator: Authority) -> None:
    data = provisioned_time.sign("stairwell-7", NOW, ID, operator.time)
    assert provisioned_time.verify(data, operator.trust(), "stairwell-7") == NOW
    with pytest.raises(RemoteProtocolError) as raised:
        provisioned_time.verify(data, operator.trust(), "stairwell-8")
    assert raised.value.fault is Fault.UNEXPECTED


def test_only_the_time_key_signs_it(operator: Authority) -> None:
    data = provisioned_time.sign("stairwell-7", NOW, ID, operator.command)
    with pytest.raises(RemoteProtocolError) as raised:
        provisioned_time.verify(data, operator.trust(), "stairwell-7")
    assert raised.value.fault is Fault.AUTHENTICATION_FAILED


def test_the_answer_to_a_question_is_not_taken_for_it(operator: Authority) -> None:
    answer = TimeAnswer(ID, NOW)
    statement = Statement(Kind.TIME, "stairwell-7", ID, NOW + 60, answer.body())
    data = envelope.sign(statement, operator.time)
    with pytest.raises(RemoteProtocolError) as raised:
        provisioned_time.verify(data, operator.trust(), "stairwell-7")
    assert raised.value.fault is Fault.UNEXPECTED


def test_every_truncation_is_refused(operator: Authority) -> None:
    data = provisioned_time.sign("stairwell-7", NOW, ID, operator.time)
    for length in range(len(data)):
        with pytest.raises(RemoteProtocolError):
            provisioned_time.verify(data[:length], operator.trust(), "stairwell-7")
    with pytest.raises(RemoteProtocolError):
        provisioned_time.verify(data + b"\0", operator.trust(), "stairwell-7")
