"""Asks every operation of the document at the running node, well and badly and by every role, and checks each answer.

drive.py DOCUMENT FOLDER [drain]: the folder has the tokens and the authority; with `drain` that operation alone."""

import contextlib
import http.client
import json
import pathlib
import ssl
import subprocess
import sys
import time
import urllib.parse

from check import Document, events

HOST, PORT = "127.0.0.1", 9060
NODE = f"https://{HOST}:{PORT}"
# Seconds that an answer, or whatever is waited for, may take.
PATIENCE = 20
ROLES = ("none", "read", "operate", "admin")
JSON = "application/json"
EVENTS = "text/event-stream"


def quoted(text):
    return urllib.parse.quote(text, safe="")


# One that answers, and one that does not.
ONE, OTHER = quoted("sip:127.0.0.1:7010"), quoted("sip:127.0.0.1:7011")
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


tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
tls.load_verify_locations(folder / "ca.pem")


@contextlib.contextmanager
def answer(method, path, role, body=None, kind=JSON, more=()):
    """The answer, whose body is still to be read."""
    headers = {"Connection": "close"}
    if role != "none":
        headers["Authorization"] = f"Bearer {tokens.get(role, role)}"
    if body is not None:
        headers["Content-Type"] = kind
    with contextlib.closing(http.client.HTTPSConnection(HOST, PORT, timeout=PATIENCE, context=tls)) as connection:
        connection.request(method, path, body, {**headers, **dict(more)})
        with connection.getresponse() as response:
            yield response


def call(method, path, role, body=None, kind=JSON, more=()):
    """The status, Content-Type and body of the answer; of a stream what comes first."""
    with answer(method, path, role, body, kind, more) as response:
        kind = response.headers.get("Content-Type", "")
        body = Heard(response).until("sets") if kind == EVENTS else response.read().decode()
        return response.status, kind, body


class Heard:
    """What has come of a stream."""

    def __init__(self, response):
        self.response = response
        self.text = ""

    def until(self, name, is_meant=lambda data: True):
        """All of it, up to such an event that has not been waited for before."""
        end, begin = time.monotonic() + PATIENCE, len(self.text)
        while time.monotonic() < end:
            line = self.response.readline().decode()
            self.text += line
            if not line:
                break
            if line == "\n" and any(one == name and is_meant(json.loads(data)) for one, _, data in events(self.text[begin:])):
                return self.text
        wrong.append(f"no such {name} comes by /stream")
        return self.text


def ask(name, wanted, role, path=None, body=None, kind=JSON, more=()):
    """Asks an operation; what it answers has that status and is as told."""
    global asked
    asked += 1
    method, template, _ = document.operation(name)
    path = path or template.replace("{set}", "19").replace("{call_id}", "nobody")
    status, kind, body = call(method, path, role, body, kind, more)
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
            ask(name, 403, "admin", more=[("Host", "evil.example")])


def order(**more):
    return json.dumps({"order": "drain", "reason": "new model", "by": "alice", **more})


def well_and_badly():
    for name, _, _, told in document.operations():
        if told["x-role"] == "none":
            ask(name, 200, "none")
    for name in ("metrics", "node", "sets", "set", "sessions", "events", "traces", "store"):
        ask(name, 200, "read")
    if ask("openapi", 200, "none") != document.root:
        wrong.append("/openapi.json is another document")
    if call("GET", "/nothing", "read")[0] != 404 or call("DELETE", "/sets", "read")[0] != 405:
        wrong.append("what there is not is not answered by 404 and 405")
    destination = f"/sets/19/destination?uri={ONE}"
    ask("destination", 200, "read", destination)
    ask("destination", 400, "read", "/sets/19/destination")
    ask("destination", 404, "read", "/sets/19/destination?uri=sip:nobody")
    ask("set", 404, "read", "/sets/20")
    ask("sessions", 400, "read", "/sets/19/sessions?limit=0")
    ask("sessions", 404, "read", "/sets/20/sessions")
    ask("sessions", 200, "read", f"/sets/19/sessions?uri={ONE}&offset=0&limit=10")
    # What is no text.
    for name, path in (("set", ""), ("destination", f"/destination?uri={ONE}"), ("sessions", "/sessions")):
        ask(name, 400, "read", "/sets/%ff" + path)
    orders()
    explained()
    # Of the calls that go on.
    story(live_call())
    ask("endSessions", 200, "operate", body=json.dumps({"set": 19, "destination": "sip:127.0.0.1:7010", "reason": "test"}))
    ask("endSessions", 404, "operate", body=json.dumps({"call_id": "nobody's", "reason": "test", "by": "alice"}))
    ask("endSessions", 400, "operate", body=json.dumps({"reason": "test"}))
    ask("endSessions", 413, "operate", body="x" * (65 << 10))
    ask("endSessions", 415, "operate", body="{}", kind="text/plain")
    happened()
    live()
    rows()
    tools()


