from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from data_contracts.delong import auc_difference, auc_interval
from data_contracts.evaluation import Evaluation, Slice, cut
from data_contracts.evidence import Estimate, auc, average_precision, normalised_entropy
from data_contracts.lake import Lake
from data_contracts.ranking import grouped_auc, precision_at, ratio
from data_contracts.use_case import load_use_case
from training.evaluate import Held, evaluate, evaluate_all, evaluate_slices, read_held, worst_slice


def clicks(n: int, seed: int = 5, decimals: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from scores, which tie when rounded."""
    rng = np.random.default_rng(seed)
    scores = rng.beta(1, 6, n)
    return (rng.random(n) < scores).astype(np.int32), scores.round(decimals)


@pytest.mark.parametrize("decimals", [1, 2, 12])
def test_average_precision_equals_sklearns_also_with_ties(decimals: int) -> None:
    labels, scores = clicks(3000, decimals=decimals)
    expected = metrics.average_precision_score(labels, scores)
    assert average_precision(labels, scores) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(average_precision(np.zeros(4), np.arange(4)))


def test_normalised_entropy_of_the_base_rate_is_one_and_of_better_scores_less() -> None:
    labels, scores = clicks(3000)
    base = np.full(len(labels), labels.mean())
    assert normalised_entropy(labels, base) == pytest.approx(1.0)
    expected = metrics.log_loss(labels, scores) / metrics.log_loss(labels, base)
    assert normalised_entropy(labels, scores) == pytest.approx(expected)
    assert expected < 1
    assert np.isnan(normalised_entropy(np.ones(4), np.full(4, 0.5)))


@pytest.mark.parametrize("decimals", [1, 12])
def test_delong_in_midranks_equals_its_definition_over_all_pairs(decimals: int) -> None:
    labels, ours = clicks(300, decimals=decimals)
    theirs = (ours + clicks(300, seed=6, decimals=decimals)[1]) / 2

    def components(scores: np.ndarray) -> np.ndarray:
        above, below = scores[labels > 0][:, None], scores[labels == 0]
        return (above > below) + 0.5 * (above == below)

    for kernel, found in (
        (components(ours), auc_interval(labels, ours, 0.9)),
        (components(ours) - components(theirs), auc_difference(labels, ours, theirs, 0.9)),
    ):
        rows, columns = kernel.mean(axis=1), kernel.mean(axis=0)
        error = np.sqrt(rows.var(ddof=1) / len(rows) + columns.var(ddof=1) / len(columns))
        assert found.value == pytest.approx(kernel.mean(), abs=1e-12)
        assert found.high - found.low == pytest.approx(2 * 1.6448536 * error)
        assert found.n == 300


def test_nine_of_ten_intervals_at_ninety_percent_hold_the_true_auc() -> None:
    truth = auc(*clicks(1_000_000, seed=1))
    held = [auc_interval(*clicks(400, seed), 0.9) for seed in range(400)]
    share = np.mean([each.low <= truth <= each.high for each in held])
    assert 0.86 <= share <= 0.94


def test_delong_over_users_is_that_of_one_row_each_where_each_repeats_its_own() -> None:
    labels, ours = clicks(300)
    theirs, users = clicks(300, seed=6)[1], np.arange(300).repeat(3)
    often = [each.repeat(3) for each in (labels, ours, theirs)]
    for once, found in (
        (auc_interval(labels, ours), auc_interval(*often[:2], users=users)),
        (auc_difference(labels, ours, theirs), auc_difference(*often, users=users)),
    ):
        assert (once.value, once.low, once.high) == pytest.approx(
            (found.value, found.low, found.high)
        )
        assert (300, 900) == (once.n, found.n)


def test_delong_over_users_equals_obuchowskis_sums() -> None:
    labels, scores = clicks(400)
    users = np.random.default_rng(4).integers(0, 60, 400).astype(str)
    above, below = scores[labels > 0][:, None], scores[labels == 0]
    kernel = (above > below) + 0.5 * (above == below)
    value, (m, n) = kernel.mean(), kernel.shape
    ours = kernel.mean(axis=1) - value, users[labels > 0]
    theirs = kernel.mean(axis=0) - value, users[labels == 0]
    names = sorted(set(users))
    a, b = (np.array([v[u == name].sum() for name in names]) for v, u in (ours, theirs))
    some, others = len(set(ours[1])), len(set(theirs[1]))
    s10, s01 = some / (some - 1) / m * (a @ a), others / (others - 1) / n * (b @ b)
    s11 = len(names) / (len(names) - 1) * (a @ b)
    error = np.sqrt(s10 / m + s01 / n + 2 * s11 / (m * n))
    found = auc_interval(labels, scores, 0.9, users)
    assert found.high - found.low == pytest.approx(2 * 1.6448536 * error)
    assert np.isnan(auc_interval(labels, scores, 0.9, np.where(labels > 0, "one", users)).low)


def test_an_auc_without_variance_or_class_has_no_interval() -> None:
    labels = np.array([0, 0, 1, 1])
    nan = pytest.approx(float("nan"), nan_ok=True)
    assert auc_interval(labels, labels.astype(float)) == Estimate(1.0, nan, nan, 4)
    assert auc_interval(np.zeros(4), labels) == Estimate(nan, nan, nan, 4)
    assert auc_interval(np.array([]), np.array([])) == Estimate(nan, nan, nan, 0)
    assert auc_interval(labels, np.full(4, 0.5)) == Estimate(0.5, 0.5, 0.5, 4)
    assert auc_difference(labels, labels * 0.3, labels * 0.3) == Estimate(0.0, 0.0, 0.0, 4)


def test_gauc_is_the_mean_of_the_users_aucs_by_their_rows() -> None:
    labels, scores = clicks(900, decimals=1)
    users = np.random.default_rng(2).zipf(1.6, 900) % 97
    aucs = {user: auc(labels[users == user], scores[users == user]) for user in set(users)}
    known = {user: each for user, each in aucs.items() if not np.isnan(each)}
    rows = [np.sum(users == user) for user in known]
    found = grouped_auc(labels, scores, users)
    assert found.value == pytest.approx(np.average(list(known.values()), weights=rows))
    assert len(known) == found.n < len(aucs)
    assert found.low < found.value < found.high
    assert grouped_auc(np.zeros(9), scores[:9], users[:9]).n == 0


def test_precision_at_k_counts_the_top_of_requests_that_are_longer() -> None:
    requests = np.array(["a", "b", "a", "a", "b", "c"])
    scores = np.array([0.9, 0.8, 0.1, 0.5, 0.9, 0.3])
    labels = np.array([1, 0, 1, 0, 1, 1])
    found = precision_at(1, labels, scores, requests)
    assert (found.value, found.n) == (1.0, 2)
    assert precision_at(2, labels, scores, requests).value == 0.5
    assert precision_at(3, labels, scores, requests).n == 0


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 2)), min_size=2, max_size=6),
    st.integers(1, 5),
)
def test_precision_of_ties_is_the_mean_over_all_orders_of_the_rows(
    rows: list[tuple[bool, int]], k: int
) -> None:
    hits = [
        sum(hit for hit, _ in sorted(order, key=lambda row: -row[1])[:k])
        for order in permutations(rows)
    ]
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    found = precision_at(k, labels, scores, np.zeros(len(rows)))
    if k < len(rows):
        assert found.value == pytest.approx(np.mean(hits) / k)
    else:
        assert found.n == 0


def test_one_score_for_all_has_the_precision_of_chance_in_the_order_that_was_logged() -> None:
    requests = np.arange(300).repeat(7)
    labels = np.tile([1, 1, 0, 0, 1, 0, 0], 300)
    for each in (labels, labels[::-1]):
        assert precision_at(2, each, np.full(2100, 0.1), requests).value == pytest.approx(3 / 7)


def test_precision_over_users_is_wider_where_their_requests_are_alike() -> None:
    rng = np.random.default_rng(3)
    requests = np.arange(600).repeat(2)
    users = (np.arange(600) // 20).repeat(2)
    labels = rng.choice([0, 1], 30).repeat(40)
    apart = precision_at(1, labels, rng.random(1200), requests)
    together = precision_at(1, labels, rng.random(1200), requests, users=users)
    assert (apart.value, apart.n) == (together.value, together.n)
    assert together.high - together.low > 3 * (apart.high - apart.low)


def test_a_ratio_is_of_sums_and_its_interval_over_groups() -> None:
    found = ratio(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 8.0]))
    assert found.value == 0.5
    assert found.low < 0.5 < found.high
    assert ratio(np.array([]), np.array([])).as_dict()["value"] is None


def test_slices_cut_by_value_and_by_edges() -> None:
    declared = Evaluation(slices=(Slice("device", most=1), Slice("age", edges=(2, 5))))
    columns = {
        "device": np.array(["other", "app", "other", None, "None"], object),
        "age": np.array([1, 2, None, 7, float("nan")], object),
    }
    assert {
        "device = other": [0, 2],
        "device beyond the 1": [1, 4],
        "device unknown": [3],
        "age < 2": [0],
        "2 <= age < 5": [1],
        "age >= 5": [3],
        "age unknown": [2, 4],
    } == {name: np.flatnonzero(mask).tolist() for name, mask in cut(declared, columns).items()}


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (Evaluation(user="who"), "user 'who'"),
        (Evaluation(top=0), "top 0"),
        (Evaluation(slices=(Slice("nothing"),)), "slice by 'nothing'"),
        (Evaluation(slices=(Slice("f", edges=(2, 1)),)), "edges ascend"),
    ],
)
def test_a_declaration_that_nothing_can_be_judged_by_is_refused(
    declared: Evaluation, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        declared.check({"user_id"}, {"f"})


def test_the_worst_slice_is_the_one_where_scores_say_least_among_those_with_rows() -> None:
    labels, scores = clicks(2000)
    part = np.arange(2000) % 4
    scores = np.where(part == 2, 0.9, scores)
    held = Held(None, None, {f"p = {i}": part == i for i in range(4)} | {"few": part < 0})
    held.parts["few"][:5] = True
    slices = evaluate_slices(labels, scores, held, 0.95)
    assert worst_slice(slices, 200) == "p = 2"
    assert worst_slice(slices, 501) is None
    assert slices["p = 1"]["auc"] == evaluate(labels[part == 1], scores[part == 1], 0.95)["auc"]


def test_the_rankings_of_a_part_are_of_its_rows_alone() -> None:
    # request, user, score, label; the last two rows are of the other part
    rows = [
        ("a", "u", 0.9, 1), ("a", "u", 0.8, 0), ("a", "u", 0.1, 1), ("a", "u", 0.7, 1),
        ("b", "v", 0.2, 0), ("b", "v", 0.6, 1), ("b", "v", 0.4, 1), ("c", "v", 0.5, 0),
        ("a", "u", 0.95, 0), ("a", "u", 0.93, 0),
    ]  # fmt: skip
    requests, users, scores, labels = (np.array(column) for column in zip(*rows, strict=True))
    web = np.arange(10) < 8
    held = Held(users, requests, {"web": web, "app": ~web})
    slices = evaluate_slices(labels, scores, held, 0.95, top=2)
    precision, gauc = slices["web"]["precision_at_2"], slices["web"]["gauc"]
    # Of a's two highest one is a click, of b's both; c has too few rows.
    assert (3 / 4, 2) == (precision.value, precision.n)
    # u ranks one of three pairs right, v three of four, with four rows each.
    assert (pytest.approx((1 / 3 + 3 / 4) / 2), 2) == (gauc.value, gauc.n)
    assert not {"precision_at_2", "gauc"} & set(slices["app"])
    whole = evaluate_all(labels, {"m": scores}, 0.95, held, top=2)["m"]["precision_at_2"]
    assert (2 / 4, 2) == (whole.value, whole.n)


def test_rows_that_are_judged_in_another_order_than_they_were_scored_are_refused(
    tmp_path: Path,
) -> None:
    use_case, lake = load_use_case("clicks"), Lake(tmp_path, "clicks")
    table = pa.table(
        {
            "q": [3, 1, 2, 1, 9],
            "event_id": ["c", "b", "x", "a", "t"],
            "label": [1, 0, 1, 0, 1],
            "split": ["test"] * 4 + ["train"],
            "user_id": ["u", None, "u", None, "t"],
            "position": [1, 2, 3, 1, 1],
            "user_impressions_24h": [0.0, 5.0, 30.0, 1.0, 1.0],
            "request_id": ["r"] * 5,
        }
    )
    write_deltalake(lake.training_set, table)
    held = read_held(use_case, lake, 0, np.array([0, 0, 1, 1], np.float32))
    assert held.users is not None and ["u", "u"] == held.users[2:].tolist()
    assert 3 == len(set(held.users))
    assert [0, 3] == np.flatnonzero(held.parts["position = 1"]).tolist()
    assert [2] == np.flatnonzero(held.parts["user_impressions_24h >= 20"]).tolist()
    for other in ([1, 0, 0, 1], [0, 1, 1]):
        with pytest.raises(ValueError, match="another order"):
            read_held(use_case, lake, 0, np.array(other, np.float32))
    write_deltalake(
        lake.training_set, table.drop_columns("position"), mode="overwrite", schema_mode="overwrite"
    )
    with pytest.raises(ValueError, match=r"lacks \['position'\].*headrace backfill"):
        read_held(use_case, lake, 1, np.zeros(4))
