"""Makes test/fixtures/old-archive: files as an hourly pandas job leaves them, of a table `odd` with a column of each kind that pandas treats in its own way.

    .cache/interop-*/bin/python test/import/make_old_files.py test/fixtures/old-archive

The rows are those of test/import/odd-rows.sql. Made with pandas 3.1.1 and pyarrow 26.0.1.
"""
import datetime
import decimal
import json
import sys
from pathlib import Path

import numpy
import pandas

D = decimal.Decimal
out = Path(sys.argv[1]) / "odds"
out.mkdir(parents=True, exist_ok=True)


def at(text):
    return pandas.Timestamp(text, tz="UTC")


def save(frame, name):
    frame.to_parquet(out / f"odd_{name}.parquet")


# As psycopg2 and read_sql give them: aware nanoseconds, Decimal objects, int64 without NULLs and float64 with, bool objects, lists, JSON as text.
first = pandas.DataFrame(
    {
        "id": [1, 2, 3],
        "at": pandas.Series([at("2026-01-11 23:59:59.999999"), at("2026-01-12 00:00:00"), at("2026-01-12 10:30:00.5")]).astype("datetime64[ns, UTC]"),
        "wall": pandas.Series([pandas.Timestamp("2026-01-11 23:59:59.123456"), pandas.NaT, pandas.Timestamp("1969-12-31 12:00:00")]).astype("datetime64[ns]"),
        "price": pandas.Series([D("141.25000000"), D("-0.00000001"), None], dtype=object),
        "loose": pandas.Series([D("12345678901234567890.123"), None, D("0.50")], dtype=object),
        "ratio": [0.1, None, -2.5e-300],
        "small": numpy.array([0.1, 1.5, -3.25], dtype="float32"),
        "qty": [1.0, None, 2147483647.0],
        "big": [9007199254740993, 0, -9223372036854775808],
        "ok": pandas.Series([True, None, False], dtype=object),
        "doc": [json.dumps({"b": 1, "aa": [1, 2.50]}), None, '"text"'],
        "raw": ['{"b":  1}', None, "[]"],
        "tags": pandas.Series([["a", 'b "c"', None], None, []], dtype=object),
        "levels": pandas.Series([[1, 2], None, [3]], dtype=object),
        "ref": ["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", None, "a0eebc999c0b4ef8bb6d6bb9bd380a12"],
        "mood": pandas.Series(["calm", None, "wild"], dtype="category"),
        "day": pandas.Series([datetime.date(2026, 1, 1), None, datetime.date(1899, 12, 31)], dtype=object),
        "clock": pandas.Series([datetime.time(10, 0, 1, 5), None, datetime.time(0)], dtype=object),
        "note": ["plain", None, "tab\tquote\" newline\nüñ🐐"],
        "code": ["007", None, " padded "],
        "payload": pandas.Series([b"\x00\xff", None, b""], dtype=object),
        "span": ["1 day 02:03:04.5", None, "3 mons"],
        "addr": ["10.0.0.1", None, "2001:db8::/32"],
    }
)
first.index = [10, 20, 30]  # what a filter leaves of a larger frame: written as __index_level_0__
save(first, "2026-01-13")

# The same job after somebody cast the numerics to float and dropped the zone; run again over two rows that it had, one of them changed since; NULLs are NaN; an index of its own.
second = pandas.DataFrame(
    {
        "id": [2, 3, 4, 5, 5],
        "at": pandas.Series(
            [pandas.Timestamp(text) for text in ("2026-01-12 00:00:00", "2026-01-12 10:30:00.5", "2026-01-12 23:59:59.999999", "2026-01-13 00:00:00", "2026-01-13 00:00:00")]
        ).astype("datetime64[ns]"),
        "price": [-0.00000001, None, 19.99, 12345678.12345678, 12345678.12345678],
        "qty": [None, 7.0, 1.0, 2.0, 2.0],
        "big": [0, -9223372036854775808, 4, 5, 5],
        "ok": [None, 0.0, 1.0, None, None],
        "note": [None, "changed since", "late", "doubled", "doubled"],
    }
)
save(second.set_index("id"), "2026-01-14")

# All texts: `df.astype(str)` of one, timestamps with an offset of another zone.
third = pandas.DataFrame(
    {
        "id": ["6", "7"],
        "at": ["2026-01-14T01:30:00+01:00", "2026-01-14 00:30:00.25"],
        "wall": ["2026-01-14 00:30:00", None],
        "price": ["1E+2", "0.1"],
        "loose": ["NaN", "1.50"],
        "ratio": ["1e300", "-inf"],
        "small": ["0.3", None],
        "qty": ["-5", None],
        "ok": ["True", "false"],
        "tags": ["{a,NULL,\"b c\"}", '["x", null]'],
        "levels": ["[1, 2]", "{}"],
        "day": ["2026-01-14", None],
        "clock": ["10:11:12", None],
        "payload": ["\\xDEAD", None],
        "note": ["texts", "texts"],
    }
)
save(third, "2026-01-15_texts")

# What cannot be carried exactly, one of each kind, and a column that the table has not.
wrong = pandas.DataFrame(
    {
        "id": [8, 9],
        "at": pandas.Series([at("2026-01-15 10:00:00.000000001"), at("2026-01-15 11:00:00")]).astype("datetime64[ns, UTC]"),
        "wall": pandas.Series([pandas.Timestamp("2026-01-15 10:00:00.000000999"), pandas.NaT]).astype("datetime64[ns]"),
        "price": [123456789012.12345678, 0.1 + 0.2],
        "loose": [0.1 + 0.2, 1.5],
        "qty": [1.5, 2.0],
        "big": [9007199254740994.0, 1.0],
        "ok": [2.0, 1.0],
        "doc": pandas.Series([{"a": 1}, {"b": "x"}], dtype=object),
        "code": [7, 8],
        "mood": ["sad", "calm"],
        "span": pandas.to_timedelta([1, 2], unit="s"),
        "extra": ["lost?", None],
    }
)
save(wrong, "2026-01-16")

# A table without a key, in which the script has a row twice.
bare = pandas.DataFrame({"at": [at("2026-01-12 10:00:00")] * 2 + [at("2026-01-12 11:00:00")], "n": [1.0, 1.0, None]})
bare.to_parquet(out / "bare_2026-01-13.parquet")
