"""What /openapi.json says, held against the answers that tests get: it must not lie.

Needs jsonschema; without it nothing is checked, and test_openapi is skipped."""
from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

try:
    import jsonschema
except ImportError:
    jsonschema = None  # type: ignore[assignment]


class Description:
    """An OpenAPI document, ready to look up operations and to check answers."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.paths = [(re.compile(re.sub(r"\\\{(\w+)\\\}", lambda m: "(.+)" if m[1] == "path" else "([^/]+)",
                                         re.escape(path)) + "/*"), item)
                      for path, item in sorted(document["paths"].items(), key=lambda p: p[0].count("{"))]
        self._validators: dict[str, Any] = {}

    def item(self, target: str) -> dict[str, Any] | None:
        path = re.sub("/+", "/", urlsplit(target).path)
        return next((item for pattern, item in self.paths if pattern.fullmatch(path)), None)

    def resolve(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            found: Any = self.document
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            node = found
        return node

    def validator(self, schema: dict[str, Any]) -> Any:
        key = json.dumps(schema, sort_keys=True)
        if key not in self._validators:
            full = {**schema, "components": self.document["components"]}
            self._validators[key] = jsonschema.Draft202012Validator(full)
        return self._validators[key]

    def check(self, method: str, target: str, status: int, headers: Any, body: bytes) -> None:
        """AssertionError where the answer is not one that the document tells of."""
        what = f"{method} {target} gave {status}"
        item = self.item(target)
        operation = item and item.get({"HEAD": "get"}.get(method, method.lower()))
        if not operation:
            # Nobody is told what there is before they have shown who they are.
            assert status in ((405, 400, 401, 403, 503) if item else (404, 400, 401, 403, 503)), f"{what}: undocumented"
            if status == 405 and item:
                assert set(headers["Allow"].split(", ")) - {"HEAD"} <= {m.upper() for m in item}, f"{what}: {headers['Allow']}"
            response = self.document["components"]["responses"][str(status)]
        else:
            assert str(status) in operation["responses"], f"{what}: undocumented: {body[:500]!r}"
            response = self.resolve(operation["responses"][str(status)])
        if method == "HEAD":
            return
        media_type = headers.get_content_type()
        assert media_type in response["content"], f"{what}: {media_type} is undocumented"
        if not media_type.endswith("json"):
            return
        schema = response["content"][media_type]["schema"]
        error = jsonschema.exceptions.best_match(self.validator(schema).iter_errors(json.loads(body)))
        assert error is None, f"{what}: {error.json_path if error else ''}: {error}"
