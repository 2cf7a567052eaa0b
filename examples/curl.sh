#!/bin/sh
# Points with curl: add, read, change, filter, download, delete.
# usage: curl.sh [http://localhost:8080]
set -eu
base=${1:-http://localhost:8080}
id="example-$$"

echo "Add a point, and wait until it can be read:"
curl -fsS -X PUT "$base/point/$id" -H 'Content-Type: application/json' -H 'Prefer: wait=10' \
	-d '{"longitude": 2.3522, "latitude": 48.8566, "name": "Paris", "properties": {"kind": "city", "visitors": 3}}'
echo

echo "Change one property, if nobody else has changed the point since:"
tag=$(curl -fsS -D - -o /dev/null "$base/points/$id" | tr -d '\r' | sed -n 's/^[Ee][Tt]ag: //p')
curl -fsS -X PATCH "$base/point/$id" -H 'Content-Type: application/merge-patch+json' -H 'Prefer: wait=10' \
	-H "If-Match: $tag" -d '{"properties": {"visitors": 4}}'
echo

echo "Ask for an area (west,south,east,north), and for a property:"
curl -fsS "$base/points?bbox=-5,42,9,51&properties.kind=city&limit=2"
echo

echo "Filter in CQL2:"
curl -fsS -G "$base/collections/points/items" --data-urlencode "filter=visitors > 3 AND S_INTERSECTS(geometry, BBOX(2,48,3,49))"
echo

echo "All of it as a table:"
curl -fsS "$base/points.csv?properties.kind=city"

echo "Delete it:"
curl -fsS -o /dev/null -w '%{http_code}\n' -X DELETE "$base/point/$id" -H 'Prefer: wait=10'
