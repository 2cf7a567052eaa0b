"""The tutorial's load for those who use Locust; the same as "go run ./loadtest".

    locust -f loadtest/locustfile.py --headless --host http://127.0.0.1:8080

Without more options: 3 users a second up to 300, then a minute at that; each
reads the newest page twice as often as it sends a point at a random position,
and thinks 1 to 3 s in between. A share of the authors looks at once for what
they have sent, until it is there ("own write seen"). At the end every
acknowledged point, or a random sample, is looked up. The exit code is 1 if a
point is missing, a request failed, or the p95 is over the bound.

Written for Locust 2.12 (Debian: python3-locust) and later.
"""

import logging
import random
import time
import uuid
from collections import deque

import gevent
import requests
from locust import HttpUser, events, task

KINDS = ("newest", "bbox", "point", "etag")
# How long an acknowledged point may take until it can be read.
SEEN_WITHIN = 30.0
# How many of the newest points are asked for singly.
RECENT = 1024


@events.init_command_line_parser.add_listener
def add_options(parser):
    parser.set_defaults(
        host="http://127.0.0.1:8080", num_users=300, spawn_rate=3, run_time="160s"
    )
    group = parser.add_argument_group("points")
    group.add_argument("--think-min", type=float, default=1, help="seconds between two requests, at least (1)")
    group.add_argument("--think-max", type=float, default=3, help="and at most (3)")
    group.add_argument("--get-weight", type=float, default=2, help="how often is read (2)")
    group.add_argument("--post-weight", type=float, default=1, help="how often is written (1)")
    for kind, weight in zip(KINDS, (1, 0, 0, 0)):
        group.add_argument(f"--query-{kind}", type=float, default=weight, help=f"weight of this query ({weight})")
    group.add_argument("--bulk", type=float, default=0, help="share of the POSTs that send many points (0)")
    group.add_argument("--bulk-size", type=int, default=100, help="how many (100)")
    group.add_argument("--accept-encoding", default="gzip", help="the header field; empty: none (gzip)")
    group.add_argument("--follow", type=float, default=0.05, help="share of the points whose author looks for them (0.05)")
    group.add_argument("--verify", type=int, default=20000, help="how many points are looked up at the end (20000)")
    group.add_argument("--p95", type=float, default=1000, help="the p95 that is allowed, in ms (1000)")


class Points:
    """The points of the run, and a fair sample of the acknowledged ones."""

    def __init__(self, keep):
        self.run = f"locust-{uuid.uuid4().hex[:8]}"
        self.keep = keep
        self.made = 0
        self.acknowledged = 0
        self.kept = []
        self.recent = deque(maxlen=RECENT)

    def make(self):
        self.made += 1
        return {
            "longitude": round(random.uniform(-180, 180), 5),
            "latitude": round(random.uniform(-90, 90), 5),
            "name": f"{self.run}-{self.made}",
        }

    def acknowledge(self, path, point):
        self.acknowledged += 1
        if len(self.kept) < self.keep:
            self.kept.append((path, point))
        else:  # Vitter's algorithm R: each has the same chance to be kept
            i = random.randrange(self.acknowledged)
            if i < self.keep:
                self.kept[i] = (path, point)
        if path:
            self.recent.append(path)


@events.test_start.add_listener
def start(environment, **_):
    environment.points = Points(environment.parsed_options.verify)


class Visitor(HttpUser):
    def on_start(self):
        self.options = self.environment.parsed_options
        self.points = self.environment.points
        self.etag = None
        self.headers = {"Accept-Encoding": self.options.accept_encoding or None}
        self.client.headers.update({"User-Agent": "cairn-loadtest"})

    def wait_time(self):
        return random.uniform(self.options.think_min, self.options.think_max)

    @task
    def act(self):
        o = self.options
        (do,) = random.choices((self.read, self.write), (o.get_weight, o.post_weight))
        do()

    def read(self):
        weights = [getattr(self.options, "query_" + kind) for kind in KINDS]
        (kind,) = random.choices(KINDS, weights)
        if kind == "bbox":
            west, south = random.uniform(-180, 179), random.uniform(-90, 89)
            box = f"{west:.4f},{south:.4f},{west + 1:.4f},{south + 1:.4f}"
            self.client.get("/points", params={"bbox": box}, headers=self.headers, name="/points?bbox")
        elif kind == "point" and self.points.recent:
            self.client.get(random.choice(self.points.recent), headers=self.headers, name="/points/{id}")
        elif kind == "etag":
            headers = dict(self.headers, **{"If-None-Match": self.etag})
            response = self.client.get("/points", headers=headers, name="/points (ETag)")
            self.etag = response.headers.get("ETag", self.etag)
        else:
            self.client.get("/points", headers=self.headers)

    def write(self):
        if random.random() < self.options.bulk:
            self.write_many()
            return
        point = self.points.make()
        response = self.client.post("/point", json=point, headers=self.headers)
        if response.ok:
            path = response.headers.get("Location", "")
            self.points.acknowledge(path, point)
            if path and random.random() < self.options.follow:
                self.see(path)

    def write_many(self):
        many = [dict(self.points.make(), id=str(uuid.uuid4())) for _ in range(self.options.bulk_size)]
        body = "".join(requests.compat.json.dumps(point) + "\n" for point in many)
        headers = dict(self.headers, **{"Content-Type": "application/x-ndjson"})
        with self.client.post(
            "/point", data=body, headers=headers, name=f"/point ({len(many)})", catch_response=True
        ) as response:
            if response.ok and response.json().get("accepted", len(many)) != len(many):
                response.failure("accepted only a part")
            elif response.ok:
                for point in many:
                    self.points.acknowledge("/points/" + point["id"], point)

    def see(self, path):
        """Ask for a point until it is there, and report how long that took."""
        begin, error = time.perf_counter(), None
        while True:
            response = requests.get(self.host + path, timeout=SEEN_WITHIN)
            if response.status_code not in (404, 503):
                break
            if time.perf_counter() - begin > SEEN_WITHIN:
                break
            gevent.sleep(0.01)
        if not response.ok:
            error = Exception(f"{response.status_code} {SEEN_WITHIN:.0f} s after it was acknowledged")
        self.environment.events.request.fire(
            request_type="GET", name="own write seen", exception=error, context={},
            response_time=1000 * (time.perf_counter() - begin), response_length=len(response.content),
        )


def is_there(session, host, path, point, patience):
    """Look one point up, again and again until the patience ends."""
    while True:
        response = session.get(host + path, timeout=SEEN_WITHIN)
        if response.status_code == 200:
            found = response.json()["geometry"]["coordinates"][:2]
            return found == [point["longitude"], point["latitude"]]
        if time.monotonic() > patience:
            return False
        gevent.sleep(0.1)


@events.quitting.add_listener
def judge(environment, **_):
    points, options = environment.points, environment.parsed_options
    kept = [(path, point) for path, point in points.kept if path]
    session, patience = requests.Session(), time.monotonic() + SEEN_WITHIN
    missing = [
        point["name"] for path, point in kept
        if not is_there(session, environment.host, path, point, patience)
    ]
    logging.info("%d points acknowledged, %d looked up, %d missing", points.acknowledged, len(kept), len(missing))
    total = environment.stats.total
    p95 = total.get_response_time_percentile(0.95) or 0
    logging.info("p95 %.0f ms, %d of %d requests failed", p95, total.num_failures, total.num_requests)
    if missing or total.num_failures or p95 > options.p95 or not total.num_requests:
        environment.process_exit_code = 1
