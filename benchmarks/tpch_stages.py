"""The stages of the TPC-H workload: plain functions over Polars frames, without a word about engines.

A partitioned ETL over the tables of TPC-H: orders are joined with their customers, nations and regions once, every
part of ``lineitem`` is read, enriched with that and written as Parquet again, and three of the benchmark's questions
are answered from partial answers per part: Q1 (price summary), Q3 (shipping priority), and the customers' side of Q5
(revenue by nation of a region; the condition on suppliers is left out).
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PARTS = 8
TABLES = ("lineitem", "orders", "customer", "nation", "region")
LINE_COLUMNS = (
    *("l_orderkey", "l_quantity", "l_extendedprice", "l_discount", "l_tax"),
    *("l_returnflag", "l_linestatus", "l_shipdate"),
)
AMOUNTS = ("l_quantity", "l_extendedprice", "l_discount", "l_tax")
Answers = dict[str, pl.DataFrame]


def part_path(data: Path, table: str, part: int) -> Path:
    return data / table / f"{table}.{part}.parquet"


def read_orders(data: Path, parts: Iterable[int] = range(1, PARTS + 1)) -> pl.DataFrame:
    """Every order of these parts with its customer's segment, nation and region."""
    files = [part_path(data, "orders", part) for part in parts]
    orders = pl.read_parquet(files, columns=["o_orderkey", "o_custkey", "o_orderdate", "o_shippriority"])
    customers = pl.read_parquet(data / "customer", columns=["c_custkey", "c_nationkey", "c_mktsegment"])
    nations = pl.read_parquet(data / "nation", columns=["n_nationkey", "n_name", "n_regionkey"])
    regions = pl.read_parquet(data / "region", columns=["r_regionkey", "r_name"])
    places = nations.join(regions, left_on="n_regionkey", right_on="r_regionkey").drop("n_regionkey")
    customers = customers.join(places, left_on="c_nationkey", right_on="n_nationkey").drop("c_nationkey")
    return orders.join(customers, left_on="o_custkey", right_on="c_custkey").drop("o_custkey").rechunk()


def read_lines(data: Path, part: int) -> pl.DataFrame:
    lines = pl.read_parquet(part_path(data, "lineitem", part), columns=list(LINE_COLUMNS))
    return lines.with_columns(pl.col(AMOUNTS).cast(pl.Float64)).rechunk()


def enrich(lines: pl.DataFrame, orders: pl.DataFrame) -> pl.DataFrame:
    """What each line earned, and for whom."""
    earned = pl.col("l_extendedprice") * (1 - pl.col("l_discount"))
    enriched = lines.join(orders, left_on="l_orderkey", right_on="o_orderkey")
    return enriched.with_columns(revenue=earned, charge=earned * (1 + pl.col("l_tax"))).rechunk()


def price_summary(enriched: pl.DataFrame) -> pl.DataFrame:
    """Partial answer to Q1."""
    shipped = enriched.filter(pl.col("l_shipdate") <= date(1998, 9, 2))
    sums = (*AMOUNTS, "revenue", "charge")
    return shipped.group_by("l_returnflag", "l_linestatus").agg(pl.col(sums).sum(), pl.len().alias("count"))


def shipping_priority(enriched: pl.DataFrame) -> pl.DataFrame:
    """Partial answer to Q3: all orders of an order's lines lie in one part, or in two neighbours."""
    day = date(1995, 3, 15)
    open_lines = enriched.filter(
        (pl.col("c_mktsegment") == "BUILDING") & (pl.col("o_orderdate") < day) & (pl.col("l_shipdate") > day)
    )
    return open_lines.group_by("l_orderkey", "o_orderdate", "o_shippriority").agg(pl.col("revenue").sum())


def nation_revenue(enriched: pl.DataFrame) -> pl.DataFrame:
    """Partial answer to the customers' side of Q5."""
    of_the_year = pl.col("o_orderdate").is_between(date(1994, 1, 1), date(1995, 1, 1), closed="left")
    return enriched.filter((pl.col("r_name") == "ASIA") & of_the_year).group_by("n_name").agg(pl.col("revenue").sum())


QUESTIONS = {
    "price_summary": price_summary,
    "shipping_priority": shipping_priority,
    "nation_revenue": nation_revenue,
}


def write(enriched: pl.DataFrame, path: Path) -> int:
    """Returns the number of rows written."""
    enriched.write_parquet(path, compression="lz4")
    return enriched.height


def merge(partials: Iterable[Answers]) -> Answers:
    """Whole answers from the partial ones of all parts."""
    parts = list(partials)
    together = {question: pl.concat([part[question] for part in parts]) for question in QUESTIONS}
    sums = pl.selectors.numeric().sum()
    prices = together["price_summary"].group_by("l_returnflag", "l_linestatus").agg(sums)
    orders = together["shipping_priority"].group_by("l_orderkey", "o_orderdate", "o_shippriority").agg(sums)
    nations = together["nation_revenue"].group_by("n_name").agg(sums)
    return {
        "price_summary": prices.sort("l_returnflag", "l_linestatus"),
        "shipping_priority": orders.sort(["revenue", "o_orderdate"], descending=[True, False]).head(10),
        "nation_revenue": nations.sort("revenue", descending=True),
    }
