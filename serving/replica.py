"""One replica: everything a process needs to serve a use case, opened, verified, warmed, closed."""

import re
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_contracts.predictions import PredictionLog
from data_contracts.views import joint_digest
from serving.auth import Keys, OpenAccess
from serving.dimensions import DimensionReader
from serving.events import Collector
from serving.features import FeatureReader
from serving.landing import LandingLog
from serving.loader import load_champion
from serving.predict import Predictor
from serving.scorer import Batcher, Model
from serving.settings import Settings


@dataclass(frozen=True)
class Replica:
    """An open replica; its bundle is verified and its golden rows have been scored."""

    name: str
    boot: str
    keys: Keys | OpenAccess
    predictor: Predictor
    collector: Collector
    folder: tempfile.TemporaryDirectory[str]

    def status(self) -> dict[str, Any]:
        """Model, version and counters since the start; JSON-ready."""
        bundle = self.predictor.model.bundle
        return {
            "model": bundle.name,
            "version": bundle.version,
            "bundle": bundle.digest,
            "replica": self.name,
            "boot": self.boot,
            "predictions": self.predictor.answered,
            "prediction_log_failures": self.predictor.log_failures,
            "feature_store_failures": self.predictor.reader.failures,
            "dimension_failures": self.predictor.dimensions.failures,
            "events_accepted": self.collector.accepted,
            "events_refused": self.collector.refused,
            "landing_log_failures": self.collector.log_failures,
        }

    async def close(self) -> None:
        """Finish what is under way and close the logs."""
        await self.predictor.batcher.close()
        await self.collector.log.close()
        self.predictor.reader.close()
        self.predictor.log.close()
        self.folder.cleanup()


def open_replica(settings: Settings, name: str) -> Replica:
    """A replica called `name`, ready to answer.

    Raises BundleRefused when the champion is missing or not what was registered, ValueError when
    the use case or its online store is.
    """
    use_case = settings.load()
    lake = settings.lake()
    folder = tempfile.TemporaryDirectory(prefix="headrace-bundle-")
    try:
        model = Model(load_champion(use_case, lake, Path(folder.name)), settings.threads)
        reader = FeatureReader(use_case, lake, model.bundle.manifest.feature_digests)
        dimensions = DimensionReader(use_case, lake)
    except BaseException:
        folder.cleanup()
        raise
    clock = settings.make_clock()
    reader.read_now([dict.fromkeys(use_case.entities)], clock.now())
    name = re.sub(r"[^A-Za-z0-9]+", "_", name)
    boot = secrets.token_hex(6)
    predictor = Predictor(
        use_case=use_case,
        clock=clock,
        reader=reader,
        dimensions=dimensions,
        model=model,
        batcher=Batcher(model),
        log=PredictionLog(lake.prediction_log, name, boot),
        timeout_ms=settings.timeout_ms,
        definitions=joint_digest(model.bundle.manifest.feature_digests),
    )
    landing = LandingLog(lake.landing, name, boot)
    collector = Collector(use_case.contract, clock, landing, settings.max_events)
    keys = Keys(lake.keys) if settings.auth else OpenAccess()
    return Replica(name, boot, keys, predictor, collector, folder)
