"""What `make bench` writes, and that its arithmetic adds up; measuring itself is not repeated."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from time import thread_time

import bumble.device
import pytest

from firmware_proto import cbor
from firmware_proto.codes import Outcome, Reason
from gatewayd import __version__, phones
from gatewayd.adapters.virtual_radio import Exchanges, link
from gatewayd.core import keytoken
from gatewayd.demo.stage import Opening
from gatewayd.emulators.phone import Report, Timings
from tests.bench import bench_cpu, bench_crowd, bench_door, bench_pause, bench_token
from tests.bench.__main__ import INTERRUPTED, MEASURED, NOT_MEASURED, measure_all, write
from tests.bench.cpu import CpuTime, cpu_time
from tests.bench.number import Bar, Number, percentile, table
from tests.bench.sampled import LOOP, PARTS, RADIO, WAITING, Sampler, part_of

ROOT = Path(__file__).parent.parent
FIELDS = {"name", "value", "unit", "bar", "holds", "how"}
PLAIN = Number("plain", 1.23456, "ms", "by looking")


def with_bar(value: float, sense: str = "<=") -> Number:
    return Number("judged", value, "", "by looking", Bar(sense, 1.5))


# --- one number ---------------------------------------------------------------
def test_a_number_without_a_bar_says_null_twice():
    assert PLAIN.document() == {
        "name": "plain", "value": 1.235, "unit": "ms", "bar": None, "holds": None,
        "how": "by looking",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sense", "holding", "missing"), [("<=", 1.5, 1.501), (">=", 1.5, 1.499), ("==", 1.5, 2)]
)
def test_a_bar_holds_or_is_missed(sense, holding, missing):
    assert with_bar(holding, sense).document()["holds"] is True
    assert with_bar(missing, sense).document()["holds"] is False


def test_the_bar_is_compared_with_what_is_printed():
    assert with_bar(1.5004).document()["value"] == 1.5
    assert with_bar(1.5004).holds


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_a_measured_number_is_refused(value):
    with pytest.raises(ValueError, match="judged"):
        with_bar(value).document()


def test_the_table_shows_missed_bars_and_how():
    lines = list(table([PLAIN, with_bar(1.6)]))
    assert lines[0].split() == ["plain", "1.235", "ms"]
    assert lines[2].split() == ["judged", "1.6", "<=", "1.5", "MISSED"]
    assert lines[1].strip() == lines[3].strip() == "by looking"


def test_percentiles_are_values_that_occurred():
    assert [percentile([4, 1, 3, 2], share) for share in (0, 0.5, 0.95, 1)] == [1, 2, 4, 4]


# --- a whole run ----------------------------------------------------------------
def fails() -> list[Number]:
    raise OSError("no disk")


def is_interrupted() -> list[Number]:
    raise KeyboardInterrupt


def test_a_missed_bar_is_no_failure_and_a_part_that_fails_spares_the_others(capsys):
    numbers: list[Number] = []
    assert measure_all([("one", lambda: [with_bar(9)])], numbers) == MEASURED
    assert measure_all([("two", fails), ("three", lambda: [PLAIN])], numbers) == NOT_MEASURED
    assert [number.name for number in numbers] == ["judged", "plain"]
    assert "two could not be measured: OSError('no disk')" in capsys.readouterr().err


def test_an_interrupt_ends_the_run_and_keeps_what_was_measured():
    numbers: list[Number] = []
    parts = [("one", lambda: [PLAIN]), ("two", is_interrupted), ("three", fails)]
    assert measure_all(parts, numbers) == INTERRUPTED
    assert numbers == [PLAIN]


def test_the_file_is_a_list_of_numbers(tmp_path):
    out = tmp_path / "new" / "bench.json"
    write(out, [PLAIN, with_bar(1.0)])
    document = json.loads(out.read_text())
    assert [set(each) for each in document] == [FIELDS, FIELDS]
    assert [path.name for path in out.parent.iterdir()] == ["bench.json"]


def test_a_call_without_a_file_says_what_is_wanted():
    command = [sys.executable, "-m", "tests.bench"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "usage" in result.stderr


def test_token_decisions_are_measured():
    numbers = bench_token.run(rounds=2)
    assert all(number.document()["value"] > 0 for number in numbers)
    assert [number.bar for number in numbers] == [Bar("<=", 1.5), None, None, None]
    assert numbers[1].value > numbers[0].value * 0.5


def test_a_handshake_is_measured_with_and_without_a_pause():
    loop, paused = bench_pause.run(times=2)
    assert 0.05 < loop.document()["value"] < 500
    assert 0.05 < paused.document()["value"] < 500
    assert "50 ms" in paused.name


# --- processor time -------------------------------------------------------------------
SEEN = bench_cpu.Measured(
    unlocks=10,
    cpu=CpuTime(main_s=0.08, others_s=0.02),
    idle=CpuTime(0.001, 0.0),
    samples={RADIO: 30, "token and policy": 10, LOOP: 30, WAITING: 30},
)


def test_the_parts_add_up_to_the_total():
    parts = bench_cpu.division(SEEN)
    assert sum(parts.values()) == pytest.approx(0.1)
    assert parts["token and policy"] == pytest.approx(0.01)
    # 20 of 100 samples were the log's thread, so of 30 in which the main thread waited 10 are left
    assert parts[LOOP] == pytest.approx(0.04)
    assert parts[bench_cpu.LOG_THREAD] == pytest.approx(0.02)


def test_our_own_work_is_all_but_the_radio_stack():
    own, total, *parts = bench_cpu.describe(SEEN)
    assert total.value == pytest.approx(10)
    assert own.value == pytest.approx(7)
    assert own.bar == Bar("<=", 5.0)
    assert not own.holds
    assert sum(part.value for part in parts) == pytest.approx(10)


def test_processor_time_is_counted_by_thread_and_grows():
    before = cpu_time(own_pid())
    began = thread_time()
    while thread_time() - began < 0.05:
        pass
    used = cpu_time(own_pid()).since(before)
    assert 0.03 < used.total_s < 5
    assert used.without(used) == CpuTime(0.0, 0.0)


def own_pid() -> int:
    return int(Path("/proc/self").resolve().name)


def test_there_is_no_time_of_a_process_that_is_not_there():
    with pytest.raises(OSError, match="2147483647"):
        cpu_time(2**31 - 1)


def test_every_file_that_the_division_names_exists():
    ours = [
        fragment
        for fragments in PARTS.values()
        for fragment in fragments
        if fragment.startswith(("/gatewayd/", "/firmware_proto/"))
    ]
    assert len(ours) > 10
    assert [fragment for fragment in ours if not (ROOT / fragment[1:]).exists()] == []


@pytest.mark.parametrize(
    ("module", "part"),
    [
        (bumble.device, RADIO),
        (link, RADIO),
        (keytoken, "token and policy"),
        (phones, "door and phones"),
        (cbor, None),
    ],
)
def test_a_source_file_belongs_to_a_part(module, part):
    assert part_of(inspect.getfile(module)) == part


def test_a_sample_that_no_part_owns_is_the_event_loops(tmp_path):
    sampler = Sampler(tmp_path / "samples.json")
    frame = inspect.currentframe()
    sampler._sample(0, None)
    sampler._sample(0, frame)
    sampler._end(0, None)
    counts = json.loads((tmp_path / "samples.json").read_text())
    assert sum(counts.values()) == 2
    assert counts[LOOP] >= 1


def test_the_sampled_program_is_gatewayd(tmp_path):
    command = [sys.executable, "-m", "tests.bench.sampled", tmp_path / "out", "--version"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == f"gatewayd {__version__}\n"


# --- what phones saw --------------------------------------------------------------------
def test_round_trips_and_profiles_are_told_from_what_was_seen():
    seen = bench_door.Seen(
        openings=[
            Opening(profile, total, {"record on disk": 4, "air and cipher": total - 4})
            for profile in bench_door.CONDITIONS
            for total in (40, 50, 90)
        ],
        round_trips=[2, 3, 2],
        first=[Exchanges(mtu_exchanges=1, discoveries=3, subscribes=1, att_requests=5)],
        later=[Exchanges(mtu_exchanges=1, subscribes=1, att_requests=2)],
    )
    most, first, later, *profiles = bench_door.describe(seen)
    assert (most.value, most.holds) == (3, False)
    assert (first.value, later.value) == (5, 2)
    assert "3 to find the service" in first.how
    assert len(profiles) == len(bench_door.CONDITIONS)
    assert {number.value for number in profiles} == {50.0}
    assert "record on disk 4, air and cipher 46" in profiles[0].how


def report(outcome: Outcome, reason: Reason, total_s: float) -> Report:
    return Report(outcome, reason, bytes(16), timings=Timings(total_s=total_s), attempts=1)


def test_only_those_who_got_in_are_served():
    crowd = bench_crowd.Crowd(
        [
            report(Outcome.CONFIRMED, Reason.OK, 0.5),
            report(Outcome.CONFIRMED, Reason.ALREADY_OPEN, 0.7),
            report(Outcome.REFUSED, Reason.BUSY, 0.1),
            report(Outcome.UNKNOWN, Reason.LOCK_SILENT, 9.0),
        ],
        last_s=9.0,
        moved=1,
        cpu_s=0.2,
    )
    served, p50, p95, cpu = bench_crowd.describe("crowd", crowd, "at once", bench_crowd.BAR)
    assert (served.value, served.holds) == (2, False)
    assert (p50.value, p95.value) == (0.5, 0.7)
    assert cpu.value == 200 / bench_crowd.PHONES


def test_nobody_served_is_still_a_number():
    crowd = bench_crowd.Crowd(
        [report(Outcome.REFUSED, Reason.BUSY, 0.1)], last_s=3.0, moved=0, cpu_s=0.2
    )
    numbers = bench_crowd.describe("crowd", crowd, "at once", None)
    assert [number.document()["value"] for number in numbers] == [0, 3.0, 3.0, 5.0]
