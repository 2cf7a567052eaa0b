#!/bin/sh
# Puts the page's libraries into lib, from npm, in the versions of package-lock.json.
# Does nothing where they are there already. Needs npm, or says so.
set -eu
cd "$(dirname "$0")"

# lib/.filled is what they were taken by: it is no file that the binary holds.
cat package-lock.json fill.sh | cmp -s - lib/.filled && exit 0

if ! command -v npm >/dev/null; then
	echo "the libraries of the map page come from npm, which is not installed" >&2
	exit 1
fi
# Bounded, for a network that answers nothing: a build goes on without the map.
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error \
	--fetch-retries=1 --fetch-retry-mintimeout=2000 --fetch-timeout=60000
for file in maplibre-gl/dist/maplibre-gl-csp.js maplibre-gl/dist/maplibre-gl-csp-worker.js maplibre-gl/dist/maplibre-gl.css \
	topojson-client/dist/topojson-client.min.js world-atlas/land-50m.json; do
	cp "node_modules/$file" lib/
done
cp node_modules/maplibre-gl/LICENSE.txt lib/LICENSE-maplibre-gl.txt
cp node_modules/topojson-client/LICENSE lib/LICENSE-topojson-client.txt
cp node_modules/world-atlas/LICENSE lib/LICENSE-world-atlas.txt
rm -rf node_modules
cat package-lock.json fill.sh >lib/.filled
