"""Calls of a tool by the Python SDK's client, to measure the daemon's steps against.

    mcp_client.py CALLS AT_ONCE TOOL ARGUMENTS COMMAND [ARG]...

Prints {"rate": calls a second}; every answer is looked at. Needs the package `mcp`.
"""
from __future__ import annotations

import json
import sys
import time
from typing import Any

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


async def measure(calls: int, at_once: int, tool: str, arguments: dict[str, Any], command: list[str]) -> float:
    left = calls

    async def caller(session: ClientSession) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            result = await session.call_tool(tool, arguments)
            assert result.content[0].text == arguments["text"], result

    async with stdio_client(StdioServerParameters(command=command[0], args=command[1:])) as (read, write):
        async with ClientSession(read, write) as session:
            await session.initialize()
            await session.call_tool(tool, arguments)  # the first one asks for the list of tools
            begin = time.monotonic()
            async with anyio.create_task_group() as group:
                for _ in range(at_once):
                    group.start_soon(caller, session)
            return calls / (time.monotonic() - begin)


if __name__ == "__main__":
    calls, at_once, tool, arguments, *command = sys.argv[1:]
    print(json.dumps({"rate": anyio.run(measure, int(calls), int(at_once), tool, json.loads(arguments), command)}))
