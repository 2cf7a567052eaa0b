#!/bin/sh
# Installs the Debian packages that a make target needs and that are missing.
# Says first what it will install, and why.
#
# usage: ensure.sh run|test|docs|page|python|browser|bench|proxy|cluster|deploy
set -eu

missing=""
need() { # need PACKAGE WHY: add it to what will be installed
	missing="$missing $1"
	echo "cairn needs $1: $2"
}

optional="" without=""
want() { # want PACKAGE WHY WITHOUT: the same, but if it cannot be installed, say WITHOUT and go on
	optional="$optional $1"
	without=$3
	echo "cairn wants $1: $2"
}

# PostGIS is here if some server's extension folder has it.
has_postgis() {
	for control in /usr/share/postgresql/*/extension/postgis.control; do
		[ -e "$control" ] && return 0
	done
	command -v pg_config >/dev/null && command -v pg_ctl >/dev/null &&
		[ -e "$(pg_config --sharedir)/extension/postgis.control" ]
}

# Programs for root are out of a user's PATH.
has_sbin() { # has_sbin PROGRAM
	command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]
}

case "${1:-}" in
run)
	# With a database of the user's own, none is started here.
	if [ -z "${DATABASE_URL:-}" ] && ! has_postgis; then
		need postgresql-postgis "the points are kept in PostgreSQL with PostGIS"
	fi
	command -v npm >/dev/null || [ -e query/page/lib/.filled ] ||
		want npm "the map page's libraries come from npm" "npm could not be installed. All but the map works without it."
	;;
test)
	# Some tests start and kill a server themselves, whatever DATABASE_URL says.
	has_postgis || need postgresql-postgis "the tests run against a real PostgreSQL with PostGIS"
	command -v "${CC:-gcc}" >/dev/null || need gcc "the race detector is linked by a C compiler"
	command -v curl >/dev/null || need curl "the tests run the commands that cairn prints at its start"
	command -v locust >/dev/null || need python3-locust "the load test has a Locust file"
	command -v mosquitto_pub >/dev/null || need mosquitto-clients "a program that speaks MQTT sends to Cairn"
	command -v ogr2ogr >/dev/null || need gdal-bin "GPX and KML are compared with what GDAL reads"
	[ -e /usr/include/stdlib.h ] || need libc6-dev "the race detector needs the C library's headers"
	;;
docs)
	python3 -c 'import ensurepip, venv' 2>/dev/null || need python3-venv "the documents' site is built by a Python program"
	;;
page)
	command -v npm >/dev/null || need npm "the map page's libraries come from npm"
	;;
python)
	has_postgis || need postgresql-postgis "the downloads are of a real Cairn"
	python3 -c 'import ensurepip' 2>/dev/null || need python3-venv "pyarrow, geopandas and DuckDB are installed apart from the system"
	/usr/bin/python3 -c 'import qgis.core' 2>/dev/null || need python3-qgis "QGIS reads the points"
	;;
browser)
	has_postgis || need postgresql-postgis "the page is served by a real Cairn"
	command -v chromium >/dev/null || need chromium "the page is looked at in a real browser"
	;;
bench)
	has_postgis || need postgresql-postgis "the benchmark runs against a real PostgreSQL with PostGIS"
	command -v wrk >/dev/null || need wrk "it makes the load"
	;;
proxy)
	has_postgis || need postgresql-postgis "the roles behind the proxies need a PostgreSQL with PostGIS"
	has_sbin haproxy || need haproxy "its configuration is tested"
	has_sbin nginx || need nginx "its configuration is tested"
	;;
cluster)
	has_postgis || need postgresql-postgis "the points of the cluster are kept in PostgreSQL with PostGIS"
	has_sbin ip || need iproute2 "the nodes are in network namespaces"
	has_sbin iptables || need iptables "the nodes are cut off from each other"
	;;
deploy)
	has_sbin dockerd || need docker.io "the deployments are started for real"
	has_sbin iptables || need iptables "the Docker engine routes with it"
	docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null || need docker-compose "it starts docker-compose.yml"
	if ! command -v docker >/dev/null && apt-cache show docker-cli >/dev/null 2>&1; then
		need docker-cli "it is the engine's command line, apart since Debian 13"
	fi
	command -v systemd-analyze >/dev/null || need systemd "the service's unit is checked with it"
	has_sbin debootstrap || need debootstrap "stand-in images are made with it where no registry is in reach"
	;;
*)
	echo "usage: ensure.sh run|test|docs|page|python|browser|bench|proxy|cluster|deploy" >&2
	exit 2
	;;
esac

[ -n "$missing$optional" ] || exit 0

# cannot REASON ends the script: by failing, unless all that is missing is optional.
cannot() {
	echo "$1" >&2
	[ -z "$missing" ] || exit 1
	echo "$without"
	exit 0
}

if ! command -v apt-get >/dev/null; then
	or_else=""
	case "$missing" in *postgis*) or_else=" Or set DATABASE_URL to a PostGIS database." ;; esac
	[ "$1" = run ] || or_else=""
	cannot "There is no apt-get here to install them with. Install by hand what these Debian packages hold:$missing$optional.$or_else"
fi

as_root=""
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null || cannot "Run as root: apt-get install$missing$optional"
	as_root="sudo"
fi

# Debian makes and starts a cluster "main" with a first server. Nobody asked for
# one, so it is told not to, for this installation only.
no_main=""
case "$missing" in *postgresql*)
	if [ ! -e /etc/postgresql-common ]; then
		no_main=/etc/postgresql-common/createcluster.d/cairn.conf
		$as_root mkdir -p /etc/postgresql-common/createcluster.d
		echo "create_main_cluster = false" | $as_root tee "$no_main" >/dev/null
	fi
	;;
esac

# Nor does anyone want HAProxy, Nginx or Docker to start: the tests start theirs.
no_start=""
case "$missing" in *haproxy* | *nginx* | *docker.io*)
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		no_start=/usr/sbin/policy-rc.d
		printf '#!/bin/sh\nexit 101\n' | $as_root tee "$no_start" >/dev/null
		$as_root chmod +x "$no_start"
	fi
	;;
esac
# shellcheck disable=SC2086 # empty, or one word
trap '$as_root rm -f $no_main $no_start' EXIT

apt_install() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"; }

echo "Installing with apt-get:$missing$optional"
$as_root apt-get update -q || echo "apt-get update failed; trying with the lists that are here."
# shellcheck disable=SC2086 # one word a package
if apt_install $missing $optional; then
	exit 0
fi
[ -n "$optional" ] || exit 1
# shellcheck disable=SC2086 # one word a package
[ -z "$missing" ] || apt_install $missing
echo "$without"
