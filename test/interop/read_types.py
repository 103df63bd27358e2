"""Reads one Parquet file with several readers: the type each gives a column, every value as a text that Postgres can read, and the values that a filter does not find. Prints JSON."""
import datetime
import decimal
import json
import sys

import duckdb
import pandas
import polars
import pyarrow
import pyarrow.compute
import pyarrow.dataset
import pyarrow.parquet


def element(value):
    text = text_of(value)
    if text is None:
        return "NULL"
    if isinstance(value, list):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def text_of(value):
    if value is None or value is pandas.NaT or value is pandas.NA:
        return None
    if isinstance(value, (bytes, bytearray)):
        return "\\x" + bytes(value).hex()
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (list, tuple)) or type(value).__name__ == "ndarray":
        return "{" + ",".join(element(list(v) if type(v).__name__ == "ndarray" else v) for v in value) + "}"
    if isinstance(value, (bool, int, float, decimal.Decimal, str)):
        return repr(value) if isinstance(value, float) else str(value)
    return str(value)


file = sys.argv[1]
found = {}

table = pyarrow.parquet.read_table(file)
found["pyarrow"] = {
    "types": {f.name: str(f.type).replace("element: ", "").replace("item: ", "") for f in table.schema},
    "values": {name: [text_of(v) for v in table.column(name).to_pylist()] for name in table.column_names},
}
frame = pandas.read_parquet(file, dtype_backend="pyarrow")
default = pandas.read_parquet(file)
found["pandas"] = {
    "types": {name: str(default[name].dtype) for name in default.columns},
    "values": {name: [text_of(v) for v in frame[name].array.__arrow_array__().to_pylist()] for name in frame.columns},
}
frame = polars.read_parquet(file)
found["polars"] = {
    "types": {name: str(dtype) for name, dtype in frame.schema.items()},
    "values": {name: [text_of(v) for v in frame[name].to_list()] for name in frame.columns},
}
connection = duckdb.connect()
connection.execute("SET TimeZone = 'UTC'")
relation = connection.sql(f"SELECT * FROM read_parquet('{file}')")
rows = relation.fetchall()
found["duckdb"] = {
    "types": dict(zip(relation.columns, [str(t) for t in relation.types])),
    "values": {name: [text_of(row[i]) for row in rows] for i, name in enumerate(relation.columns)},
}

# A filter skips what statistics and Bloom filters exclude: each must find the value that it was made from.
FILTERED = 30


def sample(column):
    """Values to look for. NaN is equal to none, for some readers."""
    if pyarrow.types.is_list(column.type):
        return []
    values = column.unique().to_pylist()
    return [value for value in values if value is not None and value == value][:FILTERED]


def lost(count):
    return [f"{name} = {value!r}" for name in table.column_names for value in sample(table.column(name)) if count(name, value, table.schema.field(name).type) == 0]


dataset = pyarrow.dataset.dataset(file)
lazy = polars.scan_parquet(file)
types = dict(zip(relation.columns, relation.types))
found["pyarrow"]["lost"] = lost(lambda name, value, kind: dataset.count_rows(filter=pyarrow.compute.field(name) == pyarrow.scalar(value, kind)))
found["polars"]["lost"] = lost(lambda name, value, kind: lazy.filter(polars.col(name) == polars.lit(value, frame.schema[name])).select(polars.len()).collect().item())
found["duckdb"]["lost"] = lost(
    lambda name, value, kind: connection.execute(f"SELECT count(*) FROM read_parquet('{file}') WHERE \"{name}\" = ?::{types[name]}", [value]).fetchone()[0]
)
found["pandas"]["lost"] = []  # pyarrow reads for it
json.dump(found, sys.stdout)
