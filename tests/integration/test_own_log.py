"""The use case that README shows is one, and takes the log that README tells of."""

import re
from pathlib import Path

import pytest
from deltalake import DeltaTable

from data_contracts.lake import Lake
from data_contracts.use_case import UseCase, load_use_case
from tests.benchmarks.training_sets import import_training_set

README = Path(__file__).parents[2] / "README.md"
LOG = """id,kind,at,card,shop,payment,amount
e1,payment,2024-01-01T09:00:00Z,c1,s1,p1,10.10
e2,payment,2024-01-01T09:30:00Z,c1,s2,p2,20.20
e3,chargeback,2024-01-01T12:00:00Z,c1,s2,p2,
e4,payment,2024-01-01T13:00:00Z,c1,s2,p3,5.00
e5,payment,2024-01-02T13:00:00Z,c2,,p4,7.00
e6,chargeback,2024-01-03T13:00:00Z,c2,,p4,
e7,payment,2024-01-05T13:00:00Z,c2,,p5,7.00
e8,chargeback,2024-01-05T14:00:00Z,c2,,p5,
"""


@pytest.fixture
def use_case(tmp_path: Path) -> UseCase:
    """As somebody writes it who copies README's three blocks."""
    found = re.findall(r"`payments/([\w.]+)`[^`]*?:\n\n```\w+\n(.*?)```", README.read_text(), re.S)
    assert ["events.odcs.yaml", "importer.py", "use_case.py"] == [name for name, _ in found]
    folder = tmp_path / "payments"
    folder.mkdir()
    for name, content in found:
        (folder / name).write_text(content)
    return load_use_case(str(folder))


def test_what_readme_shows_learns_from_the_log_that_it_tells_of(
    use_case: UseCase, tmp_path: Path
) -> None:
    lake, log = Lake(tmp_path / "lake", use_case.name), tmp_path / "payments.csv"
    log.write_text(LOG)
    assert 4 == import_training_set(use_case, lake, log)
    rows = DeltaTable(str(lake.training_set)).to_pyarrow_table().sort_by("q").to_pylist()
    assert [("p1", 0), ("p2", 1), ("p3", 0), ("p4", 1)] == [
        (row["payment_id"], row["label"]) for row in rows
    ]
    third = {name: rows[2][name] for name in use_case.feature_names}
    assert (0, 2) == (third["card_payments_1h"], third["card_payments_24h"])
    assert (30.3, 20.2, 2) == tuple(third[f"card_{n}_24h"] for n in ("spent", "largest", "shops"))
    assert (1 + 0.01 * 100) / (1 + 100) == third["shop_risk_30d"]
