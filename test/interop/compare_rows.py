"""Runs in the document's section on open days, behind its blocks: DuckDB's views, pandas_rows and polars_rows of every table against what was written. Prints one line for each table."""
import shutil
import tempfile

import duckdb as checker


def as_texts(connection, table, source):
    """The rows of a source as texts; a value that no typed column holds is the text that Postgres printed."""
    types = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {table}").fetchall() if not name.startswith("_")}
    has_text = "_text" in [column[0] for column in connection.execute(f"DESCRIBE {source}").fetchall()]
    kept = (lambda name: f", _text ->> '{name}'") if has_text else (lambda name: f', "{name}"::VARCHAR')
    columns = [f"""coalesce(TRY_CAST("{name}" AS {kind})::VARCHAR{kept(name)}) AS "{name}" """ for name, kind in types.items()]
    return f"SELECT {', '.join(columns)} FROM {source}"


def differences(table, deletes):
    connection = checker.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(open("archive.sql").read())
    connection.register("from_pandas", pa.Table.from_pandas(pandas_rows("archived_data", table, deletes), preserve_index=False))
    connection.register("from_polars", polars_rows("archived_data", table, deletes).to_arrow())
    connection.execute(f"CREATE VIEW written AS FROM read_csv('written-{table}.csv', all_varchar = true, header = true, nullstr = '', allow_quoted_nulls = false)")
    written = as_texts(connection, table, "written")
    for source in (table, "from_pandas", "from_polars"):
        found = as_texts(connection, table, source)
        (missing,) = connection.execute(f"SELECT count(*) FROM ({written} EXCEPT ALL {found})").fetchone()
        (others,) = connection.execute(f"SELECT count(*) FROM ({found} EXCEPT ALL {written})").fetchone()
        if missing or others:
            yield f"{missing} rows of {table} are missing in {source}, {others} should not be there"
    (rows,) = connection.execute("SELECT count(*) FROM written").fetchone()
    if rows == 0:
        yield f"nothing was written to {table}"


def wrong_manifests():
    """The files that live() finds at every manifest there was, against the whole chain played from the first."""
    files = {}
    with tempfile.TemporaryDirectory() as copy:
        folder = Path(copy, "_tidemark/manifest")
        folder.mkdir(parents=True)
        for source in sorted(Path("archived_data/_tidemark/manifest").glob("*.json")):
            shutil.copy(source, folder)
            manifest = json.loads(source.read_bytes())
            for file in manifest["drop"]:
                del files[file]
            files.update((entry["file"], entry) for entry in manifest["add"])
            if all(entry["table"] != "prices" for entry in files.values()):
                continue  # its key is known with its first row
            found, _ = live(copy, "prices")
            seen = {str(path.relative_to(copy)) for paths in found.values() for path, _ in paths}
            if seen != {file for file, entry in files.items() if entry["table"] == "prices" and entry["pendingCopy"] is None and entry["kind"] in found}:
                yield f"live() finds other files than manifest {manifest['number']} has"


for difference in wrong_manifests():
    print(difference)
for name, how in TABLES.items():
    for difference in differences(name, how):
        print(difference)
print(f"{len(TABLES)} tables compared")
