"""What a battery lock can be made to pay, by one holder and by all of them together."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.core.budget import MOST_HOLDERS, OF_A_HOLDER, OF_THE_LOCK, BatteryBudget, Bucket

DAY_S = 86_400.0
ANNA, BO = b"anna", b"bo"


def prepares(budget: BatteryBudget, holder: bytes, at_s: list[float]) -> tuple[BatteryBudget, int]:
    """How many of these `Prepare`s are allowed."""
    allowed = 0
    for now_s in at_s:
        after = budget.prepared(holder, now_s)
        if after is not None:
            budget, allowed = after, allowed + 1
    return budget, allowed


def test_a_bucket_gives_so_many_at_once_and_one_more_in_time():
    bucket = Bucket(2, 10.0)
    for wait_s in (0.0, 0.0, 10.0, 20.0):
        assert bucket.wait_s(100.0) == wait_s
        bucket = bucket.take(100.0)
    assert bucket.missing(100.0) == 4
    assert [bucket.wait_s(at_s) for at_s in (110.0, 125.0, 130.0, 1e6)] == [20.0, 5.0, 0.0, 0.0]
    assert bucket.missing(1e6) == 0


def test_what_is_given_back_never_makes_a_bucket_larger():
    full = Bucket(2, 10.0).give_back(5, 0.0)
    assert full.take(0.0).take(0.0).wait_s(0.0) == 10.0


def test_one_holder_cannot_keep_a_lock_awake():
    budget, allowed = prepares(BatteryBudget(), ANNA, [5.0 * n for n in range(int(DAY_S / 5))])
    assert allowed == OF_A_HOLDER.most + 11  # one every two hours, and the day is not over
    assert budget.prepared(BO, DAY_S) is not None


def test_all_holders_together_cannot_either():
    budget, total = BatteryBudget(), 0
    for second in range(0, int(DAY_S), 5):
        budget, allowed = prepares(budget, second.to_bytes(4, "big"), [float(second)])
        total += allowed
    assert total == OF_THE_LOCK.most + 47


def test_who_opens_gets_back_what_preparing_took():
    budget = BatteryBudget()
    for n in range(500):  # a busy door: everybody prepares, everybody opens
        now_s = 10.0 * n
        after = budget.prepared(ANNA, now_s)
        assert after is not None
        budget = after.opened(ANNA, now_s + 3.0)
    assert budget.preparing.missing(5000.0) == budget.holders[ANNA].missing(5000.0) == 0


def test_an_opening_pays_for_one_prepare_only():
    budget, _ = prepares(BatteryBudget(), ANNA, [0.0] * 6)
    assert budget.prepared(ANNA, 0.0) is None
    budget = budget.opened(ANNA, 0.0)
    budget, allowed = prepares(budget, ANNA, [0.0] * 6)
    assert allowed == 1


def test_who_prepared_nothing_gives_nothing_back():
    budget, _ = prepares(BatteryBudget(), ANNA, [0.0] * 6)
    assert budget.opened(BO, 0.0) == budget
    assert budget.opened(BO, 0.0).preparing.missing(0.0) == 6


def test_the_gateways_own_wishes_have_a_share_of_their_own():
    budget = BatteryBudget()
    for _ in range(OF_THE_LOCK.most):
        after = budget.upkept(0.0)
        assert after is not None
        budget = after
    assert budget.upkept(0.0) is None
    assert budget.upkeep.wait_s(0.0) == OF_THE_LOCK.every_s
    assert budget.prepared(ANNA, 0.0) is not None
    assert budget.not_woken(0.0).upkept(0.0) is not None
    drained, _ = prepares(BatteryBudget(), ANNA, [0.0] * 6)
    assert drained.upkept(0.0) is not None


def test_holders_beyond_the_most_are_forgotten_longest_silent_first():
    budget = BatteryBudget(preparing=Bucket(10**6, 1.0))
    for number in range(MOST_HOLDERS):
        budget, _ = prepares(budget, number.to_bytes(4, "big"), [0.0])
    budget, _ = prepares(budget, bytes(4), [1.0])
    budget, _ = prepares(budget, BO, [1.0])
    assert len(budget.holders) == MOST_HOLDERS
    assert bytes(4) in budget.holders
    assert (1).to_bytes(4, "big") not in budget.holders


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from([ANNA, BO]), st.booleans(), st.floats(0, 3600)), max_size=60)
)
def test_prepares_that_nobody_opens_with_stay_within_the_budget(steps):
    budget, now_s, wasted = BatteryBudget(), 0.0, 0
    for holder, opens, pause_s in steps:
        now_s += pause_s
        after = budget.prepared(holder, now_s)
        if after is None:
            continue
        budget = after.opened(holder, now_s) if opens else after
        wasted += not opens
    assert wasted <= OF_THE_LOCK.most + now_s / OF_THE_LOCK.every_s
