"""The same server with what experience would add before anything else: a pool
of connections that stay open, and at most Cairn's number of points in an
answer, the newest first.

DATABASE_URL says where PostGIS is; the table is in schema.sql.
"""

import os
from contextlib import contextmanager

from flask import Flask, jsonify, request
from psycopg2.pool import ThreadedConnectionPool

# One for each thread of gunicorn's (see stack.go), so that none waits.
THREADS = int(os.environ["THREADS"])
LIMIT = 1000

app = Flask(__name__)
pool = ThreadedConnectionPool(THREADS, THREADS, os.environ["DATABASE_URL"])


@contextmanager
def connect():
    connection = pool.getconn()
    try:
        with connection:  # commits, or rolls back
            yield connection
    finally:
        pool.putconn(connection)


@app.post("/point")
def post_point():
    point = request.get_json()
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO points (name, geom)"
            " VALUES (%s, ST_SetSRID(ST_MakePoint(%s, %s), 4326)) RETURNING id",
            (point.get("name"), point["longitude"], point["latitude"]),
        )
        return jsonify(id=cursor.fetchone()[0]), 201


@app.get("/points")
def get_points():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, name, ST_X(geom), ST_Y(geom) FROM points ORDER BY id DESC LIMIT %s",
            (LIMIT,),
        )
        return jsonify(
            type="FeatureCollection",
            features=[
                {
                    "type": "Feature",
                    "id": id,
                    "geometry": {"type": "Point", "coordinates": [longitude, latitude]},
                    "properties": {"name": name},
                }
                for id, name, longitude, latitude in cursor.fetchall()
            ],
        )


@app.get("/status")
def get_status():
    return jsonify(status="OK")
