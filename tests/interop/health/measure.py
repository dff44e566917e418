#!/usr/bin/env python3
"""measure.py outage FILE DIED RETURNED PORT...: what watch.py's FILE says of calls from port 5072 while the servers of those
ports were dead, each line `name value`. Times of death and return are seconds; what is printed is ms, or seconds where its
name ends in _s.
measure.py refusals FILE FROM TO: the 480s of the calls that began between these. measure.py answers ...: the 200s.
measure.py spread FILE FROM TO: how evenly OPTIONS left between these, by 100 ms."""

import sys
from collections import Counter, defaultdict

CALLER = 5072
GAP = 1.0    # A trial is an INVITE that comes so long after the one before it. Without a trial there are 100 a second.


def share(values, percent):
    """The smallest value that so many percent do not exceed."""
    values = sorted(values)
    return values[max(0, -(-len(values) * percent // 100) - 1)] if values else float("nan")


def read(file):
    lines = []
    with open(file) as log:
        for line in log:
            fields = line.split()
            if fields[0] == "lost":
                if fields[1] != "0":
                    sys.exit(f"{fields[1]} packets were not seen")
                return lines
            lines.append((float(fields[0]), int(fields[1]), int(fields[2]), fields[3], fields[4]))
    sys.exit("the watch was not ended")


def calls(lines):
    """When each call began, and its first final answer: when and which."""
    began, ended = {}, {}
    for time, source, destination, what, call in lines:
        if source == CALLER and what == "INVITE":
            began.setdefault(call, time)
        elif destination == CALLER and what.endswith("/INVITE") and what[0] != "1":
            ended.setdefault(call, (time, what[:3]))
    return began, ended


def waits(began, ended, code, first=0.0, last=float("inf")):
    """How long the calls of a time waited for that answer, in ms."""
    return [(ended[call][0] - time) * 1000 for call, time in began.items()
            if first <= time < last and call in ended and ended[call][1] == code]


def tell(**values):
    for name, value in values.items():
        print(name, f"{value:.1f}" if isinstance(value, float) else value)


def outage(file, died, returned, *ports):
    died, returned, ports = float(died), float(returned), [int(port) for port in ports]
    lines = read(file)
    began, ended = calls(lines)
    codes = Counter(code for _, code in ended.values())
    # When each of them first got each call, when it answered it 200, and when its host said that nobody is there.
    tries, answers, refusals = defaultdict(dict), defaultdict(dict), defaultdict(dict)
    arrivals = []
    for time, source, destination, what, call in lines:
        if what == "INVITE" and source != CALLER and destination != CALLER:
            arrivals.append((time, destination))
            if destination in ports:
                tries[destination].setdefault(call, time)
        elif what == "200/INVITE" and source in ports:
            answers[source].setdefault(call, time)
        elif what == "icmp/INVITE" and destination in ports:
            refusals[destination].setdefault(call, time)
    during, refused, trials, last, third, back = 0, 0, 0, 0.0, 0.0, 0.0
    for port in ports:
        times = sorted(time for time in tries[port].values() if died <= time < returned)
        before = died
        run = []
        for time in times:
            if run and time - before >= GAP:
                trials += 1
            else:
                run.append(time)
                before = time
        during += len(run)
        last = max([last] + [time - died for time in run])
        errors = sorted(time for time in refusals[port].values() if died <= time < returned)
        refused += len(errors)
        if len(errors) >= 3:
            third = max(third, run[-1] - errors[2])
        good = [answers[port][call] for call, time in tries[port].items() if time >= returned and call in answers[port]]
        back = max(back, min(good, default=float("inf")) - returned)
    # Of the last two seconds: whether those that were dead have their share again.
    end = max(began.values())
    late = [port for time, port in arrivals if time > end - 2]
    good = waits(began, ended, "200")
    tell(calls=len(began), answered=codes["200"], refused=codes["480"],
         other=len(began) - codes["200"] - codes["480"], tries=during, refusals=refused, trials=trials, last_s=round(last, 3),
         behind_third=third * 1000, back_s=round(back, 3), share=100 * sum(port in ports for port in late) // max(1, len(late)),
         p50=share(good, 50), p99=share(good, 99), max=max(good, default=float("nan")))


def refusals(file, first, last):
    final("480", "refused", file, float(first), float(last))


def answers(file, first, last):
    final("200", "answered", file, float(first), float(last))


def final(code, name, file, first, last):
    began, ended = calls(read(file))
    all_of_it = [call for call, time in began.items() if first <= time < last]
    times = waits(began, ended, code, first, last)
    tell(calls=len(all_of_it), **{name: len(times)}, p50=share(times, 50), p99=share(times, 99), max=max(times, default=float("nan")))


def spread(file, first, last):
    first, last = float(first), float(last)
    sent = [time for time, _, _, what, _ in read(file) if what == "OPTIONS" and first <= time < last]
    slots = Counter(int((time - first) * 10) for time in sent)
    counts = [slots[slot] for slot in range(int((last - first) * 10))]
    mean = len(sent) / max(1, len(counts))
    tell(sent=len(sent), mean=mean, p99=share(counts, 99), max=max(counts, default=0), quotient=round(share(counts, 99) / max(mean, 0.001), 2))


{"outage": outage, "refusals": refusals, "answers": answers, "spread": spread}[sys.argv[1]](*sys.argv[2:])
