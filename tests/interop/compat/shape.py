#!/usr/bin/env python3
"""shape.py THEIRS OURS: whether two answers, files of JSON, are of one shape: the same keys in the same order, the same types
of values. Ours may have those keys of later versions that LATER names. What differs is told, and ends it with status 1."""

import json
import sys

# What Kamailio 6.1 tells and 5.6 does not.
LATER = {
    "IDX", "IUID", "OCRATE", "OCIDX", "OCSEQ", "OCTIME_SEC", "OCTIME_USEC", "PROBING_COUNT", "PING_SOCKET", "OCMIN",
    "OCMAX",
}


def kind(value):
    """The type of a value as JSON has it."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return {dict: "object", list: "list", str: "text", type(None): "null"}[type(value)]


def differences(theirs, ours, at="answer"):
    """Each difference in words."""
    if kind(theirs) != kind(ours):
        return [f"{at} is {kind(ours)}, not {kind(theirs)}"]
    if isinstance(theirs, list):
        if len(theirs) != len(ours):
            return [f"{at} has {len(ours)} items, not {len(theirs)}"]
        pairs = enumerate(zip(theirs, ours))
        return [one for place, (their, our) in pairs for one in differences(their, our, f"{at}[{place}]")]
    if isinstance(theirs, dict):
        known = [key for key in ours if key in theirs or key not in LATER]
        if known != list(theirs):
            return [f"{at} has {' '.join(known)}, not {' '.join(theirs)}"]
        return [one for key in theirs for one in differences(theirs[key], ours[key], f"{at}.{key}")]
    return []


def main(theirs, ours):
    """Compares two files."""
    with open(theirs, encoding="utf-8") as one, open(ours, encoding="utf-8") as other:
        found = differences(json.load(one), json.load(other))
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
