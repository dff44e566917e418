"""Asks Prometheus every query of every dashboard: ask.py PROMETHEUS FOLDER SECONDS SINCE NAME=VALUE...

Variables are resolved as Grafana does, by their own queries, or have the value that is given. Each query, of variables and
annotations too, must have an answer with a number in it, of the time since SINCE (a Unix time); it is asked again until it has
one, at most for so many seconds. Then the rules: each recording rule has data, no rule has an error."""

import json
import math
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path


class Prometheus:
    def __init__(self, address):
        self.base = f"http://{address}/api/v1/"

    def get(self, path, **parameters):
        url = self.base + path + "?" + urllib.parse.urlencode(parameters, doseq=True)
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error).get("error", str(error))) from None

    def numbers(self, expression, instant, since):
        """How many numbers the answer holds."""
        now = time.time()
        if instant:
            data = self.get("query", query=expression, time=now)
        else:
            data = self.get("query_range", query=expression, start=since, end=now, step=2)
        values = [pair for series in data["result"] for pair in series.get("values", [series.get("value")])]
        return sum(1 for _, value in values if not math.isnan(float(value)))


def replaced(text, values):
    """With `$name` and `${name}` replaced. A variable that is not known stays, and Prometheus complains of it."""
    return re.sub(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))", lambda found: values.get(found[1] or found[2], found[0]), text)


def resolve(prometheus, board, values, given):
    """The variables of a board; a complaint for each that has no value."""
    for variable in board["templating"]["list"]:
        name, kind = variable["name"], variable["type"]
        if kind == "custom":
            values[name] = given.get(name, variable["current"]["value"])
        elif kind == "query":
            query = replaced(variable["query"]["query"], values)
            selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", query).groups()
            found = prometheus.get(f"label/{label}/values", **{"match[]": selector})
            if not found:
                yield f"variable {name}: {query} has no values"
            elif given.get(name, found[0]) not in found:
                yield f"variable {name}: {given[name]} is not among {found}"
            values[name] = variable["allValue"] if variable["includeAll"] else given.get(name, found[0] if found else "")


def queries(board):
    """What is asked: where, expression, and whether it is for one moment."""
    for note in board["annotations"]["list"]:
        if not note.get("builtIn"):
            yield f"annotation {note['name']}", note["target"]["expr"], False
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield f"panel \"{panel['title']}\" {target['refId']}", target["expr"], target.get("instant", False)


def complaints(prometheus, folder, since, given):
    asked = 0
    faults = []
    for path in sorted(folder.glob("*.json")):
        board = json.loads(path.read_text())
        values = {"__rate_interval": "20s", "__range": f"{max(20, int(time.time() - since))}s"}
        faults += [f"{path.name}: {fault}" for fault in resolve(prometheus, board, values, given)]
        for where, expression, instant in queries(board):
            asked += 1
            expression = replaced(expression, values)
            try:
                count = prometheus.numbers(expression, instant, since)
            except ValueError as error:
                faults.append(f"{path.name}: {where}: {error}: {expression}")
                continue
            if not count:
                faults.append(f"{path.name}: {where} has no data: {expression}")
    return asked, faults


def rules(prometheus):
    groups = prometheus.get("rules")["groups"]
    every = [rule for group in groups for rule in group["rules"]]
    for rule in every:
        if rule["health"] != "ok":
            yield f"rule {rule['name']}: {rule['health']}: {rule.get('lastError', '')}"
        elif rule["type"] == "recording" and not prometheus.numbers(rule["name"], True, 0):
            yield f"rule {rule['name']} has no data"
    if not every:
        yield "Prometheus has no rules"


def main():
    address, folder, seconds, since = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    given = dict(pair.split("=", 1) for pair in sys.argv[5:])
    prometheus = Prometheus(address)
    end = time.monotonic() + seconds
    while True:
        asked, faults = complaints(prometheus, folder, since, given)
        faults += rules(prometheus)
        if not faults or time.monotonic() > end:
            break
        time.sleep(1)
    for fault in faults:
        print(fault)
    print(f"{asked} queries asked, {len(faults)} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
