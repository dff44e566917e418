"""Asks every operation of the document at the running node, well and badly and by every role, and checks each answer.

drive.py DOCUMENT FOLDER [drain]: the folder has the tokens and the authority; with `drain` that operation alone."""

import json
import pathlib
import subprocess
import sys
import time
import urllib.parse

from check import Document

NODE = "https://127.0.0.1:9060"
ROLES = ("none", "read", "operate", "admin")
JSON = "application/json"
ONE = urllib.parse.quote("sip:127.0.0.1:7010", safe="")
INVITE = (
    "INVITE sip:127.0.0.1 SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.1:5072;branch=z9hG4bK-1\nMax-Forwards: 70\n"
    "From: <sip:127.0.0.1:5072>;tag=1\nTo: <sip:127.0.0.1>\nCall-ID: api\nCSeq: 1 INVITE\nContact: <sip:127.0.0.1:5072>\n"
    "User-Agent: OPENSIPS_TTS_MRCP_CLIENT\nContent-Length: 0\n\n"
)

# What is asked by any name.
MONITORED = ("live", "ready", "fit", "metrics")

text, folder = pathlib.Path(sys.argv[1]).read_text(), pathlib.Path(sys.argv[2])
document = Document(text)
tokens = {role: (folder / f"{role}.token").read_text().strip() for role in ROLES[1:]}
wrong = []
asked = 0


def curl(method, path, role, body=None, kind=JSON, more=()):
    """The status, Content-Type and body of the answer."""
    words = ["curl", "-sS", "--max-time", "20", "--cacert", folder / "ca.pem", "-X", method, "-w", "\n%{http_code} %{content_type}"]
    if role != "none":
        words += ["-H", f"Authorization: Bearer {tokens.get(role, role)}"]
    if body is not None:
        words += ["-H", f"Content-Type: {kind}", "--data-binary", "@-"]
    answer = subprocess.run([*words, *more, NODE + path], input=body or "", capture_output=True, text=True, check=True).stdout
    body, _, tail = answer.rpartition("\n")
    status, _, kind = tail.partition(" ")
    return int(status), kind, body


def ask(name, wanted, role, path=None, body=None, kind=JSON, more=()):
    """Asks an operation; what it answers has that status and is as told."""
    global asked
    asked += 1
    method, template, _ = document.operation(name)
    path = path or template.replace("{set}", "19")
    status, kind, body = curl(method, path, role, body, kind, more)
    what = f"{method} {path} by {role}"
    wanted = wanted if callable(wanted) else [wanted].__contains__
    if not wanted(status):
        wrong.append(f"{what}: {status}: {body[:200]}")
    wrong.extend(f"{what}: {status}: {fault}" for fault in document.faults(name, status, kind, body))
    try:
        return json.loads(body)
    except ValueError:
        return body


def by_every_role(names):
    """Nobody gets in without a token, and nobody whose role is too low; who does get in is answered as told."""
    for name, method, _, told in document.operations():
        if name not in names:
            continue
        needed = ROLES.index(told["x-role"])
        for level, role in enumerate(ROLES):
            if name == "drain" and level >= needed:
                continue
            if needed == 0 or level >= needed:
                ask(name, lambda status: status not in (401, 403), role)
            else:
                ask(name, 401 if role == "none" else 403, role)
        if needed:
            ask(name, 401, "nobody-has-this-token")
        if name not in MONITORED:
            ask(name, 403, "admin", more=["-H", "Host: evil.example"])


def order(**more):
    return json.dumps({"order": "drain", "reason": "new model", "by": "alice", **more})


