#!/usr/bin/env python3
"""conformance.py TESTS_DIR REPORT.json: the suite of all communicator backends, and each breach of NCCL's contract that the
doubles catch, as one table and as JSON. Exits 1 unless every case passed or was skipped with a reason."""

import json
import pathlib
import subprocess
import sys
import tempfile

SUITES = ["ConformanceTest", "PointToPointTest"]
BACKENDS = {  # name in the tests: column
    "InProcess": "in_process",
    "TcpThreads": "tcp",
    "TcpOverSockets": "tcp sockets",
    "TcpProcesses": "tcp processes",
    "StagedTcp": "tcp from a GPU",
    "MpiProcesses": "mpi",
    "NcclDoubleThreads": "nccl double",
    "NcclDoubleProcesses": "nccl double processes",
}
BREACHES = "NcclContractTest"


def run(program, pattern):
    """{suite: {case: gtest's record}} of a test program."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        done = subprocess.run([program, f"--gtest_filter={pattern}", f"--gtest_output=json:{report}"], capture_output=True,
                              text=True, check=False)
        if not report.exists():
            sys.exit(f"conformance: {program} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        suites = json.loads(report.read_text())["testsuites"]
    return {suite["name"]: {case["name"]: case for case in suite["testsuite"]} for suite in suites}


def state(case):
    if case is None:
        return "missing"
    if case.get("failures"):
        return "FAILED"
    return {"COMPLETED": "ok", "SKIPPED": "skipped"}.get(case.get("result"), "missing")


def collect(suites):
    rows = []
    for suite in SUITES:
        cases = {name: backend for backend in BACKENDS for name in suites.get(f"{suite}/{backend}", {})}
        for name in cases:
            rows.append({"case": f"{suite}.{name}"} |
                        {column: state(suites.get(f"{suite}/{backend}", {}).get(name)) for backend, column in BACKENDS.items()})
    return rows


def print_table(rows, breaches):
    columns = list(BACKENDS.values())
    width = max(len(row["case"]) for row in rows)
    print("| " + "case".ljust(width) + " | " + " | ".join(columns) + " |")
    print("|" + "-" * (width + 2) + "|" + "|".join("-" * (len(column) + 2) for column in columns) + "|")
    for row in rows:
        print("| " + row["case"].ljust(width) + " | " + " | ".join(row[c].ljust(len(c)) for c in columns) + " |")
    print("\nskipped: NCCL tells no peers of a failure; tests/comm/nccl_double_test.cc shows what stands for it\n")
    print("breaches of NCCL's and CUDA's contract, each done on purpose and caught:")
    for name, result in breaches.items():
        print(f"  {result:7} {name}")


def main():
    tests, report = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    rows = collect(run(tests / "comm_test", ":".join(f"{suite}/*" for suite in SUITES)))
    contract = run(tests / "gpu_double_test", f"{BREACHES}.*").get(BREACHES, {})
    breaches = {name: state(case) for name, case in contract.items()}
    if not rows or not breaches:
        sys.exit("conformance: no such tests")
    print_table(rows, breaches)
    states = [row[column] for row in rows for column in BACKENDS.values()] + list(breaches.values())
    counts = {name: states.count(name) for name in ("ok", "skipped", "FAILED", "missing")}
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps({"suite": rows, "breaches": breaches, "counts": counts}, indent=1) + "\n")
    print(f"\n{counts['ok']} ok, {counts['skipped']} skipped, {counts['FAILED']} failed, {counts['missing']} missing ({report})")
    sys.exit(1 if counts["FAILED"] or counts["missing"] else 0)


main()
