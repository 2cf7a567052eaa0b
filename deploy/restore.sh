#!/bin/sh
# Makes database and queue of a copy by backup.sh, in an empty place.
#
# usage: restore.sh FOLDER
#
# The settings are those of backup.sh. Of Cairn only ingest may run, which has the
# queue: the projector would make a queue of its own, and a schema. With Compose:
#
#   docker compose up --detach postgres ingest
#   deploy/restore.sh FOLDER
#   docker compose up --detach
set -eu
[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
folder=$1
. "$(dirname "$0")/places.sh"

[ -e "$folder/complete" ] || { echo "$folder has no complete backup" >&2; exit 1; }
# Both may have been started just now.
tries=60
until answers && queue account info >/dev/null 2>&1; do
	tries=$((tries - 1))
	[ $tries -gt 0 ] || { echo "The database or the queue does not answer." >&2; exit 1; }
	sleep 1
done
table=$(echo "select to_regclass('points')" | sql)
if [ -n "$table" ]; then
	echo "The database is not empty: it has a table points. Restore into a new one." >&2
	exit 1
fi
if queue stream info POINTS >/dev/null 2>&1; then
	echo "The queue is not empty: it has a stream POINTS. Restore into a new one." >&2
	exit 1
fi

# The extension and the role are the server's, not the copy's.
sql <<'END'
create extension if not exists postgis;
do $$
begin
	create role cairn_reader nologin;
exception
	when duplicate_object or unique_violation or insufficient_privilege then null;
end
$$;
do $$
begin
	grant cairn_reader to current_user;
exception
	when insufficient_privilege or undefined_object then null;
end
$$;
END
restore <"$folder/database.dump"
queue stream restore "$folder/stream" --no-progress >/dev/null
# A restored stream counts as created now, and the database knows the one that it
# was fed from by its time, in microseconds. All else that the projector compares
# (the first and last message, and the id of the one at the checkpoint) is as it was,
# so a copy of another stream is still refused.
# A stream of several nodes says in its metadata when it came to be.
info=$(queue stream info POINTS --json)
for name in cairn-created created; do
	created=$(echo "$info" | sed -n 's/^ *"'$name'": "\([^"]*\)".*/\1/p' | sed 's/\(\.[0-9]\{6\}\)[0-9]*/\1/')
	[ -z "$created" ] || break
done
[ -n "$created" ] || { echo "The restored stream does not show when it was created." >&2; exit 1; }
sql <<END
update checkpoint set stream_created = '$created' where stream_created is not null;
delete from trim_hold; -- that of the backup is in the copy
END
echo "Restored the backup of $(cat "$folder/complete"). Start the other roles."
