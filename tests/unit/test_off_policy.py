import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn import linear_model as linear
from sklearn import model_selection as selection

from data_contracts.off_policy import Modelled, off_policy_value, slate_value, tabular_model
from data_contracts.use_case import load_use_case


class Sample:
    """The embedded rows of the random policy, and BernoulliTS at each item and position."""

    def __init__(self) -> None:
        use_case = load_use_case("clicks")
        declared = use_case.declared.off_policy
        assert declared is not None and use_case.log is not None
        self.folder: Path = use_case.log.parent
        log = pq.read_table(use_case.log).to_pylist()
        self.on_policy = np.mean([row["click"] for row in log if row["policy"] == declared.target])
        self.rows = [row for row in log if row["policy"] == declared.logged]
        self.rows.sort(key=lambda row: row["timestamp"])
        self.item, self.slot, self.click, self.logged = (
            np.array([row[name] for row in self.rows])
            for name in ("item_id", "position", "click", "propensity")
        )
        self.slot = self.slot - 1
        self.policy = np.zeros((80, 3))
        with (use_case.folder / declared.action_distribution).open() as lines:
            for row in csv.DictReader(lines):
                place = int(row["item_id"]), int(row["position"]) - 1
                self.policy[place] = float(row["probability"])
        self.target = self.policy[self.item, self.slot]


@pytest.fixture(scope="module")
def sample() -> Sample:
    return Sample()


def quickstart_model(sample: Sample) -> Modelled:
    """The published quickstart's: logistic regression per slot on user and item, three folds."""
    features = np.array([row["user_id"].split("-") for row in sample.rows])
    context = np.concatenate(
        [features[:, [j]] == np.unique(features[:, j])[1:] for j in range(4)], axis=1
    ).astype(float)
    with (sample.folder / "item_context.csv").open() as lines:
        items = list(csv.DictReader(lines))
    hashed = [[item[f"item_feature_{j}"] for item in items] for j in (1, 2, 3)]
    coded = [np.unique(each, return_inverse=True)[1] for each in hashed]
    known = np.column_stack([*coded, [float(item["item_feature_0"]) for item in items]])
    expected = np.zeros((len(sample.rows), len(items)))
    folds = selection.KFold(3, shuffle=True, random_state=12345)
    for train, test in folds.split(context):
        for slot in range(3):
            fit, apply = train[sample.slot[train] == slot], test[sample.slot[test] == slot]
            model = linear.LogisticRegression(max_iter=1000, random_state=12345)
            model.fit(np.c_[context[fit], known[sample.item[fit]]], sample.click[fit])
            user, item = np.split(model.coef_[0], [context.shape[1]])
            logit = (context[apply] @ user)[:, None] + known @ item + model.intercept_
            expected[apply] = 1 / (1 + np.exp(-logit))
    rows = np.arange(len(sample.rows))
    return Modelled(
        expected[rows, sample.item], (expected * sample.policy[:, sample.slot].T).sum(axis=1)
    )


def test_bernoulli_ts_from_the_random_log_has_its_published_values(sample: Sample) -> None:
    value = off_policy_value(
        sample.click, sample.logged, sample.target, modelled=quickstart_model(sample)
    )
    assert value.dm is not None and value.dr is not None
    assert round(value.ips.value, 6) == 0.004553
    assert sample.on_policy == 0.0042
    assert round(value.dm.value, 6) == 0.003545
    errors = [abs(each.value - 0.0042) / 0.0042 for each in (value.ips, value.dm, value.dr)]
    # The quickstart draws the policy's probabilities by another seed: DR moves in the 4th digit.
    assert errors == pytest.approx([0.0840, 0.1560, 0.1255], abs=5e-4)
    for each in (value.ips, value.snips, value.dr):
        assert each.low < 0.0042 < each.high
    assert (value.verdict, value.ips.n) == ("can judge", 10_000)
    assert value.effective_sample_size == pytest.approx(1640, abs=1)


def test_the_published_value_can_be_judged_over_users_too(sample: Sample) -> None:
    users = np.array([row["user_id"] for row in sample.rows])
    value = off_policy_value(sample.click, sample.logged, sample.target, users=users)
    assert round(value.ips.value, 6) == 0.004553
    for each in (value.ips, value.snips):
        assert each.low < 0.0042 < each.high
    assert value.verdict == "can judge" and 20 < value.effective_users < 240


def test_means_per_item_and_slot_are_a_reward_model_too(sample: Sample) -> None:
    cell = sample.item * 3 + sample.slot
    model = tabular_model(sample.click, cell, np.arange(240) % 3, sample.policy.ravel())
    value = off_policy_value(sample.click, sample.logged, sample.target, modelled=model)
    assert value.dm is not None and value.dr is not None
    assert value.dr.low < 0.0042 < value.dr.high
    assert value.dm.value == pytest.approx(0.0042, abs=0.001)