def orders():
    for name in ("order", "postOrder"):
        path = f"/sets/19/destination/order?uri={OTHER}"
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
        ask(name, 400, "operate", f"/sets/%ff/destination/order?uri={OTHER}", order())
        ask(name, 403, "operate", path, order(), more=[("Origin", "http://evil.example")])
        ask(name, 200, "operate", path, order(order="ready"), more=[("Origin", NODE)])
        # An order that follows another than its giver has seen.
        seen = version(ask("destination", 200, "read", f"/sets/19/destination?uri={OTHER}"))
        now = version(ask(name, 200, "operate", path, order(expected=seen)))
        ask(name, 412, "operate", path, order(order="ready", expected=seen))
        # Nobody would be left.
        last = f"/sets/19/destination/order?uri={ONE}"
        ask(name, 409, "operate", last, order())
        ask(name, 403, "operate", last, order(force=True))
        ask(name, 200, "admin", last, order(force=True))
        ask(name, 200, "operate", last, order(order="ready"))
        ask(name, 200, "operate", path, order(order="ready", expected=now))


def version(story):
    return story["addresses"][0]["order"]["version"]


def explained():
    ask("explain", 200, "read", body=INVITE, kind="message/sip")
    ask("explain", 200, "read", "/explain?source=127.0.0.1:5072&listener=udp:127.0.0.1:8060", INVITE, "message/sip")
    ask("explain", 200, "read", body=INVITE.replace("OPENSIPS_TTS", "OTHER"), kind="message/sip")
    ask("explain", 400, "read", body="hello", kind="message/sip")
    ask("explain", 413, "read", body="x" * (65 << 10), kind="message/sip")


