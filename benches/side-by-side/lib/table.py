"""What the records say: medians in a Markdown table, and the bars that we must stay within."""
import statistics

OURS, PEER, FLOOR = "tandem", "kamailio-fm", "relay"
RSS_BAR_MIB = 60


def runs(records):
    return [record for record in records if record["record"] == "run"]


def groups(records, warm):
    """{(rate, proxy): its runs}, in the order of the first; undisturbed ones only, where there are any. With `warm` others'
    work hardly moves the CPU of a call, so all of them."""
    found = {}
    for record in runs(records):
        found.setdefault((record["rate"], record["proxy"]), []).append(record)
    if warm:
        return found
    return {key: [run for run in group if not run["disturbed"]] or group for key, group in found.items()}


def median(group, value):
    values = [value(run) for run in group]
    return statistics.median(values) if None not in values else None


def cost(group):
    return median(group, lambda run: run["cpu_per_1000"])


def number(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"


def markdown(records, warm):
    found = groups(records, warm)
    syscalls = {record["proxy"]: record["syscalls_per_call"] for record in records if record["record"] == "syscalls"}
    head = ["calls/s", "proxy", "CPU s per 1,000 calls", "to relay", "to Kamailio fm", "INVITE->200 p50 ms", "p99 ms",
            "RSS MiB", "PSS MiB", "switches per call", *(["system calls per call"] if syscalls else []),
            "failed", "sent again", "runs"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    rates = sorted({rate for rate, _ in found})
    for rate in rates:
        for (_, proxy), group in ((key, group) for key, group in found.items() if key[0] == rate):
            all_runs = [run for run in runs(records) if (run["rate"], run["proxy"]) == (rate, proxy)]
            own = cost(group)
            costs = [run["cpu_per_1000"] for run in group]
            spread = f" ({min(costs):.3f}-{max(costs):.3f})" if len(costs) > 1 else ""
            ratio = {other: number(own / cost(found[rate, other]), 2) if (rate, other) in found else "-"
                     for other in (FLOOR, PEER)}
            again = [sum(run["retransmissions"][side] for run in group) for side in ("caller", "servers")]
            disturbed = sum(run["disturbed"] for run in group)
            row = [str(rate), proxy, f"{own:.3f}{spread}", ratio[FLOOR], ratio[PEER],
                   number(median(group, lambda run: run["invite_ms"]["p50"]), 2),
                   number(median(group, lambda run: run["invite_ms"]["p99"]), 2),
                   number(median(group, lambda run: run["rss_mib"]), 1),
                   number(median(group, lambda run: run["pss_mib"]), 1),
                   number(median(group, lambda run: run["switches_per_call"]), 1)]
            if syscalls:
                row.append(number(syscalls.get(proxy), 1))
            # Failures of every run, disturbed or not: others' work is no excuse for them.
            row += [f"{sum(run['failed'] for run in all_runs)} of {sum(run['calls'] for run in all_runs)}",
                    f"{again[0]} + {again[1]}", f"{len(group)}{f', {disturbed} disturbed' if disturbed else ''}"]
            lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def bars(records, warm):
    """[(what must hold, with its figures; whether it does)], None where it was not measured. At every rate of the run."""
    found = groups(records, warm)
    judged = []
    for rate in sorted({run["rate"] for run in runs(records)}):
        ours, peer = found.get((rate, OURS)), found.get((rate, PEER))
        if not ours or not peer:
            missing = " and ".join(name for name, group in ((OURS, ours), (PEER, peer)) if not group)
            judged.append((f"{rate} calls/s: less CPU than Kamailio fm: no run of {missing}", None))
            continue
        judged.append((f"{rate} calls/s: less CPU than Kamailio fm: {cost(ours):.3f} and {cost(peer):.3f} s per 1,000 calls",
                       cost(ours) < cost(peer)))
    own = [run for run in runs(records) if run["proxy"] == OURS]
    if own:
        most = max(run["rss_mib"] for run in own)
        judged.append((f"at most {RSS_BAR_MIB} MiB of RSS: {most:.1f}", most <= RSS_BAR_MIB))
        failed = sum(run["failed"] for run in own)
        judged.append((f"no failed call: {failed} of {sum(run['calls'] for run in own)}", failed == 0))
    for record in records:
        if record["record"] == "trouble":
            # A proxy of ours that cannot be measured misses the bar; a peer's trouble only leaves it unjudged.
            judged.append((f"{record['proxy']} at {record['rate']} calls/s was not measured: {record['trouble']}",
                           False if record["proxy"] == OURS else None))
    return judged


def verdict(judged):
    words = {True: "met", False: "MISSED", None: "not judged"}
    return "\n".join(f"- {words[holds]}: {what}" for what, holds in judged)


def page(records, warm, raw):
    """docs/benchmarks/side-by-side.md."""
    header = records[0]
    machine, options = header["machine"], header["options"]
    versions = "\n".join(f"- {name}: {version}" for name, version in header["versions"].items() if version)
    tree = ", with changes" if header["changed"] else ""
    tree += "; but `tandem` was built elsewhere" if header["given"] else ""
    return f"""# Side by side

Written by `benches/side-by-side/run`; [README.md](README.md) tells how it is measured. Every single run, and the configurations,
are in [{raw}]({raw}).

- date: {header["date"]}
- commit: {header["commit"]}{tree}
- machine: {machine["cpu"]}, {machine["cores"]} cores, {machine["memory_gib"]} GiB; {machine["system"]}, kernel {machine["kernel"]}
{versions}
- each figure: the median over {options["reps"]} x {options["secs"]} s, interleaved{"; cores kept warm" if warm else ""}; nice {header["nice"]}

{markdown(records, warm)}

{verdict(bars(records, warm))}
"""
