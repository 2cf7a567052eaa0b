# In the place of haproxy.
FROM debian:trixie-slim
RUN apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends haproxy && apt-get clean
USER haproxy
STOPSIGNAL SIGUSR1