def well_and_badly():
    for name in ("live", "ready", "fit", "openapi"):
        ask(name, 200, "none")
    for name in ("metrics", "node", "sets", "set", "sessions", "store"):
        ask(name, 200, "read")
    served = json.loads(curl("GET", "/openapi.json", "none")[2])
    if served != document.root:
        wrong.append("/openapi.json is another document")
    if curl("GET", "/nothing", "read")[0] != 404 or curl("DELETE", "/sets", "read")[0] != 405:
        wrong.append("what there is not is not answered by 404 and 405")
    destination = f"/sets/19/destination?uri={ONE}"
    ask("destination", 200, "read", destination)
    ask("destination", 400, "read", "/sets/19/destination")
    ask("destination", 404, "read", "/sets/19/destination?uri=sip:nobody")
    ask("set", 404, "read", "/sets/20")
    ask("sessions", 400, "read", "/sets/19/sessions?limit=0")
    ask("sessions", 404, "read", "/sets/20/sessions")
    ask("sessions", 200, "read", f"/sets/19/sessions?uri={ONE}&offset=0&limit=10")
    for name in ("order", "postOrder"):
        path = f"/sets/19/destination/order?uri={ONE}"
        said = ask(name, 200, "operate", path, order())
        by = said["addresses"][0]["order"]["by"]
        if by != "alice via bob":
            wrong.append(f"the order is by {by}")
        ask(name, 200, "operate", path, order(deadline="2036-01-01T00:00:00Z", then_end=True))
        ask(name, 200, "operate", path, json.dumps({"order": "ready", "reason": "done"}))
        ask(name, 400, "operate", path, order(order="down"))
        ask(name, 400, "operate", path, "{")
        ask(name, 400, "operate", "/sets/19/destination/order", order())
        ask(name, 404, "operate", "/sets/20/destination/order?uri=x", order())
        ask(name, 413, "operate", path, "x" * (65 << 10))
        ask(name, 415, "operate", path, order(), "text/plain")
        ask(name, 403, "operate", path, order(), more=["-H", "Origin: http://evil.example"])
        ask(name, 200, "operate", path, order(order="ready"), more=["-H", f"Origin: {NODE}"])
    ask("explain", 200, "read", body=INVITE, kind="message/sip")
    ask("explain", 200, "read", "/explain?source=127.0.0.1:5072&listener=udp:127.0.0.1:8060", INVITE, "message/sip")
    ask("explain", 200, "read", body=INVITE.replace("OPENSIPS_TTS", "OTHER"), kind="message/sip")
    ask("explain", 400, "read", body="hello", kind="message/sip")
    ask("explain", 413, "read", body="x" * (65 << 10), kind="message/sip")
    # A session that is up is ended, and a whole destination's.
    until = time.monotonic() + 20
    ours = []
    while not ours and time.monotonic() < until:
        page = ask("sessions", 200, "read")
        ours = [one["call_id"] for one in page["sessions"] if one["endable"] and one["call_id"]]
    if not ours:
        wrong.append("no session is up")
    ask("endSessions", 200, "operate", body=json.dumps({"call_id": ours[0] if ours else "", "reason": "test"}))
    ask("endSessions", 200, "operate", body=json.dumps({"set": 19, "destination": "sip:127.0.0.1:7010", "reason": "test"}))
    ask("endSessions", 404, "operate", body=json.dumps({"call_id": "nobody's", "reason": "test", "by": "alice"}))
    ask("endSessions", 400, "operate", body=json.dumps({"reason": "test"}))
    ask("endSessions", 413, "operate", body="x" * (65 << 10))
    ask("endSessions", 415, "operate", body="{}", kind="text/plain")
    rows()
    tools()


def sql(words):
    subprocess.run(["sqlite3", folder / "tandem.db", f".timeout 5000", words], check=True)


