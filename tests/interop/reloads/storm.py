#!/usr/bin/env python3
"""storm.py KIND RELOADS FOLDER: a database of that kind (mariadb, postgres) with set 19's two servers and 1,000 rows in other sets;
its URL is in FOLDER/url. Once FOLDER/go is there, RELOADS reloads of the node at 127.0.0.1:9060, between which random rows change,
and all that can happen to a database. What came of it is printed, and FOLDER/done written; `fault:` begins what is wrong. The
database lives until SIGTERM."""

import http.client
import json
import random
import signal
import sys
import time
from pathlib import Path

from database import KINDS
from judge import causes, differing

OTHERS = range(101, 111)
LIVING = ["sip:127.0.0.1:7010", "sip:127.0.0.1:7011"]
PATIENCE = 30       # Seconds that the node may take to see something.
POLLED = 8          # Seconds in which it finds by itself what has changed or gone wrong: it looks once a second, and pauses up to 1.5 s.
COMPARED = 100      # Reloads after which the node's sets are compared with the table.

COLUMNS = "setid, destination, state, weight, priority, attrs, description"
ROWS = "SELECT setid, destination, weight, priority, description FROM dispatcher;"


def ask(method, path):
    """The status and the JSON of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1:9060", timeout=PATIENCE)
    connection.request(method, path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def metric(name, label):
    lines = ask("GET", "/metrics")[1].splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name + "{") and label in line)


def until(what, holds, patience=PATIENCE):
    """Waits for it; whether it came."""
    end = time.monotonic() + patience
    while not holds():
        if time.monotonic() > end:
            return fault(f"after {patience} s: {what}")
        time.sleep(0.1)
    return True


def fault(text):
    print(f"fault: {text}", flush=True)
    return False


class Table:
    """The rows, and how they change."""

    def __init__(self, chance):
        self.chance = chance
        self.next = 0
        self.there = []

    def fill(self):
        """The first rows."""
        rows = [(19, uri) for uri in LIVING]
        rows += [self.new(number) for number in OTHERS for _ in range(100)]
        return self.insert(rows)

    def new(self, number):
        self.next += 1
        self.there.append((number, f"sip:10.77.{self.next >> 8}.{self.next & 255}:7010"))
        return self.there[-1]

    def insert(self, rows):
        value = lambda row: f"({row[0]}, '{row[1]}', 0, '1', 100, 'pstn=100', 'MRCP_SERVER')"
        return f"INSERT INTO dispatcher ({COLUMNS}) VALUES {', '.join(map(value, rows))};"

    def change(self):
        """A transaction that changes some rows; the two servers of set 19 stay, whatever their weights and priorities."""
        return "\n".join(["BEGIN;", *(self.one() for _ in range(self.chance.randint(1, 5))), "COMMIT;"])

    def rename(self):
        """One change that calls do not go by."""
        return f"UPDATE dispatcher SET description = 'server {self.chance.randrange(10**6)}' WHERE setid = 19;"

    def one(self):
        chance = self.chance
        kind = chance.choice(["weight", "priority", "attrs", "description", "add", "remove"])
        number, uri = chance.choice(self.there + [(19, uri) for uri in LIVING] * 20)
        match kind:
            case "add":
                return self.insert([self.new(chance.choice(OTHERS))])
            case "remove":
                number, uri = self.there.pop(chance.randrange(len(self.there)))
                return f"DELETE FROM dispatcher WHERE setid = {number} AND destination = '{uri}';"
            case "weight" | "priority":
                value = chance.randint(1, 100)
            case "attrs":
                value = f"pstn={chance.randint(1, 500)};x={chance.randrange(10**6)}"
            case "description":
                value = f"server {chance.randrange(10**6)}"
        return f"UPDATE dispatcher SET {kind} = '{value}' WHERE setid = {number} AND destination = '{uri}';"


class Storm:
    def __init__(self, server, folder, chance):
        self.server, self.folder, self.table = server, folder, Table(chance)
        self.counts = {"effective": 0, "unchanged": 0, "refused": 0, "failed": 0}

    def reload(self):
        """What came of one: `effective`, `unchanged` (a poll was first), `refused` or `failed`."""
        status, text = ask("POST", "/reload")
        answer = json.loads(text)
        if status == 200:
            came = "effective" if answer["added"] + answer["removed"] + answer["changed"] else "unchanged"
        else:
            came = "refused" if answer.get("refused") else "failed"
        self.counts[came] += 1
        return came

    def partition(self):
        return json.loads(ask("GET", "/store")[1])["partitions"][0]

    def read(self):
        """When the node has read the rows last."""
        return self.partition()["read"]

    def digest(self):
        """What the rows say that are in place."""
        return self.partition()["digest"]

    def degraded(self):
        """What the node says is worse. It is ready all the while."""
        status, text = ask("GET", "/ready")
        if status != 200:
            fault(f"/ready is {status}: {text}")
        return json.loads(text)["degraded"]

    def is_well(self):
        return self.degraded() == []

    def compare(self, when):
        rows, sets = self.server.sql(ROWS), json.loads(ask("GET", "/sets")[1])
        missing, more = differing(rows, sets)
        if missing or more:
            fault(f"{when}: the node has not {missing[:3]} ({len(missing)}), and has {more[:3]} ({len(more)})")

    def outage(self, name, begin, end, came, word, tries=3):
        """Something goes wrong: each reload comes to that, the node says so and stays ready, the log tells it once, and all is well
        soon after its end."""
        log = self.folder / "tandem.log"
        before, began = log.stat().st_size, time.monotonic()
        read = metric("tandem_reloads_total", 'result="failed"') + metric("tandem_reloads_total", 'result="refused"')
        begin()
        for _ in range(tries):
            this = self.reload()
            if this != came:
                fault(f"{name}: a reload came to {this}, not {came}")
        told = lambda: any(word in one for one in self.degraded())
        until(f"/ready says nothing of {word!r} while {name}", told)
        if came == "failed":
            # The polls meet it too.
            failed = lambda: metric("tandem_reloads_total", 'result="failed"') >= read + tries + 2
            until(f"no poll has failed while {name}", failed, POLLED)
        else:
            seen = set()
            until(f"no poll has read the rows while {name}", lambda: seen.add(self.read()) or len(seen) > 3)
        lasted = time.monotonic() - began
        with open(log) as file:
            file.seek(before)
            counts = causes(file.read())
        end()
        back = time.monotonic()
        # By itself, or by the next reload: whichever comes first.
        well = lambda: self.reload() in ("effective", "unchanged") and self.is_well()
        until(f"/ready is not well again after {name}", well)
        healed = time.monotonic() - back
        self.poll(name)
        if not counts or len(counts) > 3:
            fault(f"{name}: the log tells {len(counts)} causes: {dict(counts)}")
        for cause, count in counts.items():
            if count != 1:
                fault(f"{name}: the log tells {count} times: {cause}")
        print(f"  {name}: {lasted:.1f} s; told in {len(counts)} lines; well again {healed:.1f} s after its end", flush=True)

    def poll(self, name):
        """The node finds a change by itself, as if nothing had been."""
        before = self.digest()
        self.server.sql(self.table.rename())
        until(f"a change after {name} is not found", lambda: self.digest() != before, POLLED)

    def outages(self):
        server, table = self.server, self.table
        nonsense = f"INSERT INTO dispatcher ({COLUMNS}) VALUES (19, 'nonsense', 0, 'heavy', 1, '', ''), (-7, '', 9, '1', 1, '', '');"
        sense = "DELETE FROM dispatcher WHERE weight = 'heavy' OR setid < 0;"

        def empty():
            server.sql("CREATE TABLE kept AS SELECT * FROM dispatcher; DELETE FROM dispatcher;")

        def drop():
            server.sql("CREATE TABLE kept AS SELECT * FROM dispatcher; DROP TABLE dispatcher;")

        def fill():
            server.sql(f"BEGIN; INSERT INTO dispatcher ({COLUMNS}) SELECT {COLUMNS} FROM kept ORDER BY id; COMMIT; DROP TABLE kept;")

        def restore():
            server.make_table()
            fill()

        return [
            ("the database is dead", server.kill, server.start, "failed", "can't"),
            ("the database hangs", server.hang, server.go_on, "failed", "no answer within 1s", 1),
            ("the table is gone", drop, restore, "failed", "no table dispatcher"),
            ("rows are nonsense", lambda: server.sql(nonsense), lambda: server.sql(sense), "failed", "nonsense"),
            ("the table is empty", empty, fill, "refused", "no row is left"),
        ]

    def run(self, reloads):
        outages = self.outages()
        at = {(nth + 1) * reloads // (len(outages) + 1): outage for nth, outage in enumerate(outages)}
        waited = []
        for nth in range(reloads):
            if outage := at.get(nth):
                self.outage(*outage)
            self.server.sql(self.table.change())
            began = time.monotonic()
            came = self.reload()
            waited.append(time.monotonic() - began)
            if came not in ("effective", "unchanged"):
                fault(f"reload {nth} of good rows came to {came}")
            if nth % COMPARED == 0:
                self.compare(f"after reload {nth}")
        self.compare("at the end")
        plan = json.loads(ask("GET", "/plan")[1])["partitions"][0]
        if plan["changes"] or plan["refused"] or plan.get("error") or plan["rows"] != plan["digest"]:
            fault(f"the plan says that the rows are not what is in place: {str(plan)[:300]}")
        until("/ready is not well at the end", self.is_well)
        counts = self.counts
        print(f"  reloads: {sum(counts.values())}, of which {counts['effective']} took effect, {counts['unchanged']} found that a poll had"
              f" been first, {counts['refused']} were refused, {counts['failed']} failed; {1000 * sum(waited) / len(waited):.0f} ms each")


def main(kind, reloads, folder):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder, seed = Path(folder), random.randrange(10**6)
    server = KINDS[kind]()
    try:
        server.start()
        storm = Storm(server, folder, random.Random(seed))
        server.make()
        server.sql(storm.table.fill())
        (folder / "url").write_text(server.url())
        while not (folder / "go").exists():
            time.sleep(0.05)
        print(f"  seed {seed}", flush=True)
        storm.run(int(reloads))
        (folder / "done").write_text("")
        signal.pause()
    finally:
        server.remove()


if __name__ == "__main__":
    main(*sys.argv[1:])
