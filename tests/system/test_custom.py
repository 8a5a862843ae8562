"""custom triggers: filters, mapping, and what one emit promises over several triggers."""
from __future__ import annotations

from typing import Any

import pytest
from harness import ECHO, Daemon, Gate, custom, pipeline, wait_for


def mapped(d: Daemon, data: Any, mapping: dict[str, str], **more: Any) -> dict[str, Any]:
    """The resolved inputs of an event with this data, without its metadata."""
    d.put("m.yaml", ECHO, custom("t", config={"input_mapping": mapping}, **more))
    out = d.out("t", data)
    del out["_trigger_event"]
    return out


# ---- filters ----


@pytest.mark.parametrize("pattern, hits, misses", [
    ({"a": "x"}, [{"a": "x"}, {"a": ["y", "x"]}], [{"a": "y"}, {}, {"a": {"x": 1}}, {"A": "x"}]),
    ({"a": 1}, [{"a": 1}, {"a": 1.0}], [{"a": "1"}, {"a": True}, {"a": 2}]),
    ({"a": {"b": True}}, [{"a": {"b": True, "c": 1}}], [{"a": {"b": False}}, {"a": True}]),
    ({"a.b": "x"}, [{"a": {"b": "x"}}], [{"a": {"b": "y"}}]),
    ({"a": ["x", 2, None]}, [{"a": "x"}, {"a": 2}, {"a": None}], [{"a": "2"}, {"a": False}, {}]),
    ({"a": [{"prefix": "ab"}]}, [{"a": "abc"}], [{"a": "xabc"}, {"a": 1}]),
    ({"a": [{"suffix": "bc"}, "z"]}, [{"a": "abc"}, {"a": "z"}], [{"a": "bcd"}]),
    ({"a": [{"wildcard": "a*z"}]}, [{"a": "az"}, {"a": "a--z"}], [{"a": "b"}]),
    ({"a": [{"equals-ignore-case": "AbC"}]}, [{"a": "aBc"}], [{"a": "abcd"}]),
    ({"a": [{"anything-but": ["x", "y"]}]}, [{"a": "z"}], [{"a": "x"}, {}]),
    ({"a": [{"numeric": [">", 0, "<=", 5]}]}, [{"a": 5}, {"a": 0.5}], [{"a": 0}, {"a": 6}, {"a": "3"}]),
    ({"a": [{"cidr": "10.0.0.0/24"}]}, [{"a": "10.0.0.255"}], [{"a": "10.0.1.0"}]),
    ({"a": [{"exists": False}]}, [{}, {"b": 1}], [{"a": None}, {"a": {}}]),
    ({"a": [{"exists": True}]}, [{"a": None}, {"a": {"b": 1}}], [{}]),
    ({"$or": [{"a": [1]}, {"b": [2]}]}, [{"a": 1}, {"b": 2}], [{"a": 2, "b": 1}]),
    ({"a": "x", "b": "y"}, [{"a": "x", "b": "y"}], [{"a": "x"}, {"b": "y"}])])
def test_filters(daemon: Daemon, pattern: Any, hits: list[Any], misses: list[Any]) -> None:
    daemon.put("m.yaml", ECHO, custom("t", config={"filter": pattern}, max_concurrent=8))
    for data in hits:
        assert daemon.emit("t", data)["triggered_count"] == 1, data
    for data in misses:
        assert daemon.emit("t", data) == {"triggered_count": 0, "events": []}, data
    assert len(daemon.settle()) == len(hits)
    assert daemon.metric("triggerd_decisions_total", trigger="t", decision="filtered") == len(misses)


def test_why_it_did_not_match(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t", config={"filter": {"user": {"plan": ["pro", "team"]}}}))
    answer = daemon.post("/api/v1/triggers/t/test?dry_run=true", {"user": {"plan": "free"}})
    assert answer["decision"] == "filtered"
    assert "user.plan" in answer["reason"] and "free" in answer["reason"] and "pro" in answer["reason"]


# ---- mapping ----


def test_the_seeds_paths(daemon: Daemon) -> None:
    data = {"user": {"id": "u1"}, "order": {"items": ["a", "b"]}, "x-y": 1, "nothing": None, "no": False}
    assert mapped(daemon, data, {
        "user_id": "$.data.user.id", "items": "$.data.order.items", "first": "$.data.order.items.0", "plain": "$.user.id",
        "bare": "user.id", "all": "$.order.items[*]", "last": "$.order.items[-1]", "dash": "$.x-y", "null": "$.nothing",
        "false": "$.no", "whole": "$", "missing": "$.missing", "kept": "$.missing"},
        default_inputs={"kept": 7, "null": 8}) == {
        "user_id": "u1", "items": ["a", "b"], "first": "a", "plain": "u1", "bare": "u1", "all": ["a", "b"], "last": "b",
        "dash": 1, "null": None, "false": False, "whole": data, "kept": 7}


def test_data_that_has_a_member_data(daemon: Daemon) -> None:
    assert mapped(daemon, {"data": {"x": 1}, "x": 2}, {"a": "$.data.x", "b": "$.x"}) == {"a": 1, "b": 2}


def test_a_filter_expression_gives_an_array(daemon: Daemon) -> None:
    data = {"items": [{"n": 1, "ok": True}, {"n": 2, "ok": False}, {"n": 3, "ok": True}]}
    assert mapped(daemon, data, {"n": "$.items[?@.ok == true].n", "none": "$.items[?@.n > 9]"}) in (
        {"n": [1, 3]}, {"n": [1, 3], "none": []})


def test_metadata_cannot_be_forged(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t", default_inputs={"_trigger_event": "forged"},
                                      config={"input_mapping": {"_trigger_event": "$.x"}}))
    if daemon.exists("t"):  # refusing the manifest would do as well
        assert daemon.out("t", {"x": "forged"})["_trigger_event"]["trigger_id"] == "t"


