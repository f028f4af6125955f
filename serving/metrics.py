"""`GET /metrics`: what all replicas said last of themselves, as one, in Prometheus' text format.

Replicas write their counts into the rollout's store; whichever process reads that store answers for
all of them. A counter is summed over every boot of every replica that ever reported, so that none
goes back when a replica ends; a gauge over those that are there. Names and units as
prometheus.io/docs/practices/naming demands.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from data_contracts.rollout import Plan
from data_contracts.rollout_store import Report, RolloutStore
from data_contracts.tally import Tally, summed
from serving.headroom import lives
from serving.reports import COUNTED

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_OCTAVES = range(13)
"""Upper edges of the latency's buckets: 2^k ms, where buckets of a tally end too."""


def exposition(store: RolloutStore, use_case: str, now: float) -> bytes:
    """The metrics of one use case at `now` (s since 1970), in text format 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Stored(store, use_case, now))
    return generate_latest(registry)


class _Stored(Collector):
    def __init__(self, store: RolloutStore, use_case: str, now: float) -> None:
        self._store, self._use_case, self._now = store, use_case, now

    def collect(self) -> Iterator[Metric]:
        reports = self._store.reports()
        live = [each for each in reports if lives(each.body, self._now)]
        plan = self._store.plan()
        yield from self._counted(reports)
        yield from self._there(live, plan)
        if plan is not None:
            yield from self._planned(plan)

    def _counted(self, reports: Iterable[Report]) -> Iterator[Metric]:
        bodies = [each.body for each in reports]
        answers = _merged(bodies, "statuses")
        yield self._counter("http_requests", "Requests to a model, answered.", "status", answers)
        shed = _merged(bodies, "shed")
        yield self._counter("shed_requests", "Refused with 429, by what.", "reason", shed)
        yield from self._arms(bodies)
        shadow = {
            "scored": _sum(bodies, "shadow_scored"),
            "dropped": _sum(bodies, "shadow_dropped"),
        }
        yield self._counter("shadow_requests", "Copies for the candidate.", "outcome", shadow)
        events = _merged(bodies, "events")
        yield self._counter("events", "Events sent to the collector.", "outcome", events)
        for name, text in COUNTED.items():
            found = CounterMetricFamily(f"headrace_{name}", text, labels=["use_case"])
            found.add_metric([self._use_case], _sum(bodies, name))
            yield found
        spent = SummaryMetricFamily(
            "headrace_stage_duration_seconds",
            "Part of an answer's time: features, queue (waiting for the scorer), model.",
            labels=["use_case", "stage"],
        )
        answered = int(_sum(bodies, "answered"))
        for stage, milliseconds in _merged(bodies, "spent_ms").items():
            spent.add_metric([self._use_case, stage], answered, milliseconds / 1000)
        yield spent

    def _arms(self, bodies: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
        labels = ["use_case", "arm"]
        outcomes = CounterMetricFamily(
            "headrace_arm_requests",
            "Requests of an arm's units: answered by its model, or why another one answered.",
            labels=[*labels, "outcome"],
        )
        took = HistogramMetricFamily(
            "headrace_request_duration_seconds",
            "From a request's arrival to its answer, by the arm whose model was asked.",
            labels=labels,
        )
        scores = SummaryMetricFamily(
            "headrace_score", "Scores that an arm's model gave to its units.", labels=labels
        )
        for arm in ("champion", "candidate"):
            said = [body["totals"][arm] for body in bodies if arm in body.get("totals", {})]
            tally = summed(map(Tally.from_dict, said))
            for outcome, count in {"answered": tally.own_answers, **tally.failures}.items():
                outcomes.add_metric([self._use_case, arm, outcome], count)
            buckets = [(f"{2**k / 1000:g}", float(tally.within(2.0**k))) for k in _OCTAVES]
            buckets.append(("+Inf", float(sum(tally.latency.values()))))
            took.add_metric([self._use_case, arm], buckets, tally.latency_ms / 1000)
            scores.add_metric([self._use_case, arm], tally.scores, tally.score_sum)
        yield from (outcomes, took, scores)

    def _there(self, live: list[Report], plan: Plan | None) -> Iterator[Metric]:
        bodies = [each.body for each in live]
        epoch = plan.epoch if plan is not None else 0
        step = plan.step if plan is not None else ""
        behind = sum(body.get("epoch", 0) < epoch for body in bodies)
        broken = sum(step in body.get("broken", {}) for body in bodies)
        yield self._gauge("replicas", "Replicas that report.", len(live))
        yield self._gauge("replicas_behind", "Those that go by an older plan.", behind)
        yield self._gauge("breakers_open", "Those whose candidate's breaker is open.", broken)
        under_way = _sum(bodies, "under_way")
        yield self._gauge("requests_in_flight", "Requests under way in replicas.", under_way)
        yield self._gauge("busy_processors", "Processors kept busy.", _sum(bodies, "busy"))
        held = [body.get("memory", {}) for body in bodies]
        used = {"replica": _sum(held, "own"), "candidate": _sum(held, "candidate")}
        memory = GaugeMetricFamily(
            "headrace_memory_bytes", "Memory held by processes.", labels=["use_case", "process"]
        )
        for process, count in used.items():
            memory.add_metric([self._use_case, process], count)
        yield memory

    def _planned(self, plan: Plan) -> Iterator[Metric]:
        candidate = plan.candidate.version if plan.candidate is not None else ""
        release = InfoMetricFamily("headrace_release", "What is served.", labels=["use_case"])
        told = {"stage": plan.stage, "champion": plan.champion.version, "candidate": candidate}
        release.add_metric([self._use_case], told)
        yield release
        yield self._gauge("plan_epoch", "Number of the newest plan.", plan.epoch)
        followed, _ = self._store.followed()
        yield self._gauge("aliases_epoch", "Plan that the registry's aliases follow.", followed)
        yield self._gauge("canary_ratio", "Share of units answered by it.", plan.canary_bps / 1e4)
        yield self._gauge("shadow_ratio", "Share of requests mirrored.", plan.shadow_bps / 1e4)
        looks = self._store.ends(plan.release) if plan.candidate is not None else []
        waits = GaugeMetricFamily(
            "headrace_release_waits",
            "Whether the release stays at its share, by what its gates said last.",
            labels=["use_case", "verdict"],
        )
        for look in looks[-1:]:
            said = str(look["decision"]["verdict"])
            waits.add_metric([self._use_case, said], float(bool(look["waits"])))
        yield waits
        waiting = len(self._store.requests(open_only=True))
        yield self._gauge("rollout_requests_waiting", "Asked of the controller.", waiting)
        beat = self._store.beat()
        beats = CounterMetricFamily(
            "headrace_controller_beats",
            "Renewals of the controller's lease: without more of them nothing is decided.",
            labels=["use_case"],
        )
        beats.add_metric([self._use_case], beat[1] if beat is not None else 0)
        yield beats
        exposed = CounterMetricFamily(
            "headrace_exposure_beats",
            "Renewals of the candidate's exposure: without more of them only the champion answers.",
            labels=["use_case"],
        )
        exposed.add_metric([self._use_case], self._store.exposure())
        yield exposed

    def _counter(self, name: str, text: str, label: str, counts: Mapping[str, float]) -> Metric:
        found = CounterMetricFamily(f"headrace_{name}", text, labels=["use_case", label])
        for value, count in counts.items():
            found.add_metric([self._use_case, value], count)
        return found

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        found = GaugeMetricFamily(f"headrace_{name}", text, labels=["use_case"])
        found.add_metric([self._use_case], value)
        return found


def _merged(bodies: Iterable[Mapping[str, Any]], name: str) -> Counter[str]:
    found = Counter[str]()
    for body in bodies:
        found.update(body.get(name, {}))
    return found


def _sum(bodies: Iterable[Mapping[str, Any]], name: str) -> float:
    return sum(body.get(name) or 0 for body in bodies)
