"""`headrace models variants` over a trained and registered bundle, its processes and all."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copytree

import pytest
import typer
from mlflow import MlflowClient
from typer.testing import CliRunner

from dagster_project.commands.models import register
from data_contracts.bundle import GRAPH, open_bundle
from data_contracts.lake import Lake
from data_contracts.use_case import UseCase, load_use_case
from data_contracts.version_registry import Version
from serving.loader import Bundle
from serving.scorer import Model
from tests.integration.sampled import training_set
from tests.training_table import write_rows
from training.chosen import Chosen
from training.data import TrainingData, read_dataset
from training.export import export_bundle
from training.fit import fit
from training.registry import Registry
from training.variants import Trials, measure_variants

DECLARED = 'Categorical("user_id", 512)'
WIDER = 'Categorical("user_id", 20_000, dim=8)'
"""A table that is most of the graph, as those of real logs are."""
FORMS = ("fp16_embeddings", "pruned_by_frequency", "int8_static", "gpu_bf16")
SMALL = Trials(FORMS, None, 1, 4, 256)


@dataclass(frozen=True)
class Registered:
    use_case: UseCase
    lake: Lake
    version: Version


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Registered:
    home = tmp_path_factory.mktemp("variants")
    folder = copytree(load_use_case("clicks").folder, home / "clicks")
    declaration = (folder / "use_case.py").read_text()
    assert DECLARED in declaration
    (folder / "use_case.py").write_text(declaration.replace(DECLARED, WIDER))
    use_case = load_use_case(str(folder))
    lake = Lake(home / "lake", use_case.name)
    write_rows(use_case, lake, training_set(use_case, every=6))
    found = Chosen(use_case.model, {"max_epochs": 1, "hidden": (48, 24), "cross_layers": 1})
    dataset, spec = read_dataset(use_case, lake), found.spec
    model = fit("dcn_v2", spec, TrainingData(dataset, spec)).model
    rows = dataset.splits["test"]
    manifest = export_bundle(
        use_case, "dcn_v2", model, rows, {}, home / "bundle", dataset.built_from, found,
        dataset.fitted_until,
    )  # fmt: skip
    registry = Registry(lake)
    client = MlflowClient(lake.mlflow_uri, lake.mlflow_uri)
    experiment = client.create_experiment(use_case.name, lake.mlflow_artifacts.as_uri())
    run = client.create_run(experiment, tags={"dataset_digest": dataset.digest})
    client.log_artifacts(run.info.run_id, str(home / "bundle"), "bundle")
    client.create_registered_model(use_case.name)
    tags = {"bundle_sha256": manifest.digest(), "model": "dcn_v2"}
    source = f"{run.info.artifact_uri}/bundle"
    client.create_model_version(use_case.name, source, run.info.run_id, tags=tags)
    return Registered(use_case, lake, registry.version(use_case.name, "1"))


def with_margin(use_case: UseCase, margin: float) -> UseCase:
    gates = replace(use_case.declared.gates, variant_margin=margin, variant_ece_margin=margin)
    return replace(use_case, declared=replace(use_case.declared, gates=gates))


def test_offered_variants_are_bundles_that_the_server_takes_until_they_are_not_offered(
    registered: Registered, tmp_path: Path
) -> None:
    use_case, lake, version = registered.use_case, registered.lake, registered.version
    found = measure_variants(with_margin(use_case, 1.0), lake, version, SMALL)
    rows = {row["name"]: row for row in found["variants"]}
    memory = ["fp16_embeddings", "pruned_by_frequency"]
    for name in memory:
        gap = rows[name]["ece"] - rows["fp32"]["ece"]
        above = rows[name]["ece_above_fp32"]
        assert gap == pytest.approx(above["value"]) and above["low"] <= above["high"] < 0.1
    assert memory == [name for name, row in rows.items() if row["offered"]]
    assert "not made: no GPU here" == rows["gpu_bf16"]["reason"]
    assert "cannot judge: fewer than three runs" == rows["int8_static"]["reason"]
    assert 4 == len(rows["int8_static"]["p99_ms"])
    assert ("fp32", True) == (found["picked"], found["same_training_set"])
    registry = Registry(lake)
    assert {name: rows[name]["digest"] for name in memory} == registry.variants(version)
    for name in memory:
        folder = registry.download(version, tmp_path / name, name)
        digest = rows[name]["digest"]
        bundle = Bundle(use_case.name, "1", digest, open_bundle(folder, digest), folder)
        assert {GRAPH, "golden.json"} == set(bundle.manifest.members)
        Model(bundle, threads=1)
    strict = replace(SMALL, names=("fp16_embeddings",), least_rows=10_000)
    again = measure_variants(use_case, lake, version, strict)
    assert "cannot judge: 1,001 held-out rows, needs 10,000" == again["variants"][1]["reason"]
    assert {"pruned_by_frequency"} == {*registry.variants(version)}


def asked(registered: Registered, *arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    register(app)
    where = ("--root", str(registered.lake.root))
    done = CliRunner().invoke(app, ["models", "variants", *arguments, *where])
    return done.exit_code, done.output


def test_the_command_prints_the_table_and_writes_it(registered: Registered) -> None:
    folder = str(registered.use_case.folder)
    code, output = asked(
        registered, "1", "--only", "int8_static", "--runs", "1", "--use-case", folder
    )
    assert 0 == code, output
    assert "int8_static: cannot judge: 1,001 held-out rows, needs 10,000" in output
    assert "p99 of 20 ms at 21 rows picks fp32" in output
    told = json.loads((registered.lake.reports / "variants.json").read_text())
    assert ["fp32", "int8_static"] == [row["name"] for row in told["variants"]]
    for row in told["variants"]:
        assert [1, 21, 64, 256] == told["sizes"]
        assert all(p50["low"] > 0 for p50 in row["p50_ms"]) and row["rss_mib"] > 10
        assert 4 == len(row["p99_ms"]) and row["bytes"] > 1000


def test_wrong_use_is_told_by_name(registered: Registered) -> None:
    code, output = asked(registered, "1", "--use-case", "clicks")
    assert (1, True) == (code, "takes other inputs (categorical)" in output), output
    folder = str(registered.use_case.folder)
    code, output = asked(registered, "1", "--use-case", folder, "--only", "int4")
    assert (1, True) == (code, "variants ['int4']: choose from int8_dynamic" in output), output
    code, output = asked(registered, "7", "--use-case", folder)
    assert (1, True) == (code, "version 7: is not registered" in output), output


@pytest.mark.full
def test_the_compiled_module_is_measured_and_never_kept(registered: Registered) -> None:
    use_case, lake, version = registered.use_case, registered.lake, registered.version
    trials = replace(SMALL, names=("aot_inductor",))
    found = measure_variants(with_margin(use_case, 1.0), lake, version, trials)
    (_, compiled) = found["variants"]
    assert not compiled["offered"] and compiled["alone"] < 1e-4
    assert abs(compiled["above_fp32"]["value"]) < 1e-6
    assert {} == Registry(lake).variants(version)
