"""A use case: one folder of declarations from which every plane derives its part."""

import hashlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from data_contracts.batch_table import BatchTable
from data_contracts.clock import DAY, duration
from data_contracts.contract import RESERVED_KEYS, Contract, read_contract
from data_contracts.dimension import Dimension, check_dimensions
from data_contracts.encoding import HOUR_OF_DAY
from data_contracts.evaluation import Evaluation
from data_contracts.exploration import Exploration
from data_contracts.feature_rules import check_group
from data_contracts.features import FeatureGroup
from data_contracts.gate_rules import Rule, RuleInForce, check_rules, effective
from data_contracts.labels import Label
from data_contracts.model_spec import ModelSpec
from data_contracts.naming import naming
from data_contracts.policies import OffPolicy
from data_contracts.rollout import Rollout
from data_contracts.rules import FILE, Rules

CONTRACT = "events.odcs.yaml"
Canonical = Callable[[Mapping[str, Any]], Iterator[dict[str, Any]]]
"""A raw row of the source's log to its canonical events (JSON-ready dicts)."""


@dataclass(frozen=True)
class Split:
    """Shares of the training set by time: the first for training, the next for validation."""

    train: float = 0.70
    validation: float = 0.15


@dataclass(frozen=True)
class Gates:
    """What a version must show to be moved on."""

    confidence: float = 0.95
    """Of every interval: of the gates, of offline and live metrics, of the off-policy value."""
    variant_margin: float = 0.0005
    """Nats of log loss that a faster or smaller variant of a version may lose."""
    variant_ece_margin: float = 0.005
    """Expected calibration error, a probability, by which such a variant may be worse. Bins make it
    noisy: at 20 % positives 20 000 rows know it to 0.003."""
    alpha: float = 0.05
    """Share of releases without a fault in which any sequential gate may fail, at all looks."""
    max_days: float = 14.0
    """A release whose required gates would need longer is refused before it starts."""
    changed: tuple[Rule, ...] = ()
    """Rules that differ from `gate_rules.DEFAULTS`."""

    @property
    def rules(self) -> tuple[RuleInForce, ...]:
        """All rules in force."""
        return effective(self.changed)

    @property
    def max_latency_ms(self) -> float:
        """p99 of scoring 21 rows in process: the limit of the offline rule."""
        offline = (rule for rule in self.rules if rule.stage == "offline")
        return next(rule.limit for rule in offline if rule.check == "latency p99")

    def check(self) -> None:
        """Raise ValueError naming what cannot be."""
        if not (0 < self.alpha < 1 and 0 < self.confidence < 1 and self.max_days > 0):
            raise ValueError(
                f"gates: alpha {self.alpha}, confidence {self.confidence}: between 0 and 1; "
                f"max_days {self.max_days}: above 0"
            )
        for name in ("variant_margin", "variant_ece_margin"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"gates: {name} {getattr(self, name)}: must not be below 0")
        check_rules(self.changed)


@dataclass(frozen=True)
class Retrain:
    """When a model is trained again by itself."""

    cron: str = "0 3 * * *"
    drift_share: float = 0.5
    """Share of drifted inputs that makes a window drifted."""
    windows: int = 3
    """How many last windows are looked at …"""
    alarms: int = 2
    """… and how many of them must have drifted."""
    least: int = 100
    """Predictions that a window holds at least: fewer wait for those that follow."""
    cooldown: str = "1d"
    warm_start: bool = False
    """Begin with the champion's weights, where it is of the kind that is trained."""


@dataclass(frozen=True)
class Declaration:
    """What `use_case.py` of a folder assigns to `USE_CASE`."""

    groups: tuple[FeatureGroup, ...]
    label: Label
    model: ModelSpec
    start: str
    """First day of the log, `YYYY-MM-DD`: where the daily partitions begin."""
    request_field: str | None = None
    """Field that joins rows of one page; without it every row is its own request."""
    split: Split = field(default_factory=Split)
    gates: Gates = field(default_factory=Gates)
    rollout: Rollout = field(default_factory=Rollout)
    retrain: Retrain = field(default_factory=Retrain)
    evaluation: Evaluation = field(default_factory=Evaluation)
    off_policy: OffPolicy | None = None
    exploration: Exploration | None = None
    """How the order to show is drawn; without it, and without boosts, no order is told."""
    rules: Rules = field(default_factory=Rules)
    """Functions in the folder's `rules.py` that drop candidates or put them forward."""
    assumed_lag: str = ""
    """How long after its arrival an imported event would have been readable online, e.g. `5s`."""
    fresh_within: str = ""
    """How long ago, e.g. `1h`, the newest event may have arrived for Dagster to go on from the
    events; any time where it is empty, as for a log that has ended."""
    vacuum_after: str = "7d"
    """How long files that no table names any more stay for the readers that still hold them."""
    batch_tables: tuple[BatchTable, ...] = ()
    """Tables of other systems whose rows are events too."""
    dimensions: tuple[Dimension, ...] = ()
    """Tables from which an event takes fields that it does not carry."""
    log: str | None = None
    """The embedded raw log in the folder, used where none is named."""
    simulated: bool = False
    """Whether its events are made up: whatever is shown of them says so."""
    owner: str = ""
    description: str = ""


