#!/bin/sh
# Starts Nginx with the configuration beside this file, and keeps the list of
# replicas up to date: Nginx before 1.27.3 asks DNS for the names of its upstreams
# only when it reads its configuration. A new list is a reload, which breaks no
# request. Settings, all from the environment:
#
#   CAIRN_LISTEN   where to listen                                 8080
#   CAIRN_INGEST   host:port of ingest, or several with spaces     ingest:8081
#                  between, as a cluster has; a host may have many addresses
#   CAIRN_QUERY    host:port of query, or several with spaces      query:8082
#                  between; a host may have many addresses
#   CAIRN_RATE     requests in a second from one address before    5000
#                  it is answered 429
#   CAIRN_TLS_PEM  file with a certificate, its chain and its key: none: HTTP only
#                  HTTPS, too
#   CAIRN_TLS_LISTEN  where to listen for HTTPS                    8443
#   CAIRN_RUN      folder for what is written                      /tmp/nginx
set -eu
here=$(cd "$(dirname "$0")" && pwd)
run=${CAIRN_RUN:-/tmp/nginx}
ingest=${CAIRN_INGEST:-ingest:8081}
query=${CAIRN_QUERY:-query:8082}
mkdir -p "$run"

# servers HOST:PORT… gives a line for each address that the hosts have now. None
# is left out for its failures: where they restart one after the other, Nginx would
# soon think that all are gone, and DNS drops those that are.
servers() {
	for each in "$@"; do
		getent ahostsv4 "${each%:*}" | cut -d ' ' -f 1 | sort -u | sed "s/.*/    server &:${each##*:} max_fails=0;/"
	done
}

# A name that has no address now is that of a service that restarts, so what was
# known last stays. Nginx wants one server at least.
nobody="    server 127.0.0.1:1 down;"
ingest_servers=$nobody
query_servers=$nobody
look() {
	# shellcheck disable=SC2086 # one word a server
	found=$(servers $ingest) && [ -n "$found" ] && ingest_servers=$found
	# shellcheck disable=SC2086
	found=$(servers $query) && [ -n "$found" ] && query_servers=$found
	:
}

settings() {
	cat <<END
limit_req_zone \$binary_remote_addr zone=client:10m rate=${CAIRN_RATE:-5000}r/s;
upstream ingest {
    zone ingest 256k;
$ingest_servers
    keepalive 256;
    keepalive_requests 100000;
    keepalive_timeout 60s; # the roles' is longer, so that it is we who close
}
upstream query {
    zone query 256k;
    least_conn;
$query_servers
    keepalive 256;
    keepalive_requests 100000;
    keepalive_timeout 60s;
}
END
}

cp "$here/nginx.conf" "$run/nginx.conf"
echo "listen ${CAIRN_LISTEN:-8080} backlog=4096;" >"$run/listen.conf"
if [ -n "${CAIRN_TLS_PEM:-}" ]; then
	cat >>"$run/listen.conf" <<END
listen ${CAIRN_TLS_LISTEN:-8443} ssl backlog=4096;
ssl_certificate "$CAIRN_TLS_PEM";
ssl_certificate_key "$CAIRN_TLS_PEM";
ssl_protocols TLSv1.2 TLSv1.3;
END
fi
look
settings >"$run/cairn.conf"

# Nginx writes the whole request beside an error. A parameter of it may be an access
# key, which no log should have.
rm -f "$run/log"
mkfifo "$run/log"
sed -u 's/\([?&]key=\)[^& ",]*/\1.../g' <"$run/log" >&2 &
nginx -p "$run" -c "$run/nginx.conf" -g 'daemon off;' 2>"$run/log" &
nginx=$!
trap 'kill -QUIT $nginx' TERM INT QUIT

while kill -0 $nginx 2>/dev/null; do
	sleep 1
	look
	settings >"$run/cairn.conf.new"
	if ! cmp -s "$run/cairn.conf.new" "$run/cairn.conf"; then
		mv "$run/cairn.conf.new" "$run/cairn.conf"
		kill -HUP $nginx
	fi
done
wait $nginx
