#!/bin/sh
# The first start makes the database, with a server that listens on no port; then
# the command runs as the user postgres.
set -eu
[ "$1" = postgres ] || exec "$@"
as() { setpriv --reuid postgres --regid postgres --init-groups "$@"; }
mkdir -p "$PGDATA" /run/postgresql
chown postgres:postgres "$PGDATA" /run/postgresql
chmod 700 "$PGDATA"
if ! [ -s "$PGDATA/PG_VERSION" ]; then
	cp "$POSTGRES_PASSWORD_FILE" /tmp/password
	chown postgres /tmp/password
	as initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-host=scram-sha-256 --auth-local=trust >/dev/null
	rm /tmp/password
	echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
	echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
	as pg_ctl -w -o "-c listen_addresses=''" start
	as createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
	as pg_ctl -w stop
fi
exec setpriv --reuid postgres --regid postgres --init-groups "$@"
