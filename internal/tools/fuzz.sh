#!/bin/sh
# Runs every fuzz target of the packages for $FUZZTIME, one after the other.
#
# usage: fuzz.sh PACKAGES...
set -eu

GO=${GO:-go}
found=0
for package in $("$GO" list "$@"); do
	# Besides the names there is a line "ok package".
	listed=$("$GO" test -list '^Fuzz' "$package")
	for target in $(echo "$listed" | grep '^Fuzz' || true); do
		found=$((found + 1))
		echo "== $package $target"
		"$GO" test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" "$package"
	done
done
echo "ran $found fuzz targets"
