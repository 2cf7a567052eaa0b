#!/bin/sh
# Copies database and queue, while points are written and read, into a folder that
# restore.sh makes a Cairn of again. All that was acknowledged before it began is
# in the copy.
#
# usage: backup.sh FOLDER
#
# Of a Compose deployment, run it where docker-compose.yml is, with the settings in
# the environment that it was started with. Of any other, say where things are:
#
#   DATABASE_URL   postgres://user@host/database, for psql and pg_dump
#   NATS_URL       nats://admin:PASSWORD@host:4222; the user must be admin
#
# It needs the nats CLI: NATS names one that is not in PATH. COMPOSE is how to call
# Compose, where that is not "docker compose".
#
# The order matters. A hold keeps the queue from being trimmed above the database's
# checkpoint; then the database is copied, then the queue. So the copy of the queue
# has what follows the checkpoint in the copy of the database, and the projector
# goes on from there. In the other order there would be a gap.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
folder=$1
. "$(dirname "$0")/places.sh"

# More than any copy takes; it ends by itself if this script cannot end it.
hold_hours=12

mkdir -p "$folder"
if [ -e "$folder/complete" ]; then
	echo "$folder has a backup already" >&2
	exit 1
fi
hold=backup-$(date -u +%Y%m%dT%H%M%SZ)-$$
release() { echo "delete from trim_hold where name = '$hold'" | sql >/dev/null; }
trap release EXIT
trap 'exit 1' INT TERM HUP

echo "insert into trim_hold (name, sequence, until) select '$hold', sequence, now() + interval '$hold_hours hours' from checkpoint" | sql >/dev/null
dump >"$folder/database.dump"
queue stream backup POINTS "$folder/stream" --no-progress --no-consumers
date -u +%Y-%m-%dT%H:%M:%SZ >"$folder/complete"
echo "The backup is in $folder: $(du -sh "$folder" | cut -f 1)."
