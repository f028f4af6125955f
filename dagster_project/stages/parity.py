"""Stage parity: the engines proven equal on this use case's own log and definitions."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from dagster_project.deployment import Deployment
from dagster_project.progress import reporter
from data_contracts.bundle import BundleRefused
from data_contracts.features import FeatureGroup
from data_contracts.keys import parts_of
from data_contracts.lake import Lake
from data_contracts.results import write_result
from data_contracts.use_case import UseCase
from data_contracts.views import digests_of
from serving.features import FeatureReader
from spark_jobs.imports import canonical_events
from spark_jobs.proof import Proof, RealParts, prove, read_log
from spark_jobs.spark_rehearsal import ReadFeatures
from training.code_version import code_version
from training.registry import Registry


@dataclass(frozen=True)
class ProofSize:
    """How much is to be proven."""

    schedules: int = 200
    seed: int = 0
    spark_schedules: int = 20
    """Of the schedules, how many run through Spark, Delta and Feast."""
    killed: int = 5
    """Of these, how many kill a writer by signal."""


LOOP = ProofSize(schedules=5, spark_schedules=0, killed=0)
"""What every run of the loop proves, on the first `LOOP_EVENTS` imported events."""
LOOP_EVENTS = 20_000


def prove_imported(deployment: Deployment, size: ProofSize = LOOP) -> dict[str, Any]:
    """A short proof in memory, on events as they were imported; no certificate is made of it."""
    reporter().stage(f"{size.schedules} schedules in memory")
    days = sorted(deployment.lake.imported.glob("*.jsonl"))
    lines = (line for day in days for line in day.read_text("utf-8").splitlines())
    raw = [json.loads(line) for line in islice(lines, LOOP_EVENTS)]
    use_case = deployment.use_case
    proof = prove(use_case, read_log(use_case, raw), size.schedules, size.seed)
    said = proof.certificate()
    names = ("log_events", "schedules", "engines", "compared", "mismatches", "non_default_share")
    found = {name: said[name] for name in (*names, "boundary_share", "counterexample")}
    found["holds"] = proof.holds
    write_result(deployment.lake, "proof", found)
    return found


def as_served(use_case: UseCase, lake: Lake, group: FeatureGroup) -> ReadFeatures:
    """What the server's own reader of features gives for the keys of a group."""
    reader = FeatureReader(use_case, lake, digests_of([group]))
    fields = [(name, use_case.contract.fields[name].type) for name in group.key_fields]

    def row(key: str) -> dict[str, str | int | None]:
        parts = zip(fields, parts_of(key, len(fields)), strict=True)
        return {name: int(part) if kind == "integer" else part for (name, kind), part in parts}

    def served(keys: Sequence[str], q: int) -> np.ndarray:
        found = reader.read_now([row(key) for key in keys], q)
        if found.store_failed:
            raise RuntimeError(f"{group.name}: the online store could not be read, as logged above")
        # What was read at another moment than was asked for is no value of it.
        return found.values if found.q == q else np.full_like(found.values, np.nan)

    return served


def prove_parity(deployment: Deployment, size: ProofSize) -> dict[str, Any]:
    """Run the proof, keep its certificate, which says whether it holds and of which code it is, and
    attach it to the versions in use; returns it."""
    report, use_case, code = reporter(), deployment.use_case, code_version()
    report.stage(f"read {deployment.raw_log.name}")
    rows = canonical_events(use_case, deployment.raw_log)
    log = read_log(use_case, [event for events in rows for _, event in events])
    report.stage(f"{size.schedules} schedules over {len(log.events):,} events")

    def tell(done: int) -> None:
        # A line a tenth where there is no terminal, and one when the real parts begin.
        mark = done * 10 // size.schedules > (done - 1) * 10 // size.schedules
        mark = mark or done == size.schedules - size.spark_schedules
        say = report.figures if mark else report.detail
        say(f"{done} of {size.schedules}")

    with TemporaryDirectory(prefix="headrace-parity-") as folder:
        real = None
        if size.spark_schedules:
            parts = (size.spark_schedules, size.killed)
            real = RealParts(deployment.spark, Path(folder), *parts, as_served)
        proof: Proof = prove(use_case, log, size.schedules, size.seed, real, tell)
    certificate = {**proof.certificate(), "code": code}
    write_result(deployment.lake, "parity_certificate", certificate)
    if versions := certified(deployment, certificate):
        report.figures(f"attached to version {', '.join(versions)}")
    return certificate


def certified(deployment: Deployment, certificate: Mapping[str, Any]) -> list[str]:
    """Attach a certificate that holds to the versions of its definitions that have an alias;
    returns their numbers."""
    lake, name = deployment.lake, deployment.use_case.name
    if not certificate["holds"] or not lake.mlflow_artifacts.exists():
        return []
    registry, found = Registry(lake), list[str]()
    for number in sorted({*registry.aliases(name).values()}, key=int):
        # What cannot be opened keeps the proof from no other.
        with suppress(BundleRefused):
            if registry.attach_certificate(registry.version(name, number), certificate):
                found.append(number)
    return found
