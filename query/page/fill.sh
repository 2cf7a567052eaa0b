#!/bin/sh
# Puts the page's libraries into lib, from npm, in the versions of package-lock.json.
set -eu
cd "$(dirname "$0")"
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
for file in maplibre-gl/dist/maplibre-gl.js maplibre-gl/dist/maplibre-gl.css maplibre-gl/LICENSE.txt \
	topojson-client/dist/topojson-client.min.js world-atlas/land-50m.json; do
	case "$file" in
	*LICENSE*) cp "node_modules/$file" "lib/LICENSE-$(echo "$file" | cut -d/ -f1).txt" ;;
	*) cp "node_modules/$file" lib/ ;;
	esac
done
cp node_modules/topojson-client/LICENSE lib/LICENSE-topojson-client.txt
cp node_modules/world-atlas/LICENSE lib/LICENSE-world-atlas.txt
rm -rf node_modules