@dataclass(frozen=True)
class UseCase:
    """A loaded and checked use case; `folder` is where its declarations lie."""

    name: str
    folder: Path
    contract: Contract
    declared: Declaration

    @property
    def title(self) -> str:
        """Its name as people are shown it."""
        return f"{self.name} (simulated)" if self.declared.simulated else self.name

    @property
    def groups(self) -> tuple[FeatureGroup, ...]:
        return self.declared.groups

    @property
    def label(self) -> Label:
        return self.declared.label

    @property
    def model(self) -> ModelSpec:
        return self.declared.model

    @cached_property
    def entities(self) -> tuple[str, ...]:
        """The event fields that are keys of feature groups, each once."""
        return tuple(dict.fromkeys(name for group in self.groups for name in group.key_fields))

    @cached_property
    def identity(self) -> tuple[str, ...]:
        """The entities, but in place of a dimension's attribute its key: an attribute that a
        request was served and the one that its event was given may differ."""
        keys = {name: d.key for d in self.declared.dimensions for name in d.attributes}
        return tuple(dict.fromkeys(keys.get(name, name) for name in self.entities))

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """All features in the order in which models take them."""
        return tuple(name for group in self.groups for name in group.feature_names)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Fields a prediction row may carry: keys, categorical and numeric inputs, and the keys of
        the dimensions from which a row takes those of them that it does not carry."""
        named = [c.field for c in self.model.categorical if c.field != HOUR_OF_DAY]
        wanted = (*self.entities, *named, *(n.field for n in self.model.numeric))
        dimensions = [d.key for d in self.declared.dimensions if {*wanted} & {*d.attributes}]
        return tuple(dict.fromkeys((*wanted, *dimensions)))

    @cached_property
    def request_fields(self) -> tuple[str, ...]:
        """Fields that a request's row may carry: `inputs`, and what rules read."""
        return tuple(dict.fromkeys((*self.inputs, *self.declared.rules.reads)))

    @cached_property
    def canonical(self) -> Canonical:
        """The importer's function from a raw row to canonical events."""
        return _module(self.folder, "importer").canonical

    @cached_property
    def item_columns(self) -> tuple[int, ...]:
        """Columns of the dense inputs that describe the item, as `ModelSpec.item` declares."""
        origins = [group.name for group in self.groups for _ in group.feature_names]
        origins += [number.field for number in self.model.numeric]
        return tuple(j for j, origin in enumerate(origins) if origin in self.model.item)

    def rule(self, name: str) -> Callable[..., Any]:
        """The function of that name in the folder's `rules.py`; ValueError where there is none."""
        found = getattr(_module(self.folder, FILE), name, None)
        if not callable(found):
            raise ValueError(f"rules: {self.folder / FILE}.py has no function {name!r}: define it")
        return found

    @property
    def log(self) -> Path | None:
        """The embedded raw log, if there is one."""
        return self.folder / self.declared.log if self.declared.log else None


def load_use_case(reference: str) -> UseCase:
    """The use case called `reference`, or the one in the folder at that path.

    Raises ValueError naming what is missing or wrong and how to mend it.
    """
    home = Path(__file__).parent
    folder = Path(reference) if (Path(reference) / CONTRACT).is_file() else home / reference
    if not (folder / CONTRACT).is_file():
        known = sorted(path.parent.name for path in home.glob(f"*/{CONTRACT}"))
        raise ValueError(
            f"use case {reference!r}: no folder with an {CONTRACT}; name one of "
            f"{', '.join(known)} or give the path to such a folder"
        )
    folder = folder.resolve()
    contract = read_contract(folder / CONTRACT)
    declared = getattr(_module(folder, "use_case"), "USE_CASE", None)
    if not isinstance(declared, Declaration):
        raise ValueError(f"{folder / 'use_case.py'}: must assign a Declaration to USE_CASE")
    use_case = UseCase(folder.name, folder, contract, declared)
    with naming(f"use case {folder.name}"):
        _check(use_case)
    return use_case


