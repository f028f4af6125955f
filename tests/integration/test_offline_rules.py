"""Every offline rule in every mode, through the decision about a trained version."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from data_contracts.bundle import Manifest, open_bundle
from data_contracts.gate_rules import DEFAULTS, Mode, Rule
from data_contracts.gates import Check
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase, load_use_case
from tests.integration.sampled import training_set
from tests.training_table import write_rows
from training.batches import Rows
from training.data import read_dataset
from training.evaluate import Held
from training.promotion import decide
from training.registry import Registry
from training.train import train

NAME, ROWS = "clicks", 400
OFFLINE = [rule.check for rule in DEFAULTS if rule.stage == "offline"]


@dataclass(frozen=True)
class Judged:
    """A champion's own bundle and held-out rows, on which it is judged again."""

    use_case: UseCase
    registry: Registry
    folder: Path
    manifest: Manifest
    rows: Rows

    def checks(self, rule: Rule, a_user: int = 4) -> list[Check]:
        """By the default rules, this one changed, of users with so many rows each."""
        gates = replace(self.use_case.declared.gates, changed=(rule,))
        gates.check()
        case = replace(self.use_case, declared=replace(self.use_case.declared, gates=gates))
        constant = np.full(ROWS, 0.004)
        held = Held(np.arange(ROWS) // a_user, None, {"even": np.arange(ROWS) % 2 == 0})
        known = self.registry, self.folder, self.manifest, self.rows
        names = ("constant", "logistic")
        decided = decide(case, *known, dict.fromkeys(names, constant), held, lambda _: self.rows)
        return list(decided.checks)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    home = tmp_path_factory.mktemp("rules")
    use_case, lake = load_use_case(NAME), Lake(home / "lake", NAME)
    write_rows(use_case, lake, training_set(use_case, every=6))
    assert train(use_case, lake, model="logistic").alias == "champion"
    registry = Registry(lake)
    champion = registry.champion(NAME)
    assert champion is not None
    folder = registry.download(champion, home)
    rows = read_dataset(use_case, lake).splits["test"].take(slice(0, ROWS))
    return Judged(use_case, registry, folder, open_bundle(folder, champion.digest), rows)


@pytest.mark.parametrize("check", OFFLINE)
@pytest.mark.parametrize("mode", ["off", "dry_run"])
def test_a_rule_that_is_off_is_not_judged_and_a_dry_run_stops_nothing(
    judged: Judged, check: str, mode: Mode
) -> None:
    rule = Rule(check, "offline", mode=mode)
    found = judged.checks(rule)
    assert {each for each in OFFLINE if (each, mode) != (check, "off")} == {
        each for each in OFFLINE if any(Rule(each, "offline").covers(c.name) for c in found)
    }
    assert {(mode, False)} >= {(c.mode, c.counts) for c in found if rule.covers(c.name)}


def test_no_log_loss_or_calibration_of_few_users_passes_or_fails(judged: Judged) -> None:
    rule = Rule("better than constant", "offline", margin=1.0)
    many, few = ({c.name: c for c in judged.checks(rule, each)} for each in (4, ROWS // 2))
    assert "pass" == many["better than constant"].verdict
    for name in ("better than constant", "better than champion 1", "calibration"):
        said = few[name].verdict, few[name].value
        assert ("cannot judge", "2.0 effective users, needs 20") == said
