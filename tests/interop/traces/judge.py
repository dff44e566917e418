#!/usr/bin/env python3
"""judge.py FOLDER CALLS: whether what a node told of so many calls is right: of each all messages by HEP, and its spans. One of the
servers, 127.0.0.1:7010, is dead, and takes the first try of some."""

import collections
import json
import sys

SERVER, CLIENT = 2, 3
OK, ERROR = 1, 2


def attributes(one):
    return {each["key"]: next(iter(each["value"].values())) for each in one.get("attributes", [])}


def spans(folder):
    for line in open(f"{folder}/spans"):
        for of_node in json.loads(line)["resourceSpans"]:
            assert attributes(of_node["resource"])["service.name"] == "tandem", of_node["resource"]
            for scope in of_node["scopeSpans"]:
                yield from scope["spans"]


def judge_spans(folder, calls):
    by_trace = collections.defaultdict(list)
    for span in spans(folder):
        by_trace[span["traceId"]].append(span)
    assert len(by_trace) == calls, f"{len(by_trace)} traces of {calls} calls"
    failed = 0
    for trace, all_of_it in by_trace.items():
        assert len(trace) == 32, trace
        root = [one for one in all_of_it if not one.get("parentSpanId")]
        tries = [one for one in all_of_it if one.get("parentSpanId")]
        assert len(root) == 1 and root[0]["kind"] == SERVER and root[0]["name"] == "INVITE tts", root
        root = root[0]
        said = attributes(root)
        assert said["tandem.rule"] == "tts" and said["tandem.set"] == "19" and said["sip.status_code"] == "200", said
        assert said["tandem.destination"] == "sip:127.0.0.1:7011" and said["tandem.ending"] == "caller_bye", said
        assert said["network.peer.address"] == "127.0.0.1" and said["network.transport"] == "udp", said
        assert root["status"]["code"] == OK and "error.type" not in said, root
        names = [event["name"] for event in root["events"]]
        assert names[0] == "received INVITE" and "received BYE" in names and names[-1] == "sent 200", names
        assert 1 <= len(tries) <= 2, tries
        tries.sort(key=lambda one: int(attributes(one)["tandem.try"]))
        for one in tries:
            assert one["kind"] == CLIENT and one["parentSpanId"] == root["spanId"], one
            begun, ended = int(one["startTimeUnixNano"]), int(one["endTimeUnixNano"])
            assert int(root["startTimeUnixNano"]) <= begun <= ended <= int(root["endTimeUnixNano"]), (root, one)
            assert attributes(one)["sip.call_id"] == said["sip.call_id"] and attributes(one)["tandem.set"] == "19", one
        last = attributes(tries[-1])
        assert last["network.peer.port"] == "7011" and last["sip.status_code"] == "200", last
        assert tries[-1]["status"]["code"] == OK and last["tandem.destination"] == "sip:127.0.0.1:7011", tries[-1]
        if len(tries) == 2:
            first = attributes(tries[0])
            assert first["network.peer.port"] == "7010" and first["error.type"] == "icmp", first
            assert tries[0]["status"]["code"] == ERROR and said["tandem.codes"] == "503,200", tries[0]
            failed += 1
    assert failed, "no call tried the dead server"
    return failed


def judge_hep(folder, calls):
    by_call = collections.defaultdict(list)
    for line in open(f"{folder}/hep"):
        one = json.loads(line)
        assert one["family"] == 2 and one["protocol"] == 17 and one["type"] == 1 and one["id"] == 7, one
        assert one["password"] == "hep secret" and one["micros"] < 1_000_000 and one["seconds"] > 1_700_000_000, one
        assert f"Call-ID: {one['correlation']}\r\n" in one["payload"], one
        by_call[one["correlation"]].append(one)
    assert len(by_call) == calls, f"messages of {len(by_call)} calls of {calls}"
    count = 0
    for packets in by_call.values():
        count += len(packets)
        way = [(one["payload"].split(" ")[0], one["source_port"], one["target_port"]) for one in packets]
        assert way[0][0] == "INVITE" and way[0][2] == 8060, way
        assert any(name == "INVITE" and (source, target) == (8060, 7011) for name, source, target in way), way
        assert any(name == "BYE" and target == 8060 for name, _, target in way), way
        assert any(name == "SIP/2.0" and source == 7011 for name, source, _ in way), way
    return count


def main():
    folder, calls = sys.argv[1], int(sys.argv[2])
    print(judge_spans(folder, calls), judge_hep(folder, calls))


if __name__ == "__main__":
    main()
