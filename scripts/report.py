#!/usr/bin/env python3
"""What scripts/demo needs besides the shell: counts and hashes its input, compares, and writes the outcome.

Counting and hashing is done here once more, independently of the programs that are shown."""

import gzip
import hashlib
import json
import pathlib
import sys


def framed(path):
    """The unpacked bytes of a BinaryFILE and the number of its messages."""
    data = pathlib.Path(path).read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    at = count = 0
    while at < len(data):
        if at + 2 > len(data):
            sys.exit(f"report: byte {at}: half a length")
        length = int.from_bytes(data[at : at + 2], "big")
        at += 2 + length
        count += 1
    if at != len(data):
        sys.exit(f"report: message {count - 1} ends {at - len(data)} bytes behind the file's end")
    return data, count


def describe_input(path):
    data, count = framed(path)
    print(hashlib.sha256(data).hexdigest(), count)


def describe_bytes(port, sha256_in, count, killed_at, work):
    """One line of JSON on what came out of one port."""
    work = pathlib.Path(work)
    live = json.loads((work / "live.json").read_text())
    published = json.loads((work / "publish.json").read_text())
    data, messages = framed(work / "again.itch")
    row = {
        "port": port,
        "messages": messages,
        "sha256_in": sha256_in,
        "sha256_out": live["sha256"],
        "after_kill": hashlib.sha256(data).hexdigest(),
        "published": published["messages"],
        "killed_at": int(killed_at),
        "reconnects": live["reconnects"],
        "lost": live["lost"],
        "duplicated": live["duplicated"],
        "out_of_order": live["out_of_order"],
    }
    row["equal"] = (
        row["sha256_out"] == row["after_kill"] == sha256_in
        and messages == live["messages"] == published["messages"] == int(count)
        and row["lost"] == row["duplicated"] == row["out_of_order"] == 0
        and row["reconnects"] > 0
    )
    print(json.dumps(row))


def load(path):
    return json.loads(path.read_text()) if path.exists() else None


def sound(run):
    return run is not None and all(run[key] == 0 for key in ("lost", "duplicated", "out_of_order", "mismatched"))


def table(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def outcome(work, out):
    """Writes the JSON and the report, prints the tables; exit code 1 if anything was not as it must be."""
    work, out = pathlib.Path(work), pathlib.Path(out)
    lines = work / "bytes.jsonl"
    rows = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    ports = ("memif", "dpdk-memif")
    latency = {port: load(work / f"latency-{port}.json") for port in ports}
    throughput = {port: load(work / f"throughput-{port}.json") for port in ports}
    good = bool(rows) and all(row["equal"] for row in rows)
    good = good and all(map(sound, (*latency.values(), *throughput.values())))

    def merged(runs):
        """The memif port's fields, with the other port's below its name."""
        return {**(runs["memif"] or {}), "dpdk_memif": runs["dpdk-memif"]}

    document = {"bytes": rows, "latency": merged(latency), "throughput": merged(throughput), "ok": good}
    out.write_text(json.dumps(document, indent=2) + "\n")
    reports = [work / f"latency-{port}.html" for port in ports]
    report = out.with_suffix(".html")
    report.write_text("\n".join(path.read_text() for path in reports if path.exists()))

    table(
        [("bytes over", "messages", "killed at", "live", "read again")]
        + [
            (
                row["port"],
                str(row["messages"]),
                str(row["killed_at"]),
                "identical" if row["sha256_out"] == row["sha256_in"] else "DIFFERENT",
                "identical" if row["after_kill"] == row["sha256_in"] else "DIFFERENT",
            )
            for row in rows
        ]
    )
    print()
    head = ("64 B, ns", "p50", "p99", "p99.9", "max", "floor p50", "floor p99", "ratio p50", "ratio p99", "messages/s")
    body = []
    for port in ports:
        run, fast = latency[port], throughput[port]
        if run is None or fast is None:
            continue
        ns, floor, ratio = run["latency_ns"], run["floor_ns"], run["ratio"]
        body.append(
            (port, str(ns["p50"]), str(ns["p99"]), str(ns["p99_9"]), str(ns["max"]), str(floor["p50"]), str(floor["p99"]))
            + (f"{ratio['p50']:.2f}", f"{ratio['p99']:.2f}", f"{fast['throughput_msgs_per_s']:,.0f}")
        )
    table([head, *body])
    print(f"\n{out} and {report} hold the details")
    print("nothing was lost, repeated, reordered or altered" if good else "NOT as it must be: see above")
    return 0 if good else 1


def main():
    match sys.argv[1:]:
        case ["input", path]:
            describe_input(path)
        case ["bytes", port, sha256_in, count, killed_at, work]:
            describe_bytes(port, sha256_in, count, killed_at, work)
        case ["outcome", work, out]:
            sys.exit(outcome(work, out))
        case _:
            print(__doc__.splitlines()[0], file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    main()
