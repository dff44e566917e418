"""SIPp on both sides of a proxy, and what its files tell."""
import csv
import glob
import os
import subprocess

import machine
import proxies
import setup
from machine import Trouble

CALLER = 8062
# SIPp would choose its control ports itself, and might choose one that is wanted.
CONTROL = 18060
# Between ACK and BYE. Without any the two leave back to back, and a proxy with several workers may turn them round.
HOLD_MS = 50

# SIPp keeps up with anything that we send; -deadcall_wait 0 keeps its memory flat.
COMMON = ["-nostdin", "-i", "127.0.0.1", "-trace_stat", "-fd", "1", "-trace_err", "-deadcall_wait", "0",
          "-buff_size", "4000000", "-max_recv_loops", "2000", "-max_sched_loops", "20000",
          "-watchdog_minor_maxtriggers", "100000", "-watchdog_major_maxtriggers", "100000"]


def scenario(name):
    return os.path.join(setup.HERE, "sipp", f"{name}.xml")


def files(folder, name):
    return ["-stf", os.path.join(folder, f"{name}.csv"), "-error_file", os.path.join(folder, f"{name}.err")]


def start_servers(folder):
    servers = []
    try:
        for number, port in enumerate(proxies.SERVERS, 1):
            name = f"server-{port}"
            process = machine.start(
                ["sipp", "-sf", scenario("server"), "-p", str(port), "-cp", str(CONTROL + number), *files(folder, name), *COMMON],
                folder, os.devnull)
            servers.append(process)
            machine.wait_for(lambda: process.poll() is not None or machine.udp_sockets(port), 10, f"SIPp on port {port}")
            if process.poll() is not None:
                raise Trouble(f"SIPp ended at once, its port {port} may be taken")
    except BaseException:
        for process in servers:
            machine.stop(process)
        raise
    return servers


def start_caller(folder, name, rate, calls):
    # Response times are written in blocks of -rtt_freq calls, and the rest is lost.
    command = ["sipp", f"127.0.0.1:{proxies.PORT}", "-sf", scenario("caller"), "-p", str(CALLER), "-cp", str(CONTROL),
               "-r", str(rate), "-m", str(calls), "-l", "60000", "-d", str(HOLD_MS), "-timer_resol", "1",
               "-trace_rtt", "-rtt_freq", "100", *files(folder, name), *COMMON]
    return machine.start(command, folder, os.devnull, env=dict(os.environ, LD_PRELOAD=setup.fine_clock()))


def call(folder, name, rate, calls):
    """Makes calls and waits for their end; returns the caller's counters."""
    caller = start_caller(folder, name, rate, calls)
    try:
        caller.wait(60 + 3 * calls / rate)
    except subprocess.TimeoutExpired:
        raise Trouble(f"{calls} calls at {rate}/s do not end") from None
    finally:
        machine.stop(caller)
    return counters(folder, name)


def counters(folder, name):
    """SIPp's last whole line of counters."""
    with open(os.path.join(folder, f"{name}.csv")) as file:
        head, *rows = csv.reader(file, delimiter=";")
    whole = [row for row in rows if len(row) == len(head)]
    if not whole:
        raise Trouble(f"SIPp wrote no counters for {name}")
    return dict(zip(head, whole[-1]))


def server_counters(folder):
    """Of each server: the calls it has got, those that failed there, what it has sent again."""
    rows = [counters(folder, f"server-{port}") for port in proxies.SERVERS]
    return [[int(row[column]) for column in ("TotalCallCreated", "FailedCall(C)", "Retransmissions(C)")] for row in rows]


def response_times(folder):
    """The caller's times in ms, sorted: {"invite": [...], "bye": [...]}."""
    times = {}
    newest = max(glob.glob(os.path.join(folder, "caller_*_rtt.csv")), key=os.path.getmtime, default=None)
    if newest:
        with open(newest) as file:
            for row in csv.reader(file, delimiter=";"):
                if len(row) >= 3 and row[0][:1].isdigit():
                    times.setdefault(row[2], []).append(float(row[1]))
    for values in times.values():
        values.sort()
    return times


def quantile(values, share):
    return round(values[min(len(values) - 1, int(len(values) * share))], 3) if values else None
