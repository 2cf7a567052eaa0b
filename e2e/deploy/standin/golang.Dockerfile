# In the place of golang: this machine's Go, and what Cairn is built of built once,
# so that the next build is one of Cairn's own packages only.
FROM golang:bare
WORKDIR /warm
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /dev/null . && cd / && rm -rf /warm
WORKDIR /
