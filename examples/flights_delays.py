"""The CPU-heavy stage of the flights example, in plain Python: where do delays come from, and what do they cost?

- Geometry: the great circle of each route, its course, the wind along and across it at departure.
- Time: local clock times of two zones become minutes since the month began, in UTC.
- Delay propagation along each aircraft's day: an aircraft has to fly out, turn and come back before it can leave again.
  What that explains of the next departure's delay is *late aircraft*; the rest is the flight's *own* delay. Then each
  flight is asked: had you left without your own delay, how much delay of your aircraft's later flights would have
  vanished?
- Traffic: every five minutes, the great-circle distance between any two aircraft that left New York in the last half
  hour.
"""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import datetime
from itertools import combinations
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

EARTH_RADIUS_KM = 6371.0088
MINUTES_A_DAY = 1440
SERVICE_DAY_STARTS_MIN = 180  # a flight at half past midnight belongs to the evening before
SHORTEST_TURN_SHARE = 0.05  # the quickest twentieth of all turns shows what is possible
TAXI_OUT_SHARE = 0.7  # of the time between the gates that was not flown; the rest is taxi-in
TRAFFIC_EVERY_MIN = 5
TRAFFIC_WITHIN_MIN = 30
NEIGHBOUR_KM = 30.0

Columns = dict[str, list[Any]]
Vector = tuple[float, float, float]


class Route(NamedTuple):
    """Geometry of one pair of airports."""

    distance_km: float
    course_deg: float
    start: Vector
    end: Vector


class Turn(NamedTuple):
    """A departure whose aircraft had another one before it on the same day."""

    before: int  # row of the earlier departure
    needed_min: float  # between the two departures: fly out, turn, come back, turn


def study_delays(flights: Columns) -> Columns:
    """New columns for the flights of one month; None where nothing happened (a cancelled flight) or is known."""
    routes = find_routes(flights)
    times = time_columns(flights)
    return {
        **route_columns(flights, routes),
        **times,
        **delay_columns(flights, times),
        **traffic_columns(flights, times, routes),
    }


# ------------------------------------------------------------------------------------------------------------ geometry


def unit_vector(lat: float, lon: float) -> Vector:
    phi, lam = math.radians(lat), math.radians(lon)
    return math.cos(phi) * math.cos(lam), math.cos(phi) * math.sin(lam), math.sin(phi)


def great_circle(lat1: float, lon1: float, lat2: float, lon2: float) -> Route:
    """Distance by the haversine formula, and the course at departure."""
    phi1, phi2, dlon = math.radians(lat1), math.radians(lat2), math.radians(lon2 - lon1)
    half = math.sin((phi2 - phi1) / 2) ** 2 + math.cos(phi1) * math.cos(phi2) * math.sin(dlon / 2) ** 2
    east = math.sin(dlon) * math.cos(phi2)
    north = math.cos(phi1) * math.sin(phi2) - math.sin(phi1) * math.cos(phi2) * math.cos(dlon)
    distance_km = 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(half))
    course_deg = math.degrees(math.atan2(east, north)) % 360
    return Route(distance_km, course_deg, unit_vector(lat1, lon1), unit_vector(lat2, lon2))


def find_routes(flights: Columns) -> list[Route]:
    """The route of each flight; each pair of airports is computed once."""
    known: dict[tuple[str, str], Route] = {}
    routes = []
    names = ("origin_lat", "origin_lon", "dest_lat", "dest_lon")
    places = zip(*(flights[name] for name in names), strict=True)
    for pair, place in zip(zip(flights["origin"], flights["dest"], strict=True), places, strict=True):
        route = known.get(pair)
        if route is None:
            route = known[pair] = great_circle(*place)
        routes.append(route)
    return routes


def route_columns(flights: Columns, routes: list[Route]) -> Columns:
    head: list[float | None] = []
    cross: list[float | None] = []
    for route, wind_dir, wind_kmh in zip(routes, flights["wind_dir"], flights["wind_kmh"], strict=True):
        if wind_dir is None or wind_kmh is None:
            head.append(None)
            cross.append(None)
        else:
            angle = math.radians(wind_dir - route.course_deg)
            head.append(wind_kmh * math.cos(angle))
            cross.append(wind_kmh * math.sin(angle))
    speed = [
        None if air_min is None else route.distance_km / air_min * 60
        for route, air_min in zip(routes, flights["air_time"], strict=True)
    ]
    return {
        "great_circle_km": [route.distance_km for route in routes],
        "course_deg": [route.course_deg for route in routes],
        "headwind_kmh": head,
        "crosswind_kmh": cross,
        "ground_speed_kmh": speed,
    }