def rows():
    ask("plan", 200, "operate")
    ask("plan", 422, "operate", "/plan?partition=other")
    ask("reload", 200, "operate")
    ask("reload", 200, "operate", body=json.dumps({"reason": "as it is", "partition": "default"}))
    ask("reload", 400, "operate", body="{")
    ask("reload", 413, "operate", body="x" * (65 << 10))
    ask("reload", 415, "operate", body="{}", kind="text/plain")
    ask("reload", 422, "operate", body=json.dumps({"partition": "other"}))
    ask("reload", 403, "operate", body=json.dumps({"force": True}))
    sql("UPDATE `dispatcher` SET `setid` = 19, `weight` = 3 WHERE `destination` LIKE '%7011'")
    ask("plan", 200, "operate")
    ask("reload", 200, "operate", body=json.dumps({"reason": "heavier"}))
    # Everything of the set would go.
    sql("UPDATE `dispatcher` SET `setid` = 20")
    ask("plan", 200, "operate")
    ask("reload", 409, "operate", body=json.dumps({"reason": "another set"}))
    ask("store", 200, "read")
    sql("UPDATE `dispatcher` SET `setid` = 19")
    ask("reload", 200, "admin", body=json.dumps({"force": True, "reason": "back"}))
    first = ask("store", 200, "read")["partitions"][0]["versions"][0]["number"]
    ask("rollback", 200, "admin", body=json.dumps({"reason": "as before", "version": str(first), "force": True}))
    ask("store", 200, "read")
    ask("plan", 200, "operate")
    ask("rollback", 200, "admin", body=json.dumps({"reason": "done", "force": True}))
    # Three of five would go.
    small = ask("store", 200, "read")["partitions"][0]["version"]
    for port in (7012, 7013, 7014):
        sql(f"INSERT INTO `dispatcher` (`setid`, `destination`) VALUES (19, 'sip:127.0.0.1:{port}')")
    ask("reload", 200, "operate", body=json.dumps({"reason": "new rack"}))
    ask("rollback", 409, "admin", body=json.dumps({"reason": "wrong rack", "version": str(small)}))
    sql("DELETE FROM `dispatcher` WHERE `destination` > 'sip:127.0.0.1:7011'")
    ask("reload", 200, "admin", body=json.dumps({"force": True, "reason": "no rack"}))
    ask("rollback", 400, "admin", body=json.dumps({"version": "1"}))
    ask("rollback", 413, "admin", body="x" * (65 << 10))
    ask("rollback", 415, "admin", body="{}", kind="text/plain")
    ask("rollback", 422, "admin", body=json.dumps({"reason": "x", "version": "999"}))


def tools():
    def call(method, params=(), **id):
        return {"jsonrpc": "2.0", "method": method, "params": list(params), **id}

    uri = "sip:127.0.0.1:7011"
    for name, listing, state, bad in (("mi", "ds_list", "ds_set_state", 200), ("rpc", "dispatcher.list", "dispatcher.set_state", 500)):
        ask(name, 200, "read", body=json.dumps(call(listing, id=1)))
        ask(name, 200, "read", body=json.dumps([call(listing, id="a"), call("nothing", id=2)]))
        ask(name, 202, "read", body=json.dumps(call(listing)))
        ask(name, bad, "read", body=json.dumps(call("nothing", id=1)))
        ask(name, bad, "read", body="{")
        ask(name, 403, "read", body=json.dumps(call(state, ["i", 19, uri], id=1)))
        ask(name, 200, "operate", body=json.dumps(call(state, ["i", 19, uri], id=1)))
        ask(name, 200, "operate", body=json.dumps(call(state, ["a", 19, uri], id=1)))
        ask(name, 413, "read", body="x" * (65 << 10))
        ask(name, 415, "read", body="{}", kind="text/plain")


# What nobody can bring about from outside while the node is well.
BROKEN = {"500", "503"}


def untold():
    """Answers of the document that nothing here has brought about."""
    for name, _, _, told in document.operations():
        for status in told["responses"]:
            is_ready = name in ("ready", "drain") or status in BROKEN
            if (name, status) not in document.seen and not is_ready:
                yield f"{name} was never answered by {status}"


if sys.argv[3:] == ["drain"]:
    by_every_role(["drain"])
    ask("drain", 202, "admin")
else:
    wrong += document.own_faults()
    by_every_role([name for name, *_ in document.operations() if name != "drain"])
    well_and_badly()
    wrong += untold()
for fault in wrong:
    print(fault)
print(f"{asked} requests, {len(document.seen)} answers of the document, {len(wrong)} faults")
sys.exit(bool(wrong))
