"""Spark's extra jars, resolved once with the Ivy that ships inside pyspark: a JRE is enough."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyspark

from data_contracts.file_lock import locked
from spark_jobs.java import java_command

COORDINATES = (
    "io.delta:delta-spark_4.2_2.13:4.4.0",
    "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0",
)


def jar_folder(coordinates: Sequence[str] | None = None) -> Path:
    """The cache folder of exactly these coordinates; it exists once `resolve_jars` has run."""
    name = hashlib.sha256("\n".join(coordinates or COORDINATES).encode()).hexdigest()[:16]
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "headrace" / "jars" / name


def jar_paths() -> list[Path]:
    """The resolved jars; FileNotFoundError naming the mend when set-up has not run."""
    jars = sorted(jar_folder().glob("*.jar"))
    if not jars:
        raise FileNotFoundError(f"{jar_folder()}: Spark's jars are missing: run `make setup`")
    return jars


def resolve_jars(coordinates: Sequence[str] | None = None) -> Path:
    """Fetch what `coordinates` need; nothing happens when it is there already.

    Without any: Spark's own `COORDINATES`, less what pyspark ships. Raises RuntimeError with
    Ivy's last lines when Maven Central cannot be reached, FileNotFoundError when there is no Java.
    """
    target = jar_folder(coordinates)
    with locked(target.parent / "lock"):
        if target.is_dir():
            return target
        print(f"Resolving jars into {target} (about a minute, once) …", flush=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            for coordinate in coordinates or COORDINATES:
                _retrieve(coordinate, Path(work))
            shipped = set() if coordinates else _shipped()
            ready = Path(work) / "ready"
            ready.mkdir()
            for jar in sorted((Path(work) / "jars").glob("*.jar")):
                if jar.name.rsplit("-", 1)[0] not in shipped:
                    shutil.move(jar, ready / jar.name)
            ready.rename(target)
    return target


def _spark_jars() -> Path:
    return Path(pyspark.__file__).parent / "jars"


def _shipped() -> set[str]:
    """Artifact names that Spark brings itself: a second version of them would be on its path."""
    return {jar.name.rsplit("-", 1)[0] for jar in _spark_jars().glob("*.jar")}


def _retrieve(coordinate: str, work: Path) -> None:
    ivy = next(_spark_jars().glob("ivy-*.jar"))
    command = [java_command(), "-jar", str(ivy), "-cache", str(work / "cache"), "-dependency"]
    command += [*coordinate.split(":"), "-confs", "default", "-types", "jar", "bundle"]
    command += ["-retrieve", f"{work}/jars/[artifact]-[revision](-[classifier]).[ext]"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not list((work / "jars").glob("*.jar")):
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise RuntimeError(f"{coordinate}: Ivy could not resolve it from Maven Central:\n{tail}")


def main() -> None:
    """`python -m spark_jobs.jars`: resolve the jars, say why on failure."""
    try:
        resolve_jars()
    except (FileNotFoundError, RuntimeError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
