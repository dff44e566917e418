"""What must be there before anything is measured: tools, the two small C programs, and ours."""
import os
import shutil
import subprocess

from machine import Trouble

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(os.path.dirname(HERE))
TARGET = os.path.realpath(os.environ.get("CARGO_TARGET_DIR") or os.path.join(ROOT, "target"))
# Whatever we make goes here, and nothing into the repository.
SCRATCH = os.path.join(TARGET, "side-by-side")

# Debian's package of each tool.
PACKAGES = {"sipp": "sip-tester", "gcc": "gcc libc6-dev", "kamailio": "kamailio", "strace": "strace",
            "callgrind_control": "valgrind", "valgrind": "valgrind", "git": "git"}


def find(tool):
    # Kamailio is in /usr/sbin, which is not on everybody's path.
    return shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/usr/local/sbin")


def require(*tools):
    missing = [tool for tool in tools if not find(tool)]
    if missing:
        packages = " ".join(dict.fromkeys(PACKAGES[tool] for tool in missing))
        raise Trouble(f"needs {', '.join(missing)}: apt-get install --no-install-recommends {packages}")


def compile_c(name, *options):
    """Compiles tools/NAME.c, if it is newer than what is there."""
    source = os.path.join(HERE, "tools", f"{name}.c")
    made = os.path.join(SCRATCH, name + (".so" if "-shared" in options else ""))
    if not os.path.exists(made) or os.path.getmtime(made) < os.path.getmtime(source):
        os.makedirs(SCRATCH, exist_ok=True)
        subprocess.run(["gcc", "-O2", "-Wall", *options, "-o", made, source, "-ldl"], check=True)
    return made


def relay():
    return compile_c("relay")


def fine_clock():
    return compile_c("fine_clock", "-shared", "-fPIC")


def tandem():
    """Our program: what TANDEM names, or a release build of this tree."""
    given = os.environ.get("TANDEM")
    if given:
        return program(given)
    if not find("cargo"):
        raise Trouble("needs cargo (https://rustup.rs) to build our program: or set TANDEM to one that is built")
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)
    return os.path.join(TARGET, "release", "tandem")


def program(path):
    if not os.access(path, os.X_OK):
        raise Trouble(f"no program at {path}")
    return os.path.abspath(path)


def first_line(*command):
    """What a program says of its version."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except OSError:
        return None
    lines = [line.strip() for line in (said.stdout + said.stderr).splitlines()]
    return next((line.removeprefix("version: ").rstrip(".") for line in lines if line), None)


def commit():
    """The commit of this tree, and whether the tree differs from it."""
    said = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run(["git", "-C", ROOT, "status", "--porcelain"], capture_output=True, text=True)
    return said.stdout.strip() or None, bool(changed.stdout.strip())