# --------------------------------------------------------------------------------------------------------------- times


class UtcOffsets:
    """Minutes east of UTC of a zone on a day, looked up once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int, int], int] = {}

    def at(self, zone: str, year: int, month: int, day: int) -> int:
        key = (zone, year, month, day)
        offset = self._known.get(key)
        if offset is None:
            delta = datetime(year, month, day, 12, tzinfo=ZoneInfo(zone)).utcoffset()
            assert delta is not None
            offset = self._known[key] = int(delta.total_seconds()) // 60
        return offset


def clock_minutes(hhmm: int) -> int:
    """517 is 05:17; 2400 is midnight."""
    return hhmm // 100 * 60 + hhmm % 100


def time_columns(flights: Columns) -> Columns:
    """Local clock times of two zones become minutes since the month began, in UTC, and a planned block time."""
    clock = UtcOffsets()
    blocks, scheduled, departed, arrived = [], [], [], []
    plan = zip(
        *(flights[name] for name in ("year", "month", "day", "sched_dep_time", "sched_arr_time")),
        *(flights[name] for name in ("origin_tz", "dest_tz", "dep_delay", "arr_delay")),
        strict=True,
    )
    for year, month, day, dep, arr, origin_tz, dest_tz, dep_delay, arr_delay in plan:
        west = clock.at(origin_tz, year, month, day)
        leave = (day - 1) * MINUTES_A_DAY + clock_minutes(dep) - west
        land = clock_minutes(arr) - clock.at(dest_tz, year, month, day)
        block = (land - (clock_minutes(dep) - west)) % MINUTES_A_DAY
        blocks.append(block)
        scheduled.append(leave)
        departed.append(None if dep_delay is None else leave + dep_delay)
        arrived.append(None if arr_delay is None else leave + block + arr_delay)
    made_up = [
        None if late is None or arr is None else late - arr
        for late, arr in zip(flights["dep_delay"], flights["arr_delay"], strict=True)
    ]
    return {
        "sched_dep_min": scheduled,
        "dep_min": departed,
        "arr_min": arrived,
        "block_min": blocks,
        "made_up_min": made_up,
    }


# -------------------------------------------------------------------------------------------------------------- delays


def delay_columns(flights: Columns, times: Columns) -> Columns:
    """Each departure's delay split by cause, and what its own part cost the later flights of its aircraft."""
    departed = times["dep_min"]
    rows = sorted((row for row, at in enumerate(departed) if at is not None), key=lambda row: (departed[row], row))
    turns = find_turns(flights, times, rows)
    following = {turn.before: row for row, turn in turns.items()}
    result: Columns = {
        name: [None] * len(departed)
        for name in ("leg_of_day", "late_aircraft_min", "own_min", "knock_on_min", "knock_on_flights")
    }
    for row in rows:
        ready = earliest = times["sched_dep_min"][row]
        turn = turns.get(row)
        if turn is not None:
            ready = max(earliest, departed[turn.before] + turn.needed_min)
        result["leg_of_day"][row] = 1 if turn is None else result["leg_of_day"][turn.before] + 1
        result["late_aircraft_min"][row] = ready - earliest
        result["own_min"][row] = departed[row] - ready
    for row in rows:
        knock_on = follow_up(row, times, result["own_min"], turns, following)
        result["knock_on_min"][row], result["knock_on_flights"][row] = knock_on
    return result


