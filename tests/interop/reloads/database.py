"""A MariaDB or a PostgreSQL of one's own: on 127.0.0.1, in a folder of its own, with OpenSIPS's tables of version 9, a user
`operator` who may do everything and a user `reader` who may only read. It can be killed, made to hang, and started again."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

NOBODY = 65534    # Of whom servers run that refuse to run as root.
START = 60        # Seconds that a server may take to start.
PASSWORD = "geheim"

TABLES = """CREATE TABLE version (table_name CHAR(32) NOT NULL UNIQUE, table_version INTEGER DEFAULT 0 NOT NULL);
INSERT INTO version VALUES ('dispatcher', 9);"""
DISPATCHER = """CREATE TABLE dispatcher (id {id}, setid INTEGER DEFAULT 0 NOT NULL,
destination {text}(192) DEFAULT '' NOT NULL, socket {text}(128) DEFAULT NULL, state INTEGER DEFAULT 0 NOT NULL,
probe_mode INTEGER DEFAULT 0 NOT NULL, weight {text}(64) DEFAULT 1 NOT NULL, priority INTEGER DEFAULT 0 NOT NULL,
attrs {text}(128) DEFAULT '' NOT NULL, description {text}(64) DEFAULT '' NOT NULL);"""


def tool(name):
    """Where a program is; PostgreSQL's are in a folder of each version."""
    folders = os.environ["PATH"].split(":") + ["/usr/sbin", *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    found = shutil.which(name, path=":".join(folders))
    return found or exit(f"there is no {name}")


def children(parent):
    """The processes that a process has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue    # It has ended.
        if int(fields[1]) == parent:
            found.append(int(status.parent.name))
    return found


class Client:
    """A client program that runs statements as they come."""

    def __init__(self, command, **environment):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                        env={**os.environ, **environment})
        self.asked = 0

    def run(self, statements):
        """Their rows, each a list of texts."""
        self.asked += 1
        end = f"end of {self.asked}"
        self.process.stdin.write(f"{statements}\nSELECT '{end}';\n")
        self.process.stdin.flush()
        lines = []
        for line in self.process.stdout:
            line = line.rstrip("\n")
            if line == end:
                return [line.split("\t") for line in lines]
            lines.append(line)
            if line.startswith("ERROR"):
                break
        raise OSError(f"{statements[:200]}: {lines[-3:]}")

    def end(self):
        self.process.kill()
        self.process.wait()


class Server:
    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="tandem-reloads."))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
        self.process = self.client = None
        self.files()
        if self.identity:
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, NOBODY, NOBODY)
        made = subprocess.run(self.install(), cwd=self.folder, capture_output=True, text=True, **self.identity)
        made.returncode == 0 or exit(f"{made.args}: {made.stdout}{made.stderr}")

    def start(self):
        """Starts it, if it does not run, until it answers."""
        until = time.monotonic() + START
        while time.monotonic() < until:
            if self.process is None or self.process.poll() is not None:
                with open(self.folder / "log", "a") as log:
                    self.process = subprocess.Popen(self.command(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                    **self.identity)
            try:
                self.connect(self.first)
                self.sql("SELECT 1;")
                return
            except OSError:
                time.sleep(0.05)
        exit(f"{self.command()[0]} does not start: {(self.folder / 'log').read_text()[-500:]}")

    def connect(self, database):
        if self.client:
            self.client.end()
        self.client = self.operator(database)

    def sql(self, statements):
        try:
            return self.client.run(statements)
        except BrokenPipeError as error:
            raise OSError(f"{statements[:200]}: {error}") from None

    def signal(self, number):
        for pid in (self.process.pid, *children(self.process.pid)):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def kill(self):
        """Ends it as a power cut would."""
        if self.process and self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait()

    def hang(self):
        self.signal(signal.SIGSTOP)

    def go_on(self):
        self.signal(signal.SIGCONT)

    def remove(self):
        if self.client:
            self.client.end()
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class MariaDb(Server):
    first = "opensips"

    def files(self):
        users = [f"CREATE OR REPLACE USER {user}@'%' IDENTIFIED BY '{PASSWORD}';" for user in ("operator", "reader")]
        rights = ["CREATE DATABASE IF NOT EXISTS opensips;", "GRANT ALL ON opensips.* TO operator@'%';",
                  "GRANT SELECT ON opensips.* TO reader@'%';"]
        (self.folder / "init.sql").write_text("\n".join(users + rights) + "\n")

    def install(self):
        return [tool("mariadb-install-db"), "--no-defaults", "--skip-test-db", f"--datadir={self.folder}/data"]

    def command(self):
        # Written at each commit, not synced: a killed process loses nothing.
        return [tool("mariadbd"), "--no-defaults", f"--datadir={self.folder}/data", "--socket=socket", "--pid-file=pid",
                f"--init-file={self.folder}/init.sql", f"--port={self.port}", "--bind-address=127.0.0.1", "--skip-name-resolve",
                "--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=2"]

    def operator(self, database):
        return Client([tool("mariadb"), "--no-defaults", "--skip-ssl", "--host=127.0.0.1", f"--port={self.port}", "--user=operator",
                       "--batch", "--skip-column-names", "--unbuffered", database], MYSQL_PWD=PASSWORD)

    def url(self):
        return f"mysql://reader:{PASSWORD}@127.0.0.1:{self.port}/opensips"

    def make(self):
        self.sql(TABLES)
        self.make_table()

    def make_table(self):
        self.sql(DISPATCHER.format(id="INTEGER UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL", text="CHAR"))


class Postgres(Server):
    first = "postgres"

    def files(self):
        (self.folder / "password").write_text(PASSWORD)

    def install(self):
        return [tool("initdb"), "-U", "operator", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync",
                f"--pwfile={self.folder}/password", "-D", f"{self.folder}/data"]

    def command(self):
        settings = [f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}", "fsync=off",
                    "shared_buffers=16MB"]
        return [tool("postgres"), "-D", f"{self.folder}/data", *(word for setting in settings for word in ("-c", setting))]

    def operator(self, database):
        return Client([tool("psql"), "-X", "-q", "-A", "-t", "-F", "\t", "-h", "127.0.0.1", "-p", str(self.port), "-U", "operator",
                       "-d", database], PGPASSWORD=PASSWORD)

    def url(self):
        return f"postgres://reader:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def make(self):
        self.sql(f"CREATE USER reader PASSWORD '{PASSWORD}'; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader;")
        self.sql(TABLES)
        self.make_table()

    def make_table(self):
        self.sql(DISPATCHER.format(id="SERIAL PRIMARY KEY NOT NULL", text="VARCHAR"))


KINDS = {"mariadb": MariaDb, "postgres": Postgres}
