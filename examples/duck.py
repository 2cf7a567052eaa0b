#!/usr/bin/env python3
"""Ask all points questions in SQL, with DuckDB: pip install duckdb

usage: duck.py [http://localhost:8080] [name=value ...], each a parameter of GET /points.parquet
"""
import sys
import tempfile
import urllib.parse
import urllib.request

import duckdb


def main():
    base = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080"
    parameters = dict(argument.split("=", 1) for argument in sys.argv[2:])
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        # One request, one snapshot: DuckDB would read the file over HTTP in pieces.
        with urllib.request.urlopen(f"{base}/points.parquet?{urllib.parse.urlencode(parameters)}", timeout=3600) as answer:
            while piece := answer.read(1 << 20):
                file.write(piece)
        file.flush()
        points = duckdb.read_parquet(file.name)
        print(duckdb.sql("select count(*) as points, min(time) as first, max(time) as last from points"))
        # Properties are JSON; the place is in bbox, and as WKB in geometry.
        print(duckdb.sql("""
            select name, count(*) as points, round(avg(bbox.xmin), 2) as longitude, round(avg(bbox.ymin), 2) as latitude,
                   max((properties->>'mag')::double) as strongest
            from points group by name order by points desc, name limit 5"""))


if __name__ == "__main__":
    main()
