"""One proxy under calls at one rate: what it costs, and what the caller sees."""
import os
import shutil
import tempfile
import time
from contextlib import contextmanager

import calls
import machine
import proxies

# Until the last transactions and the timers that clear them are gone: they are part of the price.
SETTLE = 7.0


@contextmanager
def scene(proxy, wrap=(), patience=20, warm=False):
    """A proxy between its servers in a scratch folder: (folder, proxy's process, servers, idlers). All ends with the block."""
    proxies.check_ports()
    folder = tempfile.mkdtemp(prefix=f"side-by-side-{proxy.name}-")
    os.chmod(folder, 0o755)     # a Kamailio of Debian's may drop its rights
    running = []
    try:
        idlers = machine.idlers(folder) if warm else []
        running += idlers
        servers = calls.start_servers(folder)
        running += servers
        process = proxy.start(folder, [word.replace("@RUN@", folder) for word in wrap], patience)
        running.append(process)
        yield folder, process, servers, idlers
    finally:
        for process in reversed(running):
            machine.stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def measure(proxy, rate, seconds, warm):
    with scene(proxy, warm=warm) as (folder, process, servers, idlers):
        calls.call(folder, "first", 100, 200)
        time.sleep(2.5)     # until the servers have written their counters
        return under_calls(proxy, rate, seconds, folder, process, servers, idlers)


def under_calls(proxy, rate, seconds, folder, process, servers, idlers):
    pids = machine.family(process.pid)
    server_pids, idler_pids = [one.pid for one in servers], [one.pid for one in idlers]
    before = calls.server_counters(folder)
    dropped = machine.dropped(proxies.PORT)
    captures = machine.captures()
    servers_before, idlers_before = machine.usage(server_pids), machine.usage(idler_pids)
    machine_before, stolen_before = machine.cpu_used()
    began = time.monotonic()
    own_before = machine.usage(pids)

    wanted = rate * seconds
    caller = calls.start_caller(folder, "measured", rate, wanted)
    try:
        caller_cpu, pss, turn = 0.0, 0.0, 0
        deadline = began + 3 * seconds + 60
        while caller.poll() is None and time.monotonic() < deadline:
            time.sleep(0.25)
            caller_cpu = machine.usage([caller.pid]).exact or caller_cpu
            turn += 1
            if turn % 8 == 0:   # the kernel walks the page tables for it
                pss = max(pss, machine.pss_mib(pids))
    finally:
        machine.stop(caller)
    took = time.monotonic() - began
    dropped = machine.dropped(proxies.PORT) - dropped
    time.sleep(SETTLE)

    used = machine.usage(pids) - own_before
    machine_after, stolen_after = machine.cpu_used()
    servers_used = (machine.usage(server_pids) - servers_before).exact
    idlers_used = (machine.usage(idler_pids) - idlers_before).exact
    wall = time.monotonic() - began
    at_caller = calls.counters(folder, "measured")
    at_servers = [[now - then for now, then in zip(*pair)] for pair in zip(calls.server_counters(folder), before)]
    answered = int(at_caller["SuccessfulCall(C)"])
    times = calls.response_times(folder)
    invite, bye = times.get("invite", []), times.get("bye", [])
    per_call = 1 / max(answered, 1)
    foreign = machine_after - machine_before - used.exact - caller_cpu - servers_used - idlers_used
    return {
        "proxy": proxy.name, "rate": rate, "seconds": seconds,
        "calls": wanted, "answered": answered,
        # Those that SIPp calls failed, and those that it never came to make or to end.
        "failed": wanted - answered,
        "failed_at_servers": sum(row[1] for row in at_servers),
        "retransmissions": {"caller": int(at_caller["Retransmissions(C)"]), "servers": sum(row[2] for row in at_servers)},
        "split": [row[0] for row in at_servers],
        "dropped_datagrams": dropped,
        "cpu_per_1000": round(used.exact * 1000 * per_call, 4),
        "cpu_ticks_per_1000": round((used.user + used.system) * 1000 * per_call, 4),
        "cpu_user_s": round(used.user, 2), "cpu_system_s": round(used.system, 2),
        "switches_per_call": round(used.switches * per_call, 2),
        "invite_ms": {name: calls.quantile(invite, share)
                      for name, share in (("p50", .5), ("p90", .9), ("p99", .99), ("p999", .999), ("max", 1))},
        "bye_ms": {"p50": calls.quantile(bye, .5), "p99": calls.quantile(bye, .99)},
        "rss_mib": round(machine.rss_high_water_mib(pids), 1),
        "pss_mib": round(max(pss, machine.pss_mib(pids)), 1),
        "processes": len(pids),
        "calls_per_second": round(wanted / took, 1),
        "caller_cpu_s": round(caller_cpu, 2), "servers_cpu_s": round(servers_used, 2),
        "foreign_cpu_s": round(foreign, 2), "stolen_cpu_s": round(stolen_after - stolen_before, 2),
        "captures": max(captures, machine.captures()),
        "wall_s": round(wall, 1),
        # Somebody else's work makes a proxy read in batches, and calls look cheaper.
        "disturbed": foreign > 0.15 * wall or captures > 0,
    }
