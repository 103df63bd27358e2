"""What the script that Tidemark replaces does: SELECT into a data frame, to_parquet with snappy. Prints what it took as JSON."""
import json
import os
import resource
import sys
import time

import pandas
import sqlalchemy

url, table, file = sys.argv[1:]
engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg2://"))
began = time.monotonic()
with engine.connect() as connection:
    frame = pandas.read_sql(sqlalchemy.text(f"SELECT * FROM {table}"), connection)
frame.to_parquet(file, compression="snappy")
print(
    json.dumps(
        {
            "rows": len(frame),
            "bytes": os.path.getsize(file),
            "seconds": time.monotonic() - began,
            "peakMemory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "types": {name: str(frame[name].dtype) for name in frame.columns},
        }
    )
)
