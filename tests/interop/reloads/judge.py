"""What is told of a storm: how often the log tells a cause, and how a node's sets differ from a table."""

import re
from collections import Counter

# What the node says, however often it is asked, of rows that it can't have.
TOLD = re.compile(r"(reload failed|a change of the rows is refused)\S*: the sets stay as they are (.*)")


def causes(log):
    """How often the log tells each cause."""
    return Counter(match.group(2) for match in TOLD.finditer(re.sub(r"\x1b\[[0-9;]*m", "", log)))


def differing(rows, sets):
    """What the table has and the node has not, and the reverse; rows are (set, uri, weight, priority, description)."""
    table = {(int(number), uri, int(weight), int(priority), text) for number, uri, weight, priority, text in rows}
    node = {(one["set"], row["uri"], row["weight"], row["priority"], row["description"])
            for one in sets["sets"] for row in one["destinations"]}
    return sorted(table - node), sorted(node - table)
