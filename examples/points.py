#!/usr/bin/env python3
"""Follow every page of points, with nothing but Python.

usage: points.py [http://localhost:8080] [name=value ...], each a parameter of GET /points
"""
import json
import sys
import urllib.parse
import urllib.request


def pages(url):
    while url:
        with urllib.request.urlopen(url, timeout=60) as answer:
            page = json.load(answer)
        yield page["features"]
        url = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)


def main():
    base = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080"
    parameters = dict(argument.split("=", 1) for argument in sys.argv[2:])
    parameters.setdefault("limit", "1000")
    count = 0
    for features in pages(f"{base}/points?{urllib.parse.urlencode(parameters)}"):
        count += len(features)
        for feature in features:
            own = feature["properties"]
            # A property of the point's own by that name wins; Cairn's is then cairn_time.
            print(feature["id"], own.get("cairn_time", own.get("time", "-")), *feature["geometry"]["coordinates"], own.get("name", ""))
    print(f"{count} points", file=sys.stderr)


if __name__ == "__main__":
    main()
