"""Load one CSV file (name,amount) into imports.db, all of it or nothing; a file that was loaded before is loaded once."""
import csv
import json
import os
import sqlite3
import sys

path = sys.argv[1]
with open(path, newline="", encoding="utf-8") as f:
    rows = list(csv.DictReader(f))
db = sqlite3.connect("imports.db", timeout=30)
with db:  # one transaction
    db.execute("CREATE TABLE IF NOT EXISTS done (key TEXT PRIMARY KEY)")
    db.execute("CREATE TABLE IF NOT EXISTS amounts (file TEXT, name TEXT NOT NULL, amount REAL NOT NULL)")
    # The key is the same for every attempt of this run: after a crash in between, nothing is loaded twice.
    new = db.execute("INSERT OR IGNORE INTO done VALUES (?)", [os.environ["TRIGGERD_IDEMPOTENCY_KEY"]]).rowcount
    for number, row in enumerate(rows, 2) if new else []:
        try:
            db.execute("INSERT INTO amounts VALUES (?, ?, ?)", [os.path.basename(path), row["name"], float(row["amount"])])
        except (KeyError, TypeError, ValueError) as e:
            sys.exit(f"line {number}: {type(e).__name__}: {e}")
print(json.dumps({"rows": len(rows)}))
