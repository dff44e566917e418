"""What the kernel tells of processes, sockets and the machine."""
import os
import signal
import subprocess
import time

HZ = os.sysconf("SC_CLK_TCK")


class Trouble(Exception):
    """Something that keeps us from measuring; its text says what to do."""


def read(path):
    with open(path) as file:
        return file.read()


def stat(pid):
    """/proc/PID/stat from its third field on: a name may hold spaces and brackets."""
    return read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def family(root):
    """A process and all its descendants."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                children.setdefault(int(stat(name)[1]), []).append(int(name))
            except OSError:
                pass
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


class Usage:
    """CPU seconds and context switches of some processes so far; the difference of two is what lies between."""

    def __init__(self, user, system, exact, switches):
        self.user, self.system, self.exact, self.switches = user, system, exact, switches

    def __sub__(self, other):
        return Usage(self.user - other.user, self.system - other.system, self.exact - other.exact,
                     self.switches - other.switches)


def usage(pids):
    user = system = nanoseconds = switches = 0
    for pid in pids:
        try:
            fields = stat(pid)
            user += int(fields[11])
            system += int(fields[12])
            # In nanoseconds, where `stat` counts ticks of 10 ms; but threads that have ended are missing here.
            for thread in os.listdir(f"/proc/{pid}/task"):
                on_cpu, _, times = read(f"/proc/{pid}/task/{thread}/schedstat").split()
                nanoseconds += int(on_cpu)
                switches += int(times)
        except OSError:
            pass
    return Usage(user / HZ, system / HZ, nanoseconds / 1e9, switches)


def total_kib(pids, file, key):
    """The sum of one line of a file like /proc/PID/status."""
    total = 0
    for pid in pids:
        try:
            total += sum(int(line.split()[1]) for line in read(f"/proc/{pid}/{file}").splitlines() if line.startswith(key))
        except OSError:
            pass
    return total


def rss_high_water_mib(pids):
    return total_kib(pids, "status", "VmHWM:") / 1024


def pss_mib(pids):
    return total_kib(pids, "smaps_rollup", "Pss:") / 1024


def cpu_used():
    """CPU seconds that the whole machine has used, and those that its host has taken from it."""
    ticks = [int(word) for word in read("/proc/stat").split("\n", 1)[0].split()[1:]]
    return (sum(ticks[:8]) - ticks[3] - ticks[4]) / HZ, ticks[7] / HZ


def cores_busy(seconds=1.0):
    before = cpu_used()[0]
    time.sleep(seconds)
    return (cpu_used()[0] - before) / seconds


def wait_until_quiet(seconds):
    """Waits until less than a fifth of one core is in use, at most for so long; tells how much is."""
    end = time.monotonic() + seconds
    while (busy := cores_busy()) >= 0.2 and time.monotonic() < end:
        pass
    return busy


def captures():
    """Open packet sockets: a capture of the loopback taxes every datagram."""
    return len(read("/proc/net/packet").splitlines()) - 1


def udp_sockets(port):
    rows = [line.split() for line in read("/proc/net/udp").splitlines()[1:]]
    return [row for row in rows if row[1] in (f"0100007F:{port:04X}", f"00000000:{port:04X}")]


def dropped(port):
    """Datagrams that found no room in the socket."""
    return sum(int(row[-1]) for row in udp_sockets(port))


def wait_for(test, seconds, what):
    end = time.monotonic() + seconds
    while not test():
        if time.monotonic() > end:
            raise Trouble(f"waited {seconds} s for {what}")
        time.sleep(0.05)


def start(command, folder, log, env=None, before=None):
    with open(log, "a") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, cwd=folder, env=env,
                                start_new_session=True, preexec_fn=before)


def stop(process, patience=8):
    """Ends a process that we started, and whatever it forked."""
    if process.poll() is not None:
        return
    descendants = family(process.pid)[1:]
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in descendants:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass


def idlers(folder):
    """One loop a core that takes only time that nobody else wants: cores never halt, so that a call costs the same on a quiet
    machine and beside somebody's build."""
    def lowest():
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    return [start(["/bin/sh", "-c", "while :; do :; done"], folder, os.devnull, before=lowest)
            for _ in range(os.cpu_count())]


def describe():
    info = read("/proc/cpuinfo").splitlines()
    model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), os.uname().machine)
    memory = next(int(line.split()[1]) for line in read("/proc/meminfo").splitlines() if line.startswith("MemTotal:"))
    return {"cpu": model, "cores": os.cpu_count(), "memory_gib": round(memory / 1024 / 1024, 1),
            "kernel": os.uname().release, "system": system_name()}


def system_name():
    try:
        lines = dict(line.split("=", 1) for line in read("/etc/os-release").splitlines() if "=" in line)
        return lines["PRETTY_NAME"].strip('"')
    except (OSError, KeyError):
        return os.uname().sysname
