# For backup.sh and restore.sh: how they reach database and queue. Sourced, never run.

nats=${NATS:-nats}
command -v "$nats" >/dev/null || {
	echo "The nats CLI is not in PATH: https://github.com/nats-io/natscli (in Cairn's source: make bin/nats; NATS=bin/nats)." >&2
	exit 1
}

if [ -n "${DATABASE_URL:-}" ]; then
	: "${NATS_URL:?must be set where DATABASE_URL is}"
	sql() { psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 "$DATABASE_URL"; }
	answers() { pg_isready --quiet --dbname "$DATABASE_URL"; }
	dump() { pg_dump --format=custom --schema=public --no-owner "$DATABASE_URL"; }
	restore() { pg_restore --exit-on-error --single-transaction --no-owner --schema=public --dbname "$DATABASE_URL"; }
else
	# Unquoted where it is used: it may be several words.
	compose=${COMPOSE:-docker compose}
	sql() { $compose exec -T postgres psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --username cairn cairn; }
	# By TCP: at the first start a server without it makes the database, and stops.
	answers() { $compose exec -T postgres pg_isready --quiet --host 127.0.0.1; }
	dump() { $compose exec -T postgres pg_dump --format=custom --schema=public --no-owner --username cairn cairn; }
	restore() { $compose exec -T postgres pg_restore --exit-on-error --single-transaction --no-owner --schema=public --username cairn --dbname cairn; }
	NATS_URL="nats://admin:$($compose run --rm -T secrets admin 2>/dev/null | tail -n 1 | tr -d '\r')@127.0.0.1:${CAIRN_NATS_PORT:-4222}"
fi
# By a variable, not an argument: the password is nobody's to see in a list of
# processes.
queue() { NATS_URL=$NATS_URL "$nats" "$@"; }