def find_turns(flights: Columns, times: Columns, rows: list[int]) -> dict[int, Turn]:
    """For each later leg of an aircraft's day: what it had to wait for."""
    departed, arrived, dests = times["dep_min"], times["arr_min"], flights["dest"]
    pairs = []
    last_of: dict[tuple[str, int], int] = {}
    away: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        tail = flights["tailnum"][row]
        if tail is None:
            continue
        planned = (flights["day"][row] - 1) * MINUTES_A_DAY + clock_minutes(flights["sched_dep_time"][row])
        service_day = (planned - SERVICE_DAY_STARTS_MIN) // MINUTES_A_DAY
        before = last_of.get((tail, service_day))
        last_of[tail, service_day] = row
        if before is None or arrived[before] is None:
            continue
        away_min = departed[row] - arrived[before]
        if away_min > 0:  # else the record is wrong: it left before it had arrived
            pairs.append((row, before))
            away[dests[before]].append(away_min)
    shortest = {dest: low_quantile(minutes, SHORTEST_TURN_SHARE) for dest, minutes in away.items()}
    turns = {}
    for row, before in pairs:
        needed_min = arrived[before] - departed[before] + shortest[dests[before]]
        # What happened beats the estimate: nobody leaves before the aircraft is there.
        turns[row] = Turn(before, min(needed_min, departed[row] - departed[before]))
    return turns


def low_quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * len(values))]


def follow_up(
    row: int, times: Columns, own_min: list[float], turns: dict[int, Turn], following: dict[int, int]
) -> tuple[float, int]:
    """Minutes and flights of later delay that this flight's own delay caused along its aircraft's day."""
    gained = own_min[row]
    saved, count = 0.0, 0
    while gained > 0 and row in following:
        earlier_departure = times["dep_min"][row] - gained
        row = following[row]
        ready = max(times["sched_dep_min"][row], earlier_departure + turns[row].needed_min)
        gained = times["dep_min"][row] - own_min[row] - ready
        if gained > 0:
            saved += gained
            count += 1
    return saved, count


# ------------------------------------------------------------------------------------------------------------- traffic


def traffic_columns(flights: Columns, times: Columns, routes: list[Route]) -> Columns:
    """How near each aircraft came to another one that had just left New York, and how many came within 30 km."""
    count = len(routes)
    nearest = [-1.0] * count  # cosine of the angle between the two: comparing needs no arc cosine
    nearest_row = [-1] * count
    near: list[int | None] = [None] * count
    close = math.cos(NEIGHBOUR_KM / EARTH_RADIUS_KM)
    instants = positions_by_instant(flights, times, routes)
    for present in instants.values():
        for row, *_ in present:
            near[row] = near[row] or 0
        for (row, x, y, z), (other, x2, y2, z2) in combinations(present, 2):
            cosine = x * x2 + y * y2 + z * z2
            if cosine > nearest[row]:
                nearest[row], nearest_row[row] = cosine, other
            if cosine > nearest[other]:
                nearest[other], nearest_row[other] = cosine, row
            if cosine > close:
                near[row] = (near[row] or 0) + 1
                near[other] = (near[other] or 0) + 1
    carrier, number = flights["carrier"], flights["flight"]
    return {
        "nearest_km": [EARTH_RADIUS_KM * math.acos(min(1.0, at)) if at > -1 else None for at in nearest],
        "nearest_flight": [None if row < 0 else f"{carrier[row]}{number[row]}" for row in nearest_row],
        "near_encounters": near,
    }


def positions_by_instant(
    flights: Columns, times: Columns, routes: list[Route]
) -> dict[int, list[tuple[int, float, float, float]]]:
    """Every five minutes: who is in the air since half an hour or less, and where (a point on the unit sphere)."""
    by_instant: dict[int, list[tuple[int, float, float, float]]] = defaultdict(list)
    flown = zip(times["dep_min"], times["arr_min"], flights["air_time"], routes, strict=True)
    for row, (departed, arrived, air_min, route) in enumerate(flown):
        if arrived is None or air_min is None:
            continue
        take_off = departed + TAXI_OUT_SHARE * max(0, arrived - departed - air_min)
        angle = route.distance_km / EARTH_RADIUS_KM
        (ax, ay, az), (bx, by, bz), scale = route.start, route.end, math.sin(angle)
        first = math.ceil(take_off / TRAFFIC_EVERY_MIN)
        last = int((take_off + min(air_min, TRAFFIC_WITHIN_MIN)) // TRAFFIC_EVERY_MIN)
        for instant in range(first, last + 1):
            share = (instant * TRAFFIC_EVERY_MIN - take_off) / air_min
            a, b = math.sin((1 - share) * angle) / scale, math.sin(share * angle) / scale
            by_instant[instant].append((row, a * ax + b * bx, a * ay + b * by, a * az + b * bz))
    return by_instant
