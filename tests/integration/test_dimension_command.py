"""`headrace dimension load`: the file that a world writes, taken once, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

from dagster_project.deployment import Deployment
from dagster_project.stages.raw_log import import_raw_log
from data_contracts.lake import Lake
from data_contracts.use_case import load_use_case
from data_contracts.world.log import write_world
from data_contracts.world.parameters import Parameters
from data_contracts.world.population import Population
from spark_jobs.dimensions import newest_version, stored_rows

HEADRACE = Path(sys.executable).parent / "headrace"
PARAMETERS = Parameters(1_000, seed=1)
WORLD = load_use_case("world")
(ITEM,) = WORLD.declared.dimensions


def load(root: Path, name: str, file: Path) -> subprocess.CompletedProcess[str]:
    command = [str(HEADRACE), "dimension", "load", name, "--file", str(file), "--json"]
    command += ["--use-case", "world", "--root", str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_a_worlds_items_are_loaded_once_and_beside_its_log(tmp_path: Path) -> None:
    out, root = tmp_path / "shop", tmp_path / "root"
    write_world(PARAMETERS, out)
    lake, file = Lake(root, "world"), out / "dimensions" / "item.jsonl"
    said = load(root, "item", file)
    assert 0 == said.returncode, said.stderr
    n = PARAMETERS.items
    told = {"simulated": True, "dimension": "item", "rows": n, "added": n, "keys": n}
    assert told == json.loads(said.stdout)
    rows = {row.key: row.values for row in stored_rows(lake, ITEM, newest_version(lake, ITEM))}
    kinds = Population(PARAMETERS).category
    assert {f"i{i}": (f"c{kind}",) for i, kind in enumerate(kinds.tolist())} == rows
    import_raw_log(Deployment("world", root, log=out))
    assert 0 == newest_version(lake, ITEM)
    import_raw_log(Deployment("world", tmp_path / "other", log=out))
    assert 0 == newest_version(Lake(tmp_path / "other", "world"), ITEM)


def test_the_truth_of_a_world_is_no_part_of_what_is_imported(tmp_path: Path) -> None:
    out = tmp_path / "shop"
    write_world(PARAMETERS, out)
    import_raw_log(Deployment("world", tmp_path / "root", log=out))
    days = sorted(Lake(tmp_path / "root", "world").imported.glob("*.jsonl"))
    imported = [json.loads(line) for day in days for line in day.read_text().splitlines()]
    raw = [line for day in out.glob("*.jsonl") for line in day.read_text().splitlines()]
    assert len(raw) == len(imported)
    assert {*WORLD.contract.fields} >= {name for event in imported for name in event}
    (truth,) = (out / "truth").glob("impressions*")
    assert "p_true" in truth.read_text()


def test_an_undeclared_name_is_one_line_with_those_that_are(tmp_path: Path) -> None:
    said = load(tmp_path / "root", "items", tmp_path / "none.jsonl")
    assert (1, 1) == (said.returncode, len(said.stderr.strip().splitlines()))
    assert "dimension 'items' is not declared; declared are: item" in said.stderr
