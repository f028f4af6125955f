"""The bundles that a replica serves: fetched once, kept by digest, verified whenever opened."""

import logging
import os
import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from data_contracts.bundle import GRAPH, BundleRefused, Manifest, open_bundle
from data_contracts.clearance import clear
from data_contracts.declared_inputs import inputs_of
from data_contracts.lake import Lake
from data_contracts.ledger import stands
from data_contracts.rollout import Target
from data_contracts.stages import CHAMPION, MoveRefused
from data_contracts.use_case import UseCase
from serving.registry import Registry

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bundle:
    """A verified bundle of one registered version."""

    name: str
    version: str
    digest: str
    """The digest under which the version is registered."""
    manifest: Manifest
    folder: Path

    @property
    def graph(self) -> Path:
        return self.folder / GRAPH


def registered_champion(use_case: UseCase, lake: Lake) -> Target:
    """The version under the alias `champion`; BundleRefused where there is none."""
    registry = Registry(lake)
    champion = registry.champion(use_case.name)
    if champion is None:
        raise BundleRefused(
            f"model {use_case.name}: no version has the alias {CHAMPION}: "
            f"{_why_none(registry, use_case)}"
        )
    return Target(champion.version, champion.digest)


def _why_none(registry: Registry, use_case: UseCase) -> str:
    """What keeps the newest version from being the champion, and the mend."""
    versions = registry.versions(use_case.name)
    if not versions:
        return "run `headrace train`"
    newest, own = versions[0].version, versions[0].digest
    promote = f"`headrace models promote {newest} --to {CHAMPION}`"
    decided = registry.decided(use_case.name, newest)
    if decided is not None and not stands(decided, own):
        decided = None
    try:
        clear(use_case.declared, newest, CHAMPION, None, decided, own)
    except MoveRefused as refused:
        return f"{refused} ({promote} with --by and --reason)"
    return f"version {newest} passed its gates: run {promote}"


def load(use_case: UseCase, lake: Lake, target: Target) -> Bundle:
    """The bundle of a version, verified; from the registry unless it was fetched before.

    Raises BundleRefused naming what is missing or differs: a member that is not what was
    registered, other inputs or another contract.
    """
    label = f"model {use_case.name} version {target.version}"
    try:
        if not re.fullmatch("[0-9a-f]{64}", target.digest):
            raise BundleRefused(f"its digest {target.digest!r} is no sha256: register it again")
        manifest = _kept(use_case, lake, target)
        check_definitions(use_case, manifest)
    except BundleRefused as error:
        raise BundleRefused(f"{label}: {error}") from error
    folder = lake.bundles / target.digest
    return Bundle(use_case.name, target.version, target.digest, manifest, folder)


def _kept(use_case: UseCase, lake: Lake, target: Target) -> Manifest:
    """The manifest of the copy that is kept; a copy that was damaged is fetched again."""
    folder = lake.bundles / target.digest
    if folder.is_dir():
        try:
            return open_bundle(folder, target.digest)
        except BundleRefused:
            _log.exception("%s: fetching it again", folder)
            shutil.rmtree(folder)
    _fetch(use_case, lake, target, folder)
    return open_bundle(folder, target.digest)


def _fetch(use_case: UseCase, lake: Lake, target: Target, kept: Path) -> None:
    part = lake.bundles / f".{target.digest[:16]}-{secrets.token_hex(6)}"
    part.mkdir(parents=True)
    try:
        registry = Registry(lake)
        found = registry.download(registry.version(use_case.name, target.version), part)
        open_bundle(found, target.digest)
        try:
            os.rename(found, kept)
        except OSError:
            # Another replica was first; what it put there is verified like this one.
            if not kept.is_dir():
                raise
    finally:
        shutil.rmtree(part)


def check_definitions(use_case: UseCase, manifest: Manifest) -> None:
    """Raise BundleRefused unless the bundle takes the inputs that are served here.

    Its features may be of older definitions: the reader finds the views that hold them.
    """
    inputs = inputs_of(use_case)
    differences = {
        "use case": (manifest.use_case, use_case.name),
        "contract version": (manifest.contract_version, use_case.contract.version),
        "contract digest": (manifest.contract_digest, use_case.contract.digest),
        "categorical inputs": (manifest.categorical, inputs.categorical),
        "numeric inputs": (manifest.numeric, inputs.numeric),
    }
    for what, (trained, served) in differences.items():
        if trained != served:
            raise BundleRefused(
                f"{what}: trained on {trained}, serving {served}: run `headrace train`"
            )
