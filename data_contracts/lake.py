"""Where everything of one use case lies under the root folder: tables, logs, stores, reports."""

from dataclasses import dataclass
from pathlib import Path

from data_contracts.kafka import KafkaTopic
from data_contracts.redis_address import RedisAddress


@dataclass(frozen=True)
class Lake:
    """Paths under `root`; shared stores at the root, the rest in the use case's folder."""

    root: Path
    use_case: str
    kafka: KafkaTopic | None = None
    """The topic that the stream takes beside the landing log."""
    redis: RedisAddress | None = None
    """Where online state lies; in a file of SQLite when None."""

    @property
    def home(self) -> Path:
        return self.root / self.use_case

    @property
    def imported(self) -> Path:
        """Canonical events of the importer, one `YYYY-MM-DD.jsonl` a day, not yet ingested."""
        return self.home / "imported"

    @property
    def batch(self) -> Path:
        """Rows of batch tables as events, JSON lines, before they land."""
        return self.home / "batch"

    @property
    def dimensions(self) -> Path:
        """Delta, one table a dimension: a row per key and time from which it holds."""
        return self.home / "dimensions"

    @property
    def landing(self) -> Path:
        """The landing log: append-only JSON-lines files, the stream's source."""
        return self.home / "landing"

    @property
    def events(self) -> Path:
        """Delta: one row per event_id, with seq and origin."""
        return self.home / "events"

    @property
    def duplicates(self) -> Path:
        """Delta: origins of records that repeat an event, with its id and seq."""
        return self.home / "duplicates"

    @property
    def quarantine(self) -> Path:
        """Delta: records that broke the contract, conflict or expired: payload, reasons, origin."""
        return self.home / "quarantine"

    @property
    def tiles(self) -> Path:
        """Delta: packed state, one row per (group, key, day)."""
        return self.home / "tiles"

    @property
    def tile_bases(self) -> Path:
        """Delta: one row per (group, key), the folded tiles of all days before its `day`."""
        return self.home / "tile_bases"

    @property
    def training_set(self) -> Path:
        """Delta: one row per mature label row, features at its query time."""
        return self.home / "training_set"

    @property
    def prediction_log(self) -> Path:
        """Framed records as the replicas append them."""
        return self.home / "prediction_log"

    @property
    def access_log(self) -> Path:
        """Lines about requests, a file per replica and boot, as the server writes them."""
        return self.home / "access_log"

    @property
    def server_log(self) -> Path:
        """Lines about what went wrong, a file per replica and boot, as the server writes them."""
        return self.home / "server_log"

    @property
    def predictions(self) -> Path:
        """Delta: one row per predicted candidate."""
        return self.home / "predictions"

    @property
    def outcomes(self) -> Path:
        """Delta: predictions joined with their matured labels."""
        return self.home / "outcomes"

    @property
    def stream(self) -> Path:
        """Checkpoint, progress, lease and write clock of the one writer."""
        return self.home / "stream"

    @property
    def online(self) -> Path:
        """The Feast repository: feature_store.yaml, registry and the local online store."""
        return self.home / "online"

    @property
    def rebuilt(self) -> Path:
        """Rebuilt states that wait for the writer to load them, one parquet file a view."""
        return self.home / "rebuilt"

    @property
    def quiet(self) -> Path:
        """Keys whose ttl has passed, until the writer has removed what is idle of them, one parquet
        file a view."""
        return self.home / "quiet"

    @property
    def online_file(self) -> Path:
        """SQLite: online state where it does not lie in Redis."""
        return (self.online / "online.db").resolve()

    @property
    def datasets(self) -> Path:
        """Label tables with their features, a folder each, where no other was named."""
        return self.home / "datasets"

    @property
    def reports(self) -> Path:
        """HTML and JSON reports of the planes."""
        return self.home / "reports"

    @property
    def keys(self) -> Path:
        """Hashed API keys."""
        return self.root / "keys.json"

    @property
    def quotas(self) -> Path:
        """SQLite: requests that keys made in a UTC day."""
        return self.root / "quotas.db"

    @property
    def mlflow_uri(self) -> str:
        """Tracking and registry URI."""
        return f"sqlite:///{(self.root / 'mlflow' / 'mlflow.db').resolve()}"

    @property
    def mlflow_lock(self) -> Path:
        """Held while MLflow's store is opened."""
        return self.root / "mlflow" / "mlflow.lock"

    @property
    def mlflow_artifacts(self) -> Path:
        return (self.root / "mlflow" / "artifacts").resolve()

    @property
    def ledger(self) -> Path:
        """SQLite: the moves of every model from stage to stage."""
        return (self.root / "mlflow" / "ledger.db").resolve()

    @property
    def rollouts(self) -> Path:
        """SQLite: plans, requests and replicas' reports of every model's rollout."""
        return (self.root / "rollouts.db").resolve()

    @property
    def bundles(self) -> Path:
        """Bundles that replicas have downloaded, by digest; verified whenever one is opened."""
        return self.root / "bundles"

    @property
    def shadow_scores(self) -> Path:
        """Delta: one row per prediction that a candidate scored a copy of."""
        return self.home / "shadow_scores"

    @property
    def dagster_home(self) -> Path:
        return (self.root / "dagster").resolve()
