"""The registered versions of a use case: what they are, how they compare, how they move."""

from collections.abc import Mapping
from typing import Any

from dagster_project.deployment import Deployment
from data_contracts.ledger import INTENT, Row, settled
from data_contracts.ledger_store import LedgerStore
from data_contracts.moves import Moves
from data_contracts.override import Override
from data_contracts.stages import UNSTAGED, stage_of
from data_contracts.version_registry import Version
from training.registry import Registry


def list_versions(deployment: Deployment) -> dict[str, Any]:
    """Every version, newest first, with its aliases and verdict."""
    registry, name = Registry(deployment.lake), deployment.use_case.name
    aliases = registry.aliases(name)
    return {"versions": [_summary(each, aliases) for each in registry.versions(name)]}


def show_version(deployment: Deployment, number: str) -> dict[str, Any]:
    """One version: its bundle, figures, the decision it was registered with, its moves."""
    registry, version = find_version(deployment, number)
    manifest = registry.manifest(version)
    moves = [_told(row) for row in _moves(deployment).history() if row.kind == INTENT]
    return {
        **_summary(version, registry.aliases(version.name)),
        "run_id": version.run_id,
        "continued_from": version.continued_from,
        "contract_version": manifest.contract_version,
        "features": len(manifest.features),
        "metrics": manifest.metrics.get(version.model, {}),
        "baselines": {k: v for k, v in manifest.metrics.items() if k != version.model},
        "decision": registry.decided(version.name, version.version),
        "moves": [move for move in moves if move["version"] == number],
        "slate_value": registry.slate_value(version),
    }


def compare_versions(deployment: Deployment, first: str, second: str) -> dict[str, Any]:
    """The figures of two versions side by side, each on its own test rows, and what differs."""
    registry, one = find_version(deployment, first)
    other = find_version(deployment, second)[1]
    manifests = [registry.manifest(each) for each in (one, other)]
    figures = [m.metrics.get(v.model, {}) for m, v in zip(manifests, (one, other), strict=True)]
    digests = [dict(manifest.feature_digests) for manifest in manifests]
    differ = sorted(k for k in {*digests[0], *digests[1]} if digests[0].get(k) != digests[1].get(k))
    datasets = {registry.dataset(each) for each in (one, other)}
    same = len(datasets) == 1 and "" not in datasets
    return {
        "versions": [first, second],
        "models": [one.model, other.model],
        "same_test_rows": same,
        "features_that_differ": differ,
        "metrics": {
            name: [figure.get(name) for figure in figures]
            for name in dict.fromkeys([*figures[0], *figures[1]])
        },
    }


def promote_version(
    deployment: Deployment,
    number: str,
    to: str | None,
    override: Override | None,
    seen: str | None = None,
) -> dict[str, Any]:
    """Move a version to stage `to`, or the one after its own, if it is `seen` still; without both
    of these, if it is as the ledger has it when this begins."""
    if to is None and seen is None:
        # Before MLflow is loaded, which takes seconds in which another one may move it.
        rows = LedgerStore(deployment.lake.ledger).rows(deployment.use_case.name)
        seen = (stage_of(settled(rows), number) or UNSTAGED) if rows else None
    find_version(deployment, number)
    return _told(_moves(deployment).promote(number, to, override, seen=seen))


def demote_version(deployment: Deployment, number: str, override: Override) -> dict[str, Any]:
    """Take a version from its stage."""
    find_version(deployment, number)
    return _told(_moves(deployment).demote(number, override))


def history(deployment: Deployment) -> dict[str, Any]:
    """Every move, oldest first."""
    rows = _moves(deployment).history()
    return {"moves": [_told(row) for row in rows if row.kind == INTENT]}


def verify(deployment: Deployment) -> dict[str, Any]:
    """How many rows the ledger has, what is wrong with it, and which rows are of versions that
    were deleted since, which is no fault."""
    moves = _moves(deployment)
    return {
        "rows": len(moves.history()),
        "faults": moves.verify(),
        "deleted": moves.deleted(),
    }


def _moves(deployment: Deployment) -> Moves:
    return Moves(Registry(deployment.lake), deployment.lake, deployment.use_case)


def find_version(deployment: Deployment, number: str) -> tuple[Registry, Version]:
    """The registry and a version of the use case's model; ValueError naming those there are."""
    registry, name = Registry(deployment.lake), deployment.use_case.name
    found = {each.version: each for each in registry.versions(name)}
    if number not in found:
        known = ", ".join(sorted(found, key=int)) or "none yet: run `headrace train`"
        raise ValueError(f"model {name} version {number}: is not registered; versions are {known}")
    return registry, found[number]


def _summary(version: Version, aliases: Mapping[str, str]) -> dict[str, Any]:
    return {
        "version": version.version,
        "stage": stage_of(aliases, version.version),
        "aliases": sorted(alias for alias, held in aliases.items() if held == version.version),
        "model": version.model,
        "verdict": version.verdict,
        "bundle": version.digest,
    }


def _told(row: Row) -> dict[str, Any]:
    said = row.said
    return {**row.told(), "before": said["before"], "after": said["after"]}
