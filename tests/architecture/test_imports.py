import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_importing_the_serving_app_loads_no_spark_no_orchestrator_and_no_torch() -> None:
    program = "import sys, serving.app; print(*{name.split('.')[0] for name in sys.modules})"
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set() == {"pyspark", "dagster", "torch", "pytorch_lightning"} & set(told.stdout.split())