def check_vacuum(after: str) -> None:
    """Raise ValueError for a time so short that a running reader may lose its files."""
    if duration(after) < 7 * DAY:
        raise ValueError(f"{after}: readers may run for days and need their files: 7d at least")


def _check(use_case: UseCase) -> None:
    contract, declared = use_case.contract, use_case.declared
    if not re.fullmatch(r"[a-z][a-z0-9_]*", use_case.name):
        raise ValueError("its folder's name must be lower-case letters, digits and _: rename it")
    if taken := sorted(RESERVED_KEYS & {*use_case.entities, *use_case.identity}):
        raise ValueError(f"entities {taken}: names of columns of predictions: rename the fields")
    for group in declared.groups:
        check_group(group, contract)
    names = [group.name for group in declared.groups]
    if not names or len(set(names)) != len(names):
        raise ValueError("needs feature groups, each with its own name")
    if len(set(use_case.feature_names)) != len(use_case.feature_names):
        raise ValueError("two features share a name: rename an aggregate, rate or group")
    tables = [table.name for table in declared.batch_tables]
    if len(set(tables)) != len(tables):
        raise ValueError(f"batch tables {sorted(tables)}: two share a name: rename one")
    for table in declared.batch_tables:
        table.check(contract)
    check_dimensions(declared.dimensions, contract)
    declared.label.check(contract)
    declared.gates.check()
    declared.rollout.check()
    if declared.rollout.unit and declared.rollout.unit not in use_case.inputs:
        raise ValueError(f"rollout: unit {declared.rollout.unit!r} is no input of the model")
    declared.evaluation.check(contract.fields, use_case.feature_names)
    if declared.exploration is not None:
        declared.exploration.check()
    declared.rules.check(contract.fields)
    for name in (*declared.rules.keep, *declared.rules.boost):
        use_case.rule(name)
    if unknown := set(use_case.inputs) - set(contract.fields):
        raise ValueError(f"inputs {sorted(unknown)} are not in the contract")
    declared.model.check(contract, names)
    if declared.request_field not in (None, *contract.fields):
        raise ValueError(f"request_field {declared.request_field!r} is not in the contract")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", declared.start):
        raise ValueError(f"start {declared.start!r} is no day like 2019-11-24")
    date.fromisoformat(declared.start)
    share = declared.split
    if not (share.train > 0 and share.validation > 0 and share.train + share.validation < 1):
        raise ValueError("split: train and validation must be above 0 and leave rows for the test")
    retrain = declared.retrain
    if not 1 <= retrain.alarms <= retrain.windows:
        raise ValueError(
            f"retrain: {retrain.alarms} alarms of {retrain.windows} windows never ring"
        )
    if retrain.least < 1:
        raise ValueError(f"retrain: least {retrain.least}: a window holds one prediction at least")
    if not 0 < retrain.drift_share <= 1:
        raise ValueError(f"retrain: drift_share {retrain.drift_share} is not above 0 and up to 1")
    if len(retrain.cron.split()) != 5 and not retrain.cron.startswith("@"):
        raise ValueError(f"retrain: cron {retrain.cron!r}: give five fields, e.g. '0 3 * * *'")
    with naming("retrain: cooldown"):
        duration(retrain.cooldown)
    with naming("assumed_lag"):
        _ = duration(declared.assumed_lag or "1s")
    with naming("fresh_within"):
        _ = duration(declared.fresh_within or "1s")
    with naming("vacuum_after"):
        check_vacuum(declared.vacuum_after)
    if declared.off_policy is not None:
        declared.off_policy.check(contract.fields, use_case.folder)
    if use_case.log is not None and not use_case.log.exists():
        raise ValueError(f"log {use_case.log} is missing")


def _module(folder: Path, name: str) -> ModuleType:
    """The Python file `name` of a use case's folder, loaded once per folder."""
    path = folder / f"{name}.py"
    if not path.is_file():
        raise ValueError(f"use case {folder.name}: {path} is missing")
    place = hashlib.blake2b(path.as_posix().encode(), digest_size=8).hexdigest()
    key = f"headrace_{name}_{place}"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, path)
        assert spec is not None and spec.loader is not None
        sys.modules[key] = module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[key]
            raise ValueError(f"{path} cannot be loaded: {error!r}") from error
    return sys.modules[key]
