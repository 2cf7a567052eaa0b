# In the place of nginx.
FROM debian:trixie-slim
RUN apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends nginx && apt-get clean