def test_data_is_exact(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t", config={"input_mapping": {"n": "$.n", "f": "$.f"}}))
    text = ('{"n":12345678901234567890123456789,"f":0.10000000000000000555,"e":1E400,"z":-0,"u":"\\u00e9\\ud83d\\ude00",'
            '"order":{"b":1,"a":2},"big":9007199254740993}')
    answer = daemon.http("POST", "/api/v1/triggers/emit", '{"endpoint":"t","data":' + text + "}")
    id = answer.ok()["events"][0]["id"]
    daemon.wait_event(id, "completed")
    shown = daemon.http("GET", f"/api/v1/triggers/events/{id}").body.decode()
    for digits in ("12345678901234567890123456789", "0.10000000000000000555", "1E400", "9007199254740993"):
        assert digits in shown, digits
    assert shown.index('"b"', shown.index('"order"')) < shown.index('"a"', shown.index('"order"'))
    run = daemon.event(id)["run_id"]
    out = daemon.http("GET", f"/api/v1/runs/{run}/steps/s/stdout").body.decode()
    assert "12345678901234567890123456789" in out and "0.10000000000000000555" in out


@pytest.mark.parametrize("data", [0, "text", [1, 2], None, True, {}])
def test_any_json_is_data(daemon: Daemon, data: Any) -> None:
    daemon.put("m.yaml", ECHO, custom("t"))
    answer = daemon.post("/api/v1/triggers/emit", {"endpoint": "t", "data": data})
    event = daemon.wait_event(answer["events"][0]["id"], "completed")
    assert event["event_data"] == data
    assert event["resolved_inputs"]["_trigger_event"]["data"] == data


# ---- one emit, several triggers ----


def test_all_or_none(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step()), custom("a", endpoint="e"),
               custom("b", endpoint="e", queue_limit=1, config={"filter": {"n": [{"numeric": ["<", 100]}]}}))
    full = None
    for n in range(4):  # b: one runs, one waits, the next is too much
        answer = daemon.http("POST", "/api/v1/triggers/emit", {"endpoint": "e", "data": {"n": n}})
        if answer.status == 429:
            full = n
            break
        assert answer.ok()["triggered_count"] == 2
    assert full in (1, 2)
    assert int(answer.headers["Retry-After"]) >= 1
    answer.problem(429)
    assert len(daemon.events("a")) == len(daemon.events("b")) == full, "none of them was recorded"
    assert daemon.emit("e", {"n": 100})["triggered_count"] == 1, "what does not match the full one passes"
    gate.open()
    assert all(e["status"] == "completed" for e in daemon.settle())
    assert daemon.emit("e", {"n": 1})["triggered_count"] == 2


def test_thousand_triggers_one_match(daemon: Daemon) -> None:
    daemon.put("p.yaml", ECHO)
    daemon.write("t.yaml", *[custom(f"t{n}", endpoint="e", config={"filter": {"k": f"k{n}"}}) for n in range(1000)])
    wait_for(lambda: daemon.get("/api/v1/triggers?page_size=1")["total"] == 1000)
    answer = daemon.emit("e", {"k": "k567"})
    assert [e["trigger_id"] for e in answer["events"]] == ["t567"]


# ---- the same event twice ----


def test_an_idempotency_key(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t"), custom("u"))
    first = daemon.emit("t", {"n": 1}, Idempotency_Key="k")
    again = daemon.emit("t", {"n": 1}, Idempotency_Key="k")
    assert first["triggered_count"] == 1 and again["triggered_count"] == 0
    assert [e["id"] for e in again["events"]] == [e["id"] for e in first["events"]]
    other = daemon.http("POST", "/api/v1/triggers/emit", {"endpoint": "t", "data": {"n": 2}}, {"Idempotency-Key": "k"})
    other.problem(422)
    assert daemon.emit("u", {"n": 1}, Idempotency_Key="k")["triggered_count"] == 1, "a key belongs to its endpoint"
    daemon.settle()
    assert len(daemon.events("t")) == 1
    daemon.kill9()
    daemon.start()
    assert daemon.emit("t", {"n": 1}, Idempotency_Key="k")["events"][0]["id"] == first["events"][0]["id"]
    assert daemon.metric("triggerd_decisions_total", trigger="t", decision="duplicate") >= 1


def test_a_key_is_forgotten_after_its_window(daemon: Daemon) -> None:
    daemon.put("m.yaml", ECHO, custom("t", dedup_window_seconds=1))
    first = daemon.emit1("t", {}, Idempotency_Key="k")["id"]
    wait_for(lambda: daemon.emit1("t", {}, Idempotency_Key="k")["id"] != first)


def test_a_refused_emit_leaves_no_key(daemon: Daemon) -> None:
    gate = Gate(daemon.data)
    daemon.put("m.yaml", pipeline("p", gate.step()), custom("t", queue_limit=1))
    while daemon.http("POST", "/api/v1/triggers/emit", {"endpoint": "t", "data": {}}).status == 200:
        assert len(daemon.events()) < 5
    body = {"endpoint": "t", "data": {"n": 2}}
    daemon.http("POST", "/api/v1/triggers/emit", body, {"Idempotency-Key": "second"}).problem(429)
    gate.open()
    daemon.settle()
    answer = daemon.http("POST", "/api/v1/triggers/emit", body, {"Idempotency-Key": "second"}).ok()
    assert answer["triggered_count"] == 1, answer
