"""A small MCP server over an SQLite database, with the standard library alone: it tells of each row that comes into
`orders` (notifications/row_inserted) and has the tools add_order and set_status."""
import json
import sqlite3
import sys
import threading
import time

database = sys.argv[1]
lock = threading.Lock()


def connect():
    db = sqlite3.connect(database, timeout=10, isolation_level=None)
    db.row_factory = sqlite3.Row
    db.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, customer_id TEXT, status TEXT)")
    return db


def send(**message):
    with lock:
        print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def watch(seen):
    db = connect()
    while True:
        for row in db.execute("SELECT * FROM orders WHERE id > ? ORDER BY id", (seen,)).fetchall():
            seen = row["id"]
            send(method="notifications/row_inserted", params={"table": "orders", **dict(row)})
        time.sleep(0.05)


def add_order(db, customer_id, status="pending"):
    return {"id": db.execute("INSERT INTO orders (customer_id, status) VALUES (?, ?)", (customer_id, status)).lastrowid}


def set_status(db, id, status):
    if db.execute("UPDATE orders SET status = ? WHERE id = ?", (status, id)).rowcount == 0:
        raise LookupError(f"there is no order {id}")
    return dict(db.execute("SELECT * FROM orders WHERE id = ?", (id,)).fetchone())


TOOLS = {"add_order": add_order, "set_status": set_status}


def call(db, name, arguments):
    try:
        result = TOOLS[name](db, **arguments)
    except (LookupError, TypeError, sqlite3.Error) as e:
        return {"content": [{"type": "text", "text": str(e)}], "isError": True}
    return {"content": [{"type": "text", "text": json.dumps(result)}], "structuredContent": result}


def answer(db, method, params):
    if method == "initialize":
        return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}},
                "serverInfo": {"name": "orders", "version": "1.0"}}
    if method == "tools/list":
        return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
    return call(db, params["name"], params.get("arguments", {})) if method == "tools/call" else {}


def main():
    db = connect()
    last = db.execute("SELECT max(id) FROM orders").fetchone()[0] or 0
    for line in sys.stdin:
        message = json.loads(line)
        if message.get("method") == "notifications/initialized":
            threading.Thread(target=watch, args=(last,), daemon=True).start()
        elif "id" in message and "method" in message:
            send(id=message["id"], result=answer(db, message["method"], message.get("params", {})))


main()