def until(what, found):
    """What is found in time, asked for again and again."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.1)
    sys.exit(f"{what} in {PATIENCE} s; and {wrong}")


def live_call():
    """The Call-ID of a session that can be ended."""
    def ours():
        return [one["call_id"] for one in ask("sessions", 200, "read")["sessions"] if one["endable"] and one["call_id"]]
    return until("no session is up", ours)[0]


def story(call_id):
    """A call is traced and ended, and its story has all kinds of steps."""
    told = ask("traceCall", 200, "operate", body=json.dumps({"call_id": call_id, "reason": "test", "for_seconds": 60}))
    if (told["call_id"], told["for_seconds"]) != (call_id, 60):
        wrong.append(f"{call_id} is traced as {told}")
    ask("endSessions", 200, "operate", body=json.dumps({"call_id": call_id, "reason": "test"}))
    path = f"/traces/{quoted(call_id)}"
    until("the call is not over", lambda: ask("trace", 200, "read", path)["over"])
    kinds = {step["kind"] for step in ask("trace", 200, "read", path)["steps"]}
    if kinds != {"message", "decision", "call", "end"}:
        wrong.append(f"a story has {kinds}")
    page = ask("traces", 200, "read", "/traces?offset=0&limit=1000")
    if call_id not in [one["call_id"] for one in page["traces"]]:
        wrong.append(f"{call_id} is not among the traces")
    ask("trace", 404, "read", "/traces/nobody")
    ask("trace", 400, "read", "/traces/%ff")
    for query in ("limit=0", "limit=1001", "offset=x", "page=1"):
        ask("traces", 400, "read", f"/traces?{query}")
    for body in ("{", "{}", '{"call_id": "a b", "reason": "x"}', '{"call_id": "a"}', '{"call_id": "a", "reason": "x", "for_seconds": 0}'):
        ask("traceCall", 400, "operate", body=body)
    ask("traceCall", 413, "operate", body="x" * (65 << 10))
    ask("traceCall", 415, "operate", body="{}", kind="text/plain")
    # More than may be asked for at once.
    for number in range(100):
        if call("POST", "/traces", "operate", json.dumps({"call_id": f"x{number}", "reason": "test"}))[0] != 200:
            break
    ask("traceCall", 429, "operate", body=json.dumps({"call_id": "x100", "reason": "test"}))


def happened():
    first = ask("events", 200, "read", "/events?since=0&limit=1&format=tandem")
    if [(one["sequence"], one["kind"]) for one in first["events"]] != [(1, "start")]:
        wrong.append(f"the first event is {first['events']}")
    # A forced order has left nobody.
    told = ask("events", 200, "read", "/events?limit=4096&format=opensips")["events"]
    if "inactive" not in [one["params"]["status"] for one in told]:
        wrong.append(f"OpenSIPS's events are {told}")
    for query in ("since=-1", "limit=0", "limit=4097", "format=xml", "after=1"):
        ask("events", 400, "read", f"/events?{query}")


def live():
    """A stream tells the whole, then each change; who comes again hears the rest; and no more may listen than there are places."""
    path = f"/sets/19/destination/order?uri={OTHER}"
    with answer("GET", "/stream", "read") as response:
        heard = Heard(response)
        heard.until("event", lambda entry: entry["kind"] == "start")
        ask("order", 200, "operate", path, order(reason="stream"))
        # The look and the journal tell of it in whichever order.
        begin = len(heard.text)
        for name in ("changes", "event"):
            if name not in [one for one, _, _ in events(heard.text[begin:])]:
                heard.until(name)
        sql("INSERT INTO `dispatcher` (`setid`, `destination`) VALUES (19, 'sip:127.0.0.1:7019')")
        ask("reload", 200, "operate", body=json.dumps({"reason": "stream"}))
        heard.until("sets", lambda all: "7019" in json.dumps(all))
        sql("DELETE FROM `dispatcher` WHERE `destination` LIKE '%7019'")
        ask("reload", 200, "admin", body=json.dumps({"reason": "stream", "force": True}))
        heard.until("sets", lambda all: "7019" not in json.dumps(all))
    ask("order", 200, "operate", path, order(order="ready"))
    wrong.extend(f"/stream: {fault}" for fault in document.faults("stream", response.status, EVENTS, heard.text))
    ids = [id for name, id, _ in events(heard.text) if name == "event"]
    with answer("GET", "/stream", "read", more=[("Last-Event-ID", ids[0])]) as response:
        text = Heard(response).until("event")
        again = next(id for name, id, _ in events(text) if name == "event")
        if again != ids[1]:
            wrong.append(f"after {ids[0]} comes {again}, not {ids[1]}")
    with contextlib.ExitStack() as all_places:
        for _ in range(100):
            response = all_places.enter_context(answer("GET", "/stream", "read"))
            if response.status != 200:
                break
        if response.status == 503:
            wrong.extend(document.faults("stream", 503, response.headers["Content-Type"], response.read().decode()))
        else:
            wrong.append(f"one /stream too many is answered by {response.status}")
    if document.seen_events != {"node", "sets", "changes", "event"}:
        wrong.append(f"/stream has told {document.seen_events}")


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
    ask("reload", 412, "operate", body=json.dumps({"reason": "as planned", "expected": "0" * 64}))
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
    ask("rollback", 412, "admin", body=json.dumps({"reason": "x", "version": "1", "expected": "0" * 64}))


def tools():
    def rpc(method, params=(), **id):
        return {"jsonrpc": "2.0", "method": method, "params": list(params), **id}

    uri = "sip:127.0.0.1:7011"
    for name, listing, state, bad in (("mi", "ds_list", "ds_set_state", 200), ("rpc", "dispatcher.list", "dispatcher.set_state", 500)):
        ask(name, 200, "read", body=json.dumps(rpc(listing, id=1)))
        ask(name, 200, "read", body=json.dumps([rpc(listing, id="a"), rpc("nothing", id=2)]))
        ask(name, 202, "read", body=json.dumps(rpc(listing)))
        ask(name, bad, "read", body=json.dumps(rpc("nothing", id=1)))
        ask(name, bad, "read", body="{")
        ask(name, 403, "read", body=json.dumps(rpc(state, ["i", 19, uri], id=1)))
        ask(name, 200, "operate", body=json.dumps(rpc(state, ["i", 19, uri], id=1)))
        ask(name, 200, "operate", body=json.dumps(rpc(state, ["a", 19, uri], id=1)))
        ask(name, 413, "read", body="x" * (65 << 10))
        ask(name, 415, "read", body="{}", kind="text/plain")


# What nobody can bring about from outside while the node is well.
BROKEN = {"500", "503"}


def untold():
    """Answers of the document that nothing here has brought about."""
    for name, _, _, told in document.operations():
        for status in told["responses"]:
            is_rare = name in ("ready", "drain") or status in BROKEN and name != "stream"
            if (name, status) not in document.seen and not is_rare:
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
