"""Spark knows every row by the key that `data_contracts.keys` gives it."""

from itertools import product

from pyspark.sql import SparkSession

from data_contracts.keys import key_of
from spark_jobs.keys import key_column

TEXTS = [None, "", " ", "u1", "1:", "12:a", "é", "e\u0301", "𝒳y", "\u200b", "a\x00b", "NULL", "-7"]
NUMBERS = [None, 0, -7, 12, 2**53]


def test_a_frame_has_the_keys_of_its_rows(spark: SparkSession) -> None:
    rows = [{"user": user, "item": item} for user, item in product(TEXTS, NUMBERS)]
    frame = spark.createDataFrame([(*row.values(),) for row in rows], "user string, item long")
    forms = [["user"], ["item"], ["user", "item"], ["item", "user"]]
    found = frame.select(*(key_column(form).alias(",".join(form)) for form in forms))
    expected = [{",".join(form): key_of(form, row) for form in forms} for row in rows]
    assert expected == [row.asDict() for row in found.collect()]
