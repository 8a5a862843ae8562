"""A server of the Python SDK that tells of each row by a log message whose data is a domain event. Its argument is the
newest protocol version that it speaks."""
from __future__ import annotations

import sys

import mcp.types as types

if sys.argv[1] == "2024-11-05":  # an old server answers with what it knows
    import mcp.server.session as session

    session.SUPPORTED_PROTOCOL_VERSIONS = ["2024-11-05"]
    session.types.LATEST_PROTOCOL_VERSION = "2024-11-05"

from mcp.server.fastmcp import Context, FastMCP

server = FastMCP("orders")


@server.tool()
async def insert(table: str, status: str, id: int, ctx: Context) -> str:  # type: ignore[type-arg]
    await ctx.session.send_log_message(level="info", data={"event": "row_inserted", "table": table, "status": status, "id": id},
                                       logger="orders")
    return f"inserted {id}"


assert types
server.run()
