#!/usr/bin/env python3
"""test_summary.py RESULTS.xml CTEST_EXIT_CODE: the end of a test run, from ctest's JUnit file.

Prints each skipped test with its reason, each failed test, and last `N passed, N failed, N skipped`. Exits 1 if a test
failed, none ran, or ctest itself failed.
"""

import re
import sys
import xml.etree.ElementTree as ET


def skip_reason(case):
    """What GTEST_SKIP() << "..." said, after the line `file:line: Skipped`; of other tests the last line."""
    if case.get("status") == "disabled":
        return "disabled"
    output = case.findtext("system-out") or ""
    said = re.search(r"^\S+:\d+: Skipped\n(.*?)(?=^\[|\Z)", output, re.MULTILINE | re.DOTALL)
    if said and said.group(1).strip():
        return " ".join(said.group(1).split())
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no reason given"


def main():
    results, ctest_code = sys.argv[1], int(sys.argv[2])
    try:
        cases = list(ET.parse(results).getroot().iter("testcase"))
    except (OSError, ET.ParseError) as error:
        print(f"test results cannot be read: {error}")
        cases = []

    # ctest: run = passed; fail = failed; notrun and disabled = skipped, except where the program was not built.
    passed, failed, skipped = [], [], []
    for case in cases:
        status, name = case.get("status"), case.get("name")
        if status == "run":
            passed.append(name)
        elif status == "fail" or name.endswith("_NOT_BUILT"):
            failed.append(name)
        else:
            skipped.append((name, skip_reason(case)))

    print()
    for name, reason in skipped:
        print(f"skipped: {name}: {reason}")
    for name in failed:
        print(f"FAILED: {name}")
    if not failed and (ctest_code != 0 or not cases):
        failed.append("ctest")
        print(f"FAILED: ctest ended with code {ctest_code} and {len(cases)} results")
    print(f"{len(passed)} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
