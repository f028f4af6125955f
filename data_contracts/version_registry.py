"""The versions of a lake as every plane knows them: aliases, decisions, bundles, ledger's stamp.

They lie in MLflow. A plane brings its client: this package loads nothing heavy, and knows MLflow's
errors by their code.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from data_contracts.bundle import BundleRefused
from data_contracts.stages import CHAMPION

BUNDLE = "bundle"
"""Artifact path of a run under which its bundle lies."""
BUNDLE_DIGEST = "bundle_sha256"
"""Tag of a version: the digest of its bundle's manifest."""
VARIANTS = "variants"
"""Artifact path of a run under which variants of its bundle lie, each in a folder of its name."""
CONTINUED = "continued_from"
"""Tag of a run and its version: the number of the version whose weights the fit began with, or
`none`."""
_STAMP = "ledger_head"
"""Tag of a registered model: the last row of its ledger."""
_ABSENT = "RESOURCE_DOES_NOT_EXIST"


class NotRegistered(BundleRefused):
    """A version that the registry does not hold, or holds no more."""


@dataclass(frozen=True)
class Version:
    """A registered model version."""

    name: str
    version: str
    run_id: str
    digest: str
    """Digest of the bundle's manifest, to open the bundle with."""
    model: str
    verdict: str
    continued_from: str | None
    """The version whose weights its fit began with, `none`, or None where nobody noted it."""
    created: int
    """When it was registered (µs)."""


class VersionRegistry:
    """The versions of a lake. Whatever MLflow raises when it cannot be reached comes through."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def aliases(self, name: str) -> dict[str, str]:
        """Alias -> version of model `name`, read at once; empty when nothing is registered."""
        return self.standing(name)[0]

    def standing(self, name: str) -> tuple[dict[str, str], str | None]:
        """The aliases and the stamp of model `name`, in one reading."""
        found = _or_none(lambda: self._client.get_registered_model(name))
        if found is None:
            return {}, None
        aliases = {alias: str(version) for alias, version in found.aliases.items()}
        return aliases, found.tags.get(_STAMP)

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        """Point `alias` of model `name` at `version`, or delete it; only `Moves` asks."""
        if version is None:
            self._client.delete_registered_model_alias(name, alias)
        else:
            self._client.set_registered_model_alias(name, alias, version)

    def stamp(self, name: str) -> str | None:
        """What `set_stamp` wrote last; None before that."""
        return self.standing(name)[1]

    def set_stamp(self, name: str, stamp: str) -> None:
        """Write the stamp of the ledger's last row beside the model's versions."""
        self._client.set_registered_model_tag(name, _STAMP, stamp)

    def version(self, name: str, number: str) -> Version:
        """One version of model `name`; NotRegistered where there is none of that number,
        BundleRefused where its bundle has no digest."""
        found = _version(self._of(name, number))
        if not found.digest or not found.run_id:
            raise BundleRefused(
                f"{_label(name, number)}: has no tag {BUNDLE_DIGEST} or no run: register it again"
            )
        return found

    def champion(self, name: str) -> Version | None:
        """The version under the alias `champion`, or None."""
        number = self.aliases(name).get(CHAMPION)
        return None if number is None else self.version(name, number)

    def versions(self, name: str) -> list[Version]:
        """All versions of model `name`, newest first."""
        found = self._client.search_model_versions(f"name = '{name}'")
        return [_version(each) for each in sorted(found, key=lambda v: -int(v.version))]

    def decided(self, name: str, number: str) -> Mapping[str, Any] | None:
        """The decision under which a version was registered, as `Decision.as_dict` gave it;
        NotRegistered, or BundleRefused where the tag does not hold one."""
        tags = self._of(name, number).tags
        try:
            return json.loads(tags["decision"]) if "decision" in tags else None
        except ValueError as error:
            raise BundleRefused(
                f"{_label(name, number)}: its tag decision is no JSON ({error}): register it again"
            ) from error

    def download(self, version: Version, folder: Path, variant: str | None = None) -> Path:
        """Copy a version's bundle, or a variant's, below `folder`, unverified; returns where it
        lies. BundleRefused where it is not there to be read; OSError where this machine cannot
        copy it, which MLflow's own download would tell as files that are missing."""
        run = _or_none(lambda: self._client.get_run(version.run_id))
        place = urlsplit(str(run.info.artifact_uri) if run is not None else "")
        if place.scheme != "file":
            raise BundleRefused(
                f"{_label(version.name, version.version)}: its bundle cannot be read: run "
                f"{version.run_id} has no artifacts in a folder here"
            )
        path = f"{VARIANTS}/{variant}" if variant else BUNDLE
        to = folder / path
        to.mkdir(parents=True, exist_ok=True)
        try:
            for file in sorted((Path(url2pathname(place.path)) / path).iterdir()):
                copyfile(file, to / file.name)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
            raise BundleRefused(f"its bundle cannot be read: {error}") from error
        return to

    def _of(self, name: str, number: str) -> Any:
        found = _or_none(lambda: self._client.get_model_version(name, number))
        if found is None:
            raise NotRegistered(f"{_label(name, number)}: is not registered")
        return found


def _or_none(find: Callable[[], Any]) -> Any:
    try:
        return find()
    except Exception as error:
        if _code(error) != _ABSENT:
            raise
        return None


def _code(error: Exception) -> str | None:
    """The code of an error that is MLflow's."""
    return getattr(error, "error_code", None)


def _label(name: str, number: str) -> str:
    return f"model {name} version {number}"


def _version(found: Any) -> Version:
    tags: Mapping[str, str] = found.tags
    return Version(
        name=found.name,
        version=str(found.version),
        run_id=found.run_id,
        digest=tags.get(BUNDLE_DIGEST, ""),
        model=tags.get("model", ""),
        verdict=tags.get("verdict", ""),
        continued_from=tags.get(CONTINUED),
        created=int(found.creation_timestamp) * 1_000,
    )
