"""How each proxy is started. A proxy is a function that writes its files into a folder and returns its command line."""
import os
import re
import sqlite3
import time
import urllib.error
import urllib.request

import machine
import setup
from machine import Trouble

PORT = 8060
HTTP = 9060
SERVERS = (7010, 7011)
SET = 19
WORKERS = 2

# As OpenSIPS 3.1 makes them.
TABLE = """
CREATE TABLE version (table_name CHAR(32) NOT NULL, table_version INTEGER DEFAULT 0 NOT NULL);
INSERT INTO version VALUES ('dispatcher', 8);
CREATE TABLE dispatcher (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    setid INTEGER DEFAULT 0 NOT NULL,
    destination CHAR(192) DEFAULT '' NOT NULL,
    socket CHAR(128) DEFAULT NULL,
    state INTEGER DEFAULT 0 NOT NULL,
    weight CHAR(64) DEFAULT 1 NOT NULL,
    priority INTEGER DEFAULT 0 NOT NULL,
    attrs CHAR(128) DEFAULT NULL,
    description CHAR(64) DEFAULT NULL);
"""


def check_ports():
    for port in (PORT, *SERVERS):
        if machine.udp_sockets(port):
            raise Trouble(f"port {port} is taken: free it, or run inside `unshare -n` (README.md)")


def template(name):
    return machine.read(os.path.join(setup.HERE, "conf", name))


def write(folder, name, **values):
    text = template(name)
    for key, value in dict(values, PORT=PORT, HTTP=HTTP, SET=SET, WORKERS=WORKERS, RUN=folder).items():
        text = text.replace(f"@{key}@", str(value))
    path = os.path.join(folder, name)
    with open(path, "w") as file:
        file.write(text)
    return path


class Proxy:
    """One way to be a proxy: a name in the tables, a template, a version."""
    template = None
    # Seconds after its port is bound until its other processes and timers are there too.
    grace = 1.0

    def __init__(self, name, program):
        self.name, self.program = name, program

    def version(self):
        return None

    def prepare(self, folder):
        raise NotImplementedError

    def ready(self):
        return bool(machine.udp_sockets(PORT))

    def start(self, folder, wrap=(), patience=20):
        """Starts it in that folder, inside the command `wrap`; returns when it serves."""
        command = [*wrap, *self.prepare(folder)]
        process = machine.start(command, folder, os.path.join(folder, "proxy.log"))
        try:
            machine.wait_for(lambda: process.poll() is not None or self.ready(), patience, f"{self.name} to listen")
            time.sleep(self.grace)
            if process.poll() is not None:
                raise Trouble(f"{self.name} ended at once: {machine.read(os.path.join(folder, 'proxy.log'))[-500:]}")
        except BaseException:
            machine.stop(process)
            raise
        return process


class Relay(Proxy):
    def prepare(self, folder):
        return [self.program, str(PORT), *map(str, SERVERS)]