def bandit(n: int, seed: int) -> tuple[np.ndarray, ...]:
    """(rewards, action, logged and target probability of it) with five actions."""
    rng = np.random.default_rng(seed)
    logging, target = np.array([0.4, 0.3, 0.1, 0.1, 0.1]), np.array([0.1, 0.1, 0.2, 0.2, 0.4])
    action = rng.choice(5, n, p=logging)
    rewards = (rng.random(n) < np.array([0.1, 0.2, 0.3, 0.4, 0.5])[action]).astype(float)
    return rewards, action, logging[action], target[action]


def test_most_intervals_hold_the_true_value_and_a_model_narrows_them() -> None:
    true = float(np.array([0.1, 0.1, 0.2, 0.2, 0.4]) @ np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    held, widths = [], []
    for seed in range(100):
        rewards, action, logged, target = bandit(800, seed)
        policy = np.array([0.1, 0.1, 0.2, 0.2, 0.4])
        model = tabular_model(rewards, action, np.zeros(5, int), policy)
        value = off_policy_value(rewards, logged, target, draws=200, modelled=model)
        assert value.dr is not None
        each = (value.ips, value.snips, value.dr)
        held.append([e.low <= true <= e.high for e in each])
        widths.append([e.high - e.low for e in each])
    assert (np.mean(held, axis=0) >= 0.88).all()
    ips, snips, dr = np.mean(widths, axis=0)
    assert max(snips, dr) < ips


def returning(seed: int, count: int = 200) -> tuple[np.ndarray, ...]:
    """(users, rewards, action, logged and target probability) of `count` users of whom each has
    rewards and a number of rows of their own, Pareto up to 100."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(count), np.minimum(4 + rng.pareto(1.5, count) * 8, 100).astype(int))
    _, action, logged, target = bandit(len(users), seed)
    own = rng.beta(0.5, 1.5, count)[users]
    rewards = (rng.random(len(users)) < own * (0.6 + 0.1 * action)).astype(float)
    return users, rewards, action, logged, target


def test_intervals_over_users_hold_the_value_where_users_come_back_and_those_over_rows_do_not() -> (
    None
):
    policy = np.array([0.1, 0.1, 0.2, 0.2, 0.4])
    true = 0.25 * float(policy @ (0.6 + 0.1 * np.arange(5)))
    held: dict[str, list[list[bool]]] = {"users": [], "rows": []}
    for seed in range(200):
        users, rewards, action, logged, target = returning(seed)
        for name, by in (("users", users), ("rows", None)):
            model = tabular_model(rewards, action, np.zeros(5, int), policy, users=by)
            value = off_policy_value(rewards, logged, target, draws=200, modelled=model, users=by)
            assert value.dr is not None and value.effective_users > 20
            each = (value.ips, value.snips, value.dr)
            held[name].append([e.low <= true <= e.high for e in each])
    covered = {name: np.mean(each, axis=0) for name, each in held.items()}
    assert (covered["users"] >= 0.88).all(), covered
    assert (covered["rows"] < 0.75).all(), covered


def test_a_slate_is_as_uncertain_as_its_users_are_few() -> None:
    users, rewards, _, logged, target = returning(3)
    slates = rewards[:, None], logged[:, None], target[:, None]
    over_users, over_rows = slate_value(*slates, users=users), slate_value(*slates)
    alone = off_policy_value(rewards, logged, target, users=users)
    for ours, theirs in ((over_users.ips, alone.ips), (over_users.snips, alone.snips)):
        assert (theirs.value, theirs.low, theirs.high) == pytest.approx(
            (ours.value, ours.low, ours.high)
        )
    assert alone.effective_users == over_users.effective_users < 200
    assert over_rows.effective_users == over_rows.effective_sample_size
    width = [value.snips.high - value.snips.low for value in (over_users, over_rows)]
    assert width[0] > 1.5 * width[1]


def test_many_rows_of_few_users_cannot_be_judged_by() -> None:
    rewards, _, logged, target = bandit(3000, 2)
    for count, expected in ((1, "1.0"), (19, "19.0")):
        users = np.arange(3000) % count
        for value in (
            off_policy_value(rewards, logged, logged, draws=20, users=users),
            slate_value(rewards[:, None], logged[:, None], logged[:, None], draws=20, users=users),
        ):
            assert f"{expected} effective users, needs 20" == value.doubt
    # The log has a hundred users, but what the target does was shown to one of them alone.
    one = np.maximum(np.arange(3000) - 2900, 0)
    weighed = np.where(one == 0, target, 0.0)
    value = off_policy_value(rewards, logged, weighed, draws=20, users=one)
    assert "1.0 effective users, needs 20" == value.doubt
    many = off_policy_value(rewards, logged, target, draws=20, users=np.arange(3000) % 300)
    assert many.verdict == "can judge"


def test_weights_that_are_alike_within_users_are_no_wrong_propensities() -> None:
    """Users meet one action each, again and again: their weights average 1 only over users."""
    doubts = 0
    for seed in range(60):
        _, _, logged, target = bandit(300, seed)
        rows = np.repeat(np.arange(300), 10)
        value = off_policy_value(np.zeros(3000), logged[rows], target[rows], draws=2, users=rows)
        doubts += value.verdict == "cannot judge"
    assert doubts <= 2


def test_no_user_s_reward_is_in_the_model_of_that_user_s_rows() -> None:
    users = np.repeat(np.arange(3), 5)
    for who in range(3):
        model = tabular_model(
            (users == who).astype(float),
            np.zeros(15, int),
            np.zeros(1, int),
            np.ones(1),
            users=users,
        )
        assert [0.0] * 5 == model.logged[users == who].tolist()
    alone = tabular_model(
        np.ones(5), np.zeros(5, int), np.zeros(1, int), np.ones(1), users=users[:5]
    )
    assert [0.0] * 5 == alone.target.tolist()


def test_a_wrong_model_is_mended_by_the_weights_and_the_direct_method_is_not() -> None:
    rewards, _, logged, target = bandit(20_000, 1)
    wrong = Modelled(np.full(20_000, 0.9), np.full(20_000, 0.9))
    value = off_policy_value(rewards, logged, target, draws=50, modelled=wrong)
    assert value.dm is not None and value.dr is not None
    assert value.dm.value == pytest.approx(0.9)
    assert value.dr.value == pytest.approx(0.37, abs=0.02)


def test_poor_overlap_cannot_be_judged_by_and_says_why() -> None:
    rewards, _, logged, target = bandit(3000, 2)
    few = off_policy_value(rewards[:90], logged[:90], target[:90], draws=20)
    assert (few.verdict, few.doubt is not None and "effective rows of 90" in few.doubt) == (
        "cannot judge", True,
    )  # fmt: skip
    heavy = np.where(np.arange(3000) == 7, logged * 190, target)
    assert "one row carries" in str(off_policy_value(rewards, logged, heavy, draws=20).doubt)
    absent = off_policy_value(rewards, logged, target / 2, draws=20)
    assert "average 0.5" in str(absent.doubt)
    assert absent.as_dict()["verdict"] == "cannot judge"
    assert absent.as_dict()["dr"] is None


def test_a_slate_is_valued_slot_by_slot_by_the_products_down_to_it() -> None:
    rewards = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, np.nan], [0.0, 0.0]])
    logged = np.array([[0.5, 0.5], [0.5, 0.5], [0.5, np.nan], [0.5, 0.25]])
    target = np.array([[0.25, 1.0], [1.0, 0.5], [0.5, np.nan], [0.25, 0.5]])
    value = slate_value(rewards, logged, target, draws=50)
    assert value.ips.value == pytest.approx((0.5 + 0.5 * 2 + 2 * 1 + 1) / 4)
    first, second = (0.5 + 1) / (0.5 + 2 + 1 + 0.5), (1 + 2) / (1 + 2 + 1)
    assert value.snips.value == pytest.approx(first + second * 3 / 4)
    assert value.verdict == "cannot judge"


def test_cascade_weights_find_the_value_of_slates_that_were_never_logged_whole() -> None:
    rng, n = np.random.default_rng(3), 40_000
    first, second = rng.random(n) < 0.5, rng.random(n) < 0.5
    clicks = np.column_stack(
        [rng.random(n) < 0.1 + 0.2 * first, rng.random(n) < 0.1 + 0.3 * (first & second)]
    ).astype(float)
    target = np.column_stack([np.where(first, 0.8, 0.2), np.where(second, 0.9, 0.1)])
    value = slate_value(clicks, np.full((n, 2), 0.5), target, draws=200)
    true = 0.1 + 0.2 * 0.8 + 0.1 + 0.3 * 0.72
    assert value.ips.low < true < value.ips.high
    assert value.snips.value == pytest.approx(true, abs=0.01)
    assert value.verdict == "can judge"


def test_the_logging_policy_has_the_value_it_had() -> None:
    rewards = np.array([1.0, 0.0, 0.0, 1.0])
    logged = np.array([0.5, 0.1, 0.9, 0.3])
    value = off_policy_value(rewards, logged, logged)
    assert (value.ips.value, value.snips.value) == (0.5, 0.5)
    assert value.effective_sample_size == 4
    assert value.max_weight == 1


def test_a_policy_that_never_does_what_was_logged_has_no_normalised_value() -> None:
    value = off_policy_value(np.ones(3), np.full(3, 0.5), np.zeros(3))
    assert value.ips.value == 0
    assert np.isnan(value.snips.value)
    assert value.effective_sample_size == 0


@pytest.mark.parametrize("propensity", [0.0, -0.1, 1.5, float("nan")])
def test_a_propensity_that_is_none_is_refused(propensity: float) -> None:
    with pytest.raises(ValueError, match="propensity in"):
        off_policy_value(np.ones(2), np.array([0.5, propensity]), np.ones(2))


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="needs rows"):
        off_policy_value(np.array([]), np.array([]), np.array([]))
