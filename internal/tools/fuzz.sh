#!/bin/sh
# Runs every fuzz target of the packages for $FUZZTIME, one after the other.
#
# usage: fuzz.sh PACKAGES...
set -eu

GO=${GO:-go}
said=$(mktemp)
trap 'rm -f "$said"' EXIT

run() { # run PACKAGE TARGET
	ended=0
	"$GO" test -run '^$' -fuzz "^$2\$" -fuzztime "${FUZZTIME:-10s}" "$1" >"$said" 2>&1 || ended=$?
	cat "$said"
	return $ended
}

# Before Go 1.27 a run that found nothing can end with "context deadline exceeded",
# where its end and a worker's coincide (go.dev/issue/75804). A finding writes its input.
found_nothing() {
	grep -q '^    context deadline exceeded$' "$said" && ! grep -qE 'Failing input written|panic:|_test\.go:' "$said"
}

found=0
for package in $("$GO" list "$@"); do
	# Besides the names there is a line "ok package".
	listed=$("$GO" test -list '^Fuzz' "$package")
	for target in $(echo "$listed" | grep '^Fuzz' || true); do
		found=$((found + 1))
		echo "== $package $target"
		run "$package" "$target" && continue
		found_nothing || exit 1
		echo "once more"
		run "$package" "$target"
	done
done
echo "ran $found fuzz targets"
