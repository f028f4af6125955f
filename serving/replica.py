"""One replica: everything a process needs to serve a use case, opened, verified, warmed, closed."""

import asyncio
import gc
import logging
import re
import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from data_contracts.clock import ReplayClock, SystemClock
from data_contracts.lake import Lake
from data_contracts.landing import COLLECTED, REPLAYED
from data_contracts.predictions import PredictionLog
from data_contracts.rollout_store import RolloutStore
from serving.admission import Admission
from serving.arms import Arms
from serving.auth import Keys, OpenAccess
from serving.choices import Choices
from serving.dimensions import DimensionReader
from serving.events import Collector
from serving.landing import LandingLog
from serving.limits import RateLimits
from serving.predict import Predictor
from serving.quotas import Quotas
from serving.server_log import ServerLog
from serving.settings import Settings
from serving.shadow import Shadow
from serving.spans import Untraced, traced
from serving.watch import Watch

_log = logging.getLogger(__name__)


@dataclass
class Replica:
    """An open replica; its bundle is verified and its golden rows have been scored."""

    name: str
    boot: str
    keys: Keys | OpenAccess
    limits: RateLimits
    admission: Admission
    """Of requests to a model."""
    collecting: Admission
    """Of requests with events."""
    predictor: Predictor
    collector: Collector
    lake: Lake
    server_log: ServerLog
    poll_s: float
    statuses: Counter[str] = field(default_factory=Counter[str], init=False)
    """Status of an answer to a request for a prediction -> how often."""
    watch: Watch | None = field(default=None, init=False)

    def status(self) -> dict[str, Any]:
        """Model, version, plan and counters since the start; JSON-ready.

        Anyone may read it: of a breaker it does not say why it is open."""
        predictor, arms = self.predictor, self.predictor.arms
        bundle, plan = arms.now.champion.bundle, arms.now.plan
        return {
            "model": bundle.name,
            "version": bundle.version,
            "bundle": bundle.digest,
            "device": arms.device,
            "replica": self.name,
            "boot": self.boot,
            "epoch": plan.epoch,
            "stage": plan.stage,
            "candidate": plan.candidate and plan.candidate.version,
            "breaker": "open" if arms.broken() else "closed",
            "predictions": predictor.answered,
            "refused": self.admission.refused,
            "prediction_log_failures": predictor.lost.total(),
            "feature_store_failures": arms.feature_failures,
            "dimension_failures": predictor.dimensions.failures,
            "rule_failures": predictor.choices.failures,
            "events_accepted": self.collector.accepted,
            "events_refused": self.collector.refused,
            "events_shed": self.collecting.refused,
            "landing_log_failures": self.collector.log_failures,
        }

    def counts(self) -> dict[str, Any]:
        """Counters of what comes before and beside the model; JSON-ready."""
        collector = self.collector
        return {
            "statuses": dict(self.statuses),
            "shed": {
                "load": self.admission.refused,
                "limit": self.limits.refused,
                "events": self.collecting.refused,
            },
            "under_way": self.admission.under_way,
            "events": {"accepted": collector.accepted, "refused": collector.refused},
            "landing_log_failures": collector.log_failures,
            "dimension_failures": self.predictor.dimensions.failures,
            "quota_failures": self.limits.quotas.failures,
        }

    def begin(self) -> None:
        """Follow the plans from now on; needs a running event loop."""
        store = RolloutStore(self.lake.rollouts, self.predictor.use_case.name)
        named = self.name, self.boot
        self.watch = Watch(self.predictor, self.counts, store, *named, self.poll_s)

    async def close(self) -> None:
        """Finish what is under way and close the logs."""
        await self.predictor.shadow.close()
        if self.watch is not None:
            await self.watch.close()
        await self.predictor.arms.close()
        await asyncio.to_thread(self.predictor.traces.close)
        await self.collector.log.close()
        self.predictor.log.close()
        self.limits.quotas.close()
        self.server_log.close()


def open_replica(settings: Settings, name: str) -> Replica:
    """A replica called `name`, ready to answer.

    Raises BundleRefused when the champion is missing or not what was registered, ValueError when
    the use case or its online store is.
    """
    lake = settings.lake()
    name = re.sub(r"[^A-Za-z0-9]+", "_", name)
    boot = secrets.token_hex(6)
    server_log = ServerLog(lake, f"{name}-{boot}")
    try:
        return _opened(settings, lake, name, boot, server_log)
    except Exception:
        _log.exception("the replica did not open")
        server_log.close()
        raise


def _opened(settings: Settings, lake: Lake, name: str, boot: str, server_log: ServerLog) -> Replica:
    use_case = settings.load()
    arms = Arms(use_case, lake, settings)
    dimensions = DimensionReader(use_case, lake)
    clock = settings.make_clock()
    log = PredictionLog(lake.prediction_log, name, boot)
    limits = RateLimits(SystemClock(), Quotas(lake.quotas, SystemClock()))
    admission = Admission(settings.max_in_flight)
    collecting = Admission(settings.max_in_flight)
    predictor = Predictor(
        use_case=use_case,
        clock=clock,
        dimensions=dimensions,
        arms=arms,
        choices=Choices(use_case),
        shadow=Shadow(use_case, log),
        log=log,
        timeout_ms=settings.timeout_ms,
        candidate_timeout_ms=settings.candidate_timeout_ms,
        alone=lambda: admission.under_way == 1,
        traces=_traces(use_case.name, name),
    )
    prefix = REPLAYED if isinstance(clock, ReplayClock) else COLLECTED
    landing = LandingLog(lake.landing, name, boot, prefix)
    collector = Collector(use_case.contract, clock, landing, settings.max_events)
    keys = Keys(lake.keys) if settings.auth else OpenAccess()
    # A full collection would walk all that was imported: 90 ms without an answer, time and again.
    gc.collect()
    gc.freeze()
    return Replica(
        name, boot, keys, limits, admission, collecting, predictor, collector, lake,
        server_log, settings.poll_s,
    )  # fmt: skip


def _traces(use_case: str, replica: str) -> Untraced:
    if not traced():
        return Untraced()
    from serving.traces import Traces

    return Traces(use_case, replica)