class Tandem(Proxy):
    template = "tandem.toml"

    def version(self):
        return setup.first_line(self.program, "--version")

    def prepare(self, folder):
        database = sqlite3.connect(os.path.join(folder, "tandem.db"))
        database.executescript(TABLE)
        database.executemany("INSERT INTO dispatcher (setid, destination) VALUES (?, ?)",
                             [(SET, f"sip:127.0.0.1:{port}") for port in SERVERS])
        database.commit()
        database.close()
        return [self.program, "run", "--config", write(folder, self.template)]

    def ready(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{HTTP}/ready", timeout=5).status == 200
        except (urllib.error.URLError, OSError):
            return False


class Kamailio(Proxy):
    template = "kamailio.cfg"

    def __init__(self, name, program, memory=()):
        super().__init__(name, program)
        self.memory = memory

    def version(self):
        return setup.first_line(self.program, "-v")

    def prepare(self, folder):
        # Its modules are beside it: /usr/sbin/kamailio, /usr/lib/x86_64-linux-gnu/kamailio/modules.
        modules = os.environ.get("KAMAILIO_MODULES") or f"/usr/lib/{os.uname().machine}-linux-gnu/kamailio/modules"
        if not os.path.isdir(modules):
            raise Trouble(f"no folder {modules}: set KAMAILIO_MODULES to where Kamailio's modules are")
        with open(os.path.join(folder, "dispatcher.list"), "w") as file:
            file.writelines(f"{SET} sip:127.0.0.1:{port}\n" for port in SERVERS)
        return [self.program, "-DD", "-f", write(folder, self.template, MODULES=modules), "-m", "1024", "-M", "16",
                "-Y", folder, "-w", folder, *self.memory]


class OpenSips(Proxy):
    template = "opensips.cfg"

    def version(self):
        return setup.first_line(self.program, "-V")

    def prepare(self, folder):
        home = os.path.dirname(os.path.dirname(self.program))
        modules = next((path for path in (f"{home}/lib64/opensips/modules", f"{home}/lib/opensips/modules")
                        if os.path.isdir(path)), None)
        if not modules:
            raise Trouble(f"no lib64/opensips/modules or lib/opensips/modules in {home}: set OPENSIPS_HOME to its prefix")
        # What 4.0 named anew. "opensips 3.1.17 (x86_64/linux)".
        major = re.search(r"opensips (\d+)\.", self.version() or "")
        new = bool(major) and int(major[1]) >= 4
        log = "stderror_enabled = yes\nsyslog_enabled = no" if new else "log_stderror = yes"
        tables = os.path.join(folder, "db")
        os.mkdir(tables)
        with open(os.path.join(tables, "version"), "w") as file:
            file.write(f"table_name(string) table_version(int) \ndispatcher:{9 if new else 8}\n")
        with open(os.path.join(tables, "dispatcher"), "w") as file:
            file.write("id(int,auto) setid(int) destination(string) socket(string,null) state(int) "
                       + ("probe_mode(int) " if new else "")
                       + "weight(string) priority(int) attrs(string,null) description(string,null) \n")
            for number, port in enumerate(SERVERS, 1):
                file.write(f"{number}:{SET}:sip\\:127.0.0.1\\:{port}::0:{'0:' if new else ''}1:0::\n")
        return [self.program, "-F", "-f", write(folder, self.template, MODULES=modules, LOG=log), "-m", "1024",
                "-M", "16", "-w", folder]


DEFAULT = ["relay", "kamailio", "kamailio-fm", "opensips", "tandem"]


def choose(words):
    """The proxies of a command line: names of DEFAULT, or NAME=PATH for another program of ours. Without any: all of DEFAULT,
    and OpenSIPS where OPENSIPS_HOME is set."""
    home = os.environ.get("OPENSIPS_HOME")
    words = words or [name for name in DEFAULT if name != "opensips" or home]
    chosen = []
    for word in words:
        name, given, path = word.partition("=")
        if given:
            chosen.append(Tandem(name, setup.program(path)))
        elif name == "relay":
            chosen.append(Relay(name, setup.relay()))
        elif name == "tandem":
            chosen.append(Tandem(name, setup.tandem()))
        elif name in ("kamailio", "kamailio-fm"):
            setup.require("kamailio")
            memory = ("-x", "fm", "-X", "fm") if name == "kamailio-fm" else ()
            chosen.append(Kamailio(name, setup.find("kamailio"), memory))
        elif name == "opensips" and home:
            chosen.append(OpenSips(name, setup.program(os.path.join(home, "sbin", "opensips"))))
        elif name == "opensips":
            raise Trouble("opensips needs OPENSIPS_HOME: the prefix that it was installed to, with sbin/opensips")
        else:
            raise Trouble(f"no proxy {word!r}: give some of {', '.join(DEFAULT)}, or NAME=PATH of a program of ours")
    return chosen
