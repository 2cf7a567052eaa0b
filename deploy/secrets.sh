#!/bin/sh
# Makes the passwords of a Compose deployment, once, each where only who needs it
# can read it. What is there stays.
#
#   /secrets/postgres/password         the database's, for its own start
#   /secrets/ROLE/nats-passwords       what the role needs of the queue's users
#   /secrets/ROLE/pgpass               what it needs of the database
#   /queue/nats-passwords              all of the queue's users, for its server; and in
#                                      /queue2 and /queue3, where a cluster has them
#
# usage: secrets.sh         make what is missing
#        secrets.sh USER    show the password of a user of the queue: inspect
#                           (read-only), admin, ingest, projector, query
#
# Each role runs as a user of its own; the numbers are those of docker-compose.yml.
set -eu
umask 077

ingest=10001 projector=10002 query=10003

if [ $# -gt 0 ]; then
	exec sed -n "s/^$1 //p" /queue/nats-passwords
fi

password() { head -c 24 /dev/urandom | base64 | tr '+/' 'AB'; }

# keep FILE OWNER writes what comes in, whole or not at all.
keep() {
	mkdir -p "$(dirname "$1")"
	cat >"$1.new"
	chown "$2" "$1.new" "$(dirname "$1")"
	mv "$1.new" "$1"
}

[ -e /secrets/postgres/password ] || password | keep /secrets/postgres/password 0
if ! [ -e /queue/nats-passwords ]; then
	for user in ingest projector query inspect admin; do
		echo "$user $(password)"
	done | keep /queue/nats-passwords $ingest
fi

# What the nodes of a cluster show each other came later.
grep -q '^cluster ' /queue/nats-passwords ||
	{ cat /queue/nats-passwords; echo "cluster $(password)"; } | keep /queue/nats-passwords $ingest
for node in /queue2 /queue3; do
	[ ! -d $node ] || keep $node/nats-passwords $ingest </queue/nats-passwords
done

pgpass="*:*:*:cairn:$(cat /secrets/postgres/password)"
grep -E '^(projector|admin) ' /queue/nats-passwords | keep /secrets/projector/nats-passwords $projector
grep -E '^query ' /queue/nats-passwords | keep /secrets/query/nats-passwords $query
echo "$pgpass" | keep /secrets/projector/pgpass $projector
echo "$pgpass" | keep /secrets/query/pgpass $query
chmod 711 /secrets
chown $ingest /queue
