"""Counts that other load on the machine cannot spoil: system calls and user instructions per call."""
import os
import re
import signal
import subprocess
import time

import calls
import machine
import trial
from machine import Trouble

# What an idle proxy does is counted for so long, and taken off.
IDLE = 10
# After the last call, for the transactions that linger.
SETTLE = 7


def syscalls(proxy, wanted):
    rate = 100
    with trial.scene(proxy) as (folder, process, _, _):
        calls.call(folder, "first", rate, 60)
        time.sleep(SETTLE)
        pids = machine.family(process.pid)
        idle, _ = traced(folder, pids, lambda: time.sleep(IDLE))
        counts, counters = traced(folder, pids, lambda: load(folder, rate, wanted))
    answered = answered_calls(counters)
    seconds = wanted / rate + SETTLE
    names = {name: (count - idle.get(name, 0) * seconds / IDLE) / answered for name, count in counts.items()}
    return {
        "record": "syscalls", "proxy": proxy.name, "calls": answered, "rate": rate,
        "retransmissions": int(counters["Retransmissions(C)"]),
        "syscalls_per_call": round(sum(names.values()), 2),
        "idle_syscalls_per_s": round(sum(idle.values()) / IDLE, 1),
        "by_name": {name: round(count, 2) for name, count in sorted(names.items(), key=lambda pair: -pair[1]) if count >= 0.02},
    }


def traced(folder, pids, work):
    """({system call: how often}, what `work` returned), counted over all those processes and their threads."""
    out = os.path.join(folder, "strace.txt")
    attach = [word for pid in pids for word in ("-p", str(pid))]
    tracer = subprocess.Popen(["strace", "-f", "-c", "-o", out, *attach], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True)
    try:
        # "strace: Process 42 attached": once for each process, at least.
        for _ in pids:
            line = tracer.stderr.readline()
            if "attached" not in line:
                raise Trouble(f"strace cannot attach: {line.strip()}")
        result = work()
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=30)
    counts = {}
    for line in machine.read(out).splitlines():
        # "% time, seconds, usecs/call, calls, errors, syscall"; errors may be missing.
        row = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line.rstrip())
        if row and row[2] != "total":
            counts[row[2]] = int(row[1])
    return counts, result


def instructions(proxy, wanted, keep=None):
    """User instructions, by callgrind. `keep`: where the profile of the measured calls goes, for callgrind_annotate."""
    rate = 20
    wrap = ["valgrind", "--tool=callgrind", "--trace-children=yes", "-q", "--callgrind-out-file=@RUN@/callgrind.%p"]
    with trial.scene(proxy, wrap, patience=120) as (folder, process, _, _):
        time.sleep(5)
        calls.call(folder, "first", rate, 60)
        time.sleep(SETTLE)
        pids = machine.family(process.pid)
        idle, _, _ = profiled(folder, pids, lambda: time.sleep(IDLE))
        total, counters, profiles = profiled(folder, pids, lambda: load(folder, rate, wanted))
        if keep:
            # One for each process that did any work: the only one is FILE, several are FILE.PID.
            for pid, path in profiles.items():
                keep_profile(path, keep if len(profiles) == 1 else f"{keep}.{pid}")
    answered = answered_calls(counters)
    seconds = wanted / rate + SETTLE
    return {
        "record": "instructions", "proxy": proxy.name, "calls": answered, "rate": rate,
        "retransmissions": int(counters["Retransmissions(C)"]),
        "instructions_per_call": round((total - idle * seconds / IDLE) / answered),
        "idle_instructions_per_s": round(idle / IDLE),
    }


def profiled(folder, pids, work):
    """(instructions of all those processes, what `work` returned, {pid: its profile})."""
    for pid in pids:
        control("--zero", pid)
    result = work()
    before = set(os.listdir(folder))
    for pid in pids:
        control("--dump", pid)
    # callgrind.PID.NUMBER, and its last lines hold the sum.
    profiles = {}
    total = 0
    for name in set(os.listdir(folder)) - before:
        row = re.search(r"^(?:summary|totals): (\d+)", machine.read(os.path.join(folder, name)), re.M)
        if name.startswith("callgrind.") and row:
            total += int(row[1])
            profiles[int(name.split(".")[1])] = os.path.join(folder, name)
    if not profiles:
        raise Trouble("callgrind wrote no profile")
    return total, result, profiles


def keep_profile(path, kept):
    """Functions that ran all the while were called 0 times, and callgrind_annotate takes what they called for their own: it is
    told that they were called once."""
    with open(kept, "w") as file:
        file.write(re.sub(r"^calls=0 ", "calls=1 ", machine.read(path), flags=re.M))


def control(order, pid):
    subprocess.run(["callgrind_control", order, str(pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   check=True, timeout=60)


def load(folder, rate, wanted):
    counters = calls.call(folder, "measured", rate, wanted)
    time.sleep(SETTLE)
    return counters


def answered_calls(counters):
    answered = int(counters["SuccessfulCall(C)"])
    if not answered:
        raise Trouble("no call was answered")
    return answered
