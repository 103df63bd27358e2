"""Reads one Parquet file with several readers: the type each gives a column, and every value as a text that Postgres can read. Prints JSON."""
import datetime
import decimal
import json
import sys

import duckdb
import pandas
import polars
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
json.dump(found, sys.stdout)
