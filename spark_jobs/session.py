"""One warm Spark session per process."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from spark_jobs.jars import jar_paths

_PATIENCE_S = 10


def spark_session(log: Path, master: str = "local[2]", memory: str = "2g") -> SparkSession:
    """The process's session with Delta, UTC and settings for few cores; loopback only.

    What the JVM prints goes to the file `log`, not to the terminal.
    """
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    settings = {
        "spark.jars": ",".join(map(str, jar_paths())),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        # INT96, Spark's default, is read back as nanoseconds, which year 1 does not have.
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        # What pandas writes by default is read as a long, which `read_rows` makes a time again.
        "spark.sql.legacy.parquet.nanosAsLong": "true",
        "spark.sql.shuffle.partitions": "2",
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.streaming.metricsEnabled": "false",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.memory": memory,
        # What a job brings to the driver is bounded where it is asked for, or the heap bounds it.
        "spark.driver.maxResultSize": "0",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraJavaOptions": (
            "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=256m "
            "-Dderby.stream.error.file=/dev/null"
        ),
        "spark.sql.warehouse.dir": f"{tempfile.gettempdir()}/headrace-warehouse-{os.getpid()}",
    }
    conf = SparkConf().setMaster(master).setAppName("headrace").setAll(list(settings.items()))
    if SparkContext._active_spark_context is None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as output:
            gateway = launch_gateway(conf, {"stdout": output, "stderr": output})
        SparkContext(conf=conf, gateway=gateway)
    session = SparkSession.builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def end_spark() -> None:
    """End this process's JVM, if it has one, and wait until it is gone.

    Work under way is cut off, as by kill -9: every table is written to survive that.
    """
    context = SparkContext._active_spark_context
    if context is None:
        return
    process = getattr(context._gateway, "proc", None)
    if process is None:
        return
    if (accumulators := context._accumulatorServer) is not None:
        accumulators.shutdown()
    process.stdin.close()
    try:
        process.wait(_PATIENCE_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
