#!/bin/sh
# MCP's own programs, which tests speak with: the TypeScript "everything" server, the Python SDK, and the conformance
# suite with a Node.js that is new enough for it. All into build/mcp-peers, once; without a network their tests are
# skipped.
set -eu
peers=$(dirname "$0")/../build/mcp-peers
mark=$peers/installed-1
[ -e "$mark" ] && exit 0
command -v npm >/dev/null || {
    echo "without npm (package nodejs, npm): the tests with MCP's own programs are skipped"
    exit 0
}
mkdir -p "$peers"
if npm install --silent --no-fund --no-audit --prefix "$peers" node@22 '@modelcontextprotocol/conformance@0.1.16' \
    '@modelcontextprotocol/server-everything@2026.8.31' &&
    python3 -m venv --clear "$peers/venv" && "$peers/venv/bin/pip" --disable-pip-version-check -q install 'mcp>=1.9,<2'; then
    touch "$mark"
else
    echo "without MCP's own programs: their tests are skipped"
fi
