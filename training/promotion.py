"""Whether a new version becomes champion: its checks on a later period and against the champion."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_contracts.bundle import (
    LOGIT_TOLERANCE,
    BundleRefused,
    Manifest,
    OtherFormat,
    check_inputs,
    open_bundle,
)
from data_contracts.evidence import bootstrap, effective_users, predicted_over_observed
from data_contracts.gate_rules import BETTER, RuleInForce
from data_contracts.gates import (
    Check,
    Decision,
    better_than,
    decision,
    limit_check,
    made,
    worst_part,
)
from data_contracts.use_case import UseCase
from data_contracts.version_registry import Version
from data_contracts.views import digests_of, joint_digest
from training.batches import Rows
from training.engine import CALLS, Engine, latency_ms
from training.evaluate import Held
from training.export import verify_golden
from training.registry import Registry
from training.rivals import Incomparable

LATENCY_ROWS = 21
"""Rows of the request whose latency is limited."""


def decide(
    use_case: UseCase,
    registry: Registry,
    folder: Path,
    manifest: Manifest,
    test: Rows,
    baselines: Mapping[str, np.ndarray],
    held: Held,
    rival_rows: Callable[[Manifest], Rows],
) -> Decision:
    """Judge the bundle in `folder` by its own scores of the test rows.

    `baselines`: name -> float[n] scores of the same rows that it should beat; `held`: whose rows
    they are, and of which slices; `rival_rows`: the same rows as the champion takes them. Where it
    raises Incomparable, whether the version is better cannot be judged.
    """
    manifest = open_bundle(folder, manifest.digest())
    engine = Engine(folder)
    scores = _score(manifest, engine, test)
    request = slice(0, LATENCY_ROWS)
    _, p99_ms = latency_ms(engine, test.ids[request], test.dense[request])
    gates, labels = use_case.declared.gates, test.labels
    rules = {rule.check: rule for rule in gates.rules if rule.stage == "offline"}
    checks = [
        _definitions(use_case, manifest, rules["definitions"]),
        _golden(folder, manifest, engine, rules["golden rows"]),
        limit_check(rules["latency p99"], "latency p99", p99_ms, CALLS, " ms"),
        _calibration(rules["calibration"], labels, scores, gates.confidence, held.users),
    ]
    rivals = {f"better than {name}": each for name, each in baselines.items()}
    champion = registry.champion(use_case.name)
    reference = next(iter(baselines.values()), None)
    if champion is not None:
        name = f"{BETTER} {champion.version}"
        try:
            theirs = _champion_scores(registry, champion, rival_rows)
        except Incomparable as why:
            checks.append(_incomparable(rules[BETTER], name, len(scores), f"the champion {why}"))
        else:
            rivals[name] = reference = theirs
    for rule in rules.values():
        ours = [name for name in rivals if rule.covers(name)]
        checks += [
            better_than(rule, name, labels, scores, rivals[name], gates.confidence, held.users)
            for name in ours
        ]
        if rule.check == f"better than {manifest.model}":
            checks.append(_itself(rule, len(scores)))
    if held.parts and reference is not None:
        rule, least = rules["worst slice"], use_case.declared.evaluation.least
        judged = (labels, scores, reference, held.parts, gates.confidence, least, held.users)
        checks.append(worst_part(rule, *judged))
    asked = [rule for rule in rules.values() if champion is not None or rule.check != BETTER]
    title, beside = ("later version", champion.version) if champion else ("first version", None)
    return decision("offline", title, asked, checks, beside)


def _champion_scores(
    registry: Registry, champion: Version, rival_rows: Callable[[Manifest], Rows]
) -> np.ndarray:
    """float[n]: the champion's scores of the test rows, in its own columns and encoding."""
    with tempfile.TemporaryDirectory() as home:
        folder = registry.download(champion, Path(home))
        try:
            theirs = open_bundle(folder, champion.digest)
        except OtherFormat as other:
            raise Incomparable(f"is of an older bundle format ({other})") from other
        return _score(theirs, Engine(folder), rival_rows(theirs))


def _score(manifest: Manifest, engine: Engine, rows: Rows) -> np.ndarray:
    check_inputs(manifest, rows.ids, rows.dense)
    # All at once every layer of the graph would be as high as the split.
    return np.concatenate([engine.score(part.ids, part.dense) for part in rows.windows()])


def _definitions(use_case: UseCase, manifest: Manifest, rule: RuleInForce) -> Check:
    theirs, ours = dict(manifest.feature_digests), digests_of(use_case.groups)
    differ = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]

    def told(contract: tuple[str, str], features: dict[str, str]) -> dict[str, str | None]:
        joint = dict(zip(("contract", "contract digest"), contract, strict=True))
        joint |= {"features": joint_digest(features)}
        return joint | {name: features.get(name) for name in differ}

    evidence = {
        "found": told((manifest.contract_version, manifest.contract_digest), theirs),
        "declared": told((use_case.contract.version, use_case.contract.digest), ours),
        "n": len(ours),
        "limit": "the declared contract and the digests of the declared features",
    }
    return made(rule, "definitions", "same", evidence)


def _golden(folder: Path, manifest: Manifest, engine: Engine, rule: RuleInForce) -> Check:
    evidence: dict[str, Any] = {"limit": f"logits within {LOGIT_TOLERANCE:g}"}
    try:
        rows = verify_golden(folder, manifest, engine)
    except BundleRefused as refused:
        evidence |= {"holds": False, "value": str(refused), "n": 0}
    else:
        evidence |= {"holds": True, "value": f"{rows} rows equal", "n": rows}
    return made(rule, "golden rows", "fact", evidence)


def _calibration(
    rule: RuleInForce,
    labels: np.ndarray,
    scores: np.ndarray,
    confidence: float,
    users: np.ndarray | None,
) -> Check:
    found = bootstrap(predicted_over_observed, labels, scores, confidence, users=users)
    numbers = {"limit": rule.limit, "least": rule.least}
    counted = {"users": effective_users(len(labels), users)}
    return made(rule, rule.check, "between", {**found.as_dict(), **numbers, **counted})


def _itself(rule: RuleInForce, rows: int) -> Check:
    """Of a baseline that is the version itself."""
    return made(rule, rule.check, "itself", {"n": rows})


def _incomparable(rule: RuleInForce, name: str, rows: int, reason: str) -> Check:
    numbers = {"margin": rule.margin, "least": rule.least}
    evidence = {"of": "log loss", **numbers, "n": rows, "reason": reason}
    return made(rule, name, "difference", evidence)
