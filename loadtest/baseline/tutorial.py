"""The server as the tutorial has it: every request opens a connection of its
own, and GET /points lists every point there is.

DATABASE_URL says where PostGIS is; the table is in schema.sql.
"""

import os
from contextlib import closing

import psycopg2
from flask import Flask, jsonify, request

app = Flask(__name__)


def connect():
    return closing(psycopg2.connect(os.environ["DATABASE_URL"]))


@app.post("/point")
def post_point():
    point = request.get_json()
    with connect() as connection, connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO points (name, geom)"
            " VALUES (%s, ST_SetSRID(ST_MakePoint(%s, %s), 4326)) RETURNING id",
            (point.get("name"), point["longitude"], point["latitude"]),
        )
        return jsonify(id=cursor.fetchone()[0]), 201


@app.get("/points")
def get_points():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id, name, ST_X(geom), ST_Y(geom) FROM points")
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
