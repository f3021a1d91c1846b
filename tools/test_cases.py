"""Lists the test cases, to check that a change of the tests loses none.

    python tools/test_cases.py > before.txt
    python tools/test_cases.py --compare=before.txt

A line for each test function: how many cases it has, and its name. The lists of documents and of
commands that some tests go through grow with the project, so that more cases than before are right.
With ``--compare``, names what is missing or has fewer cases and exits with code 1.
"""

from __future__ import annotations

import collections
import pathlib
import subprocess
import sys

from vatt_tf import cli

ROOT = pathlib.Path(__file__).resolve().parent.parent


def collect() -> collections.Counter[str]:
    """Collects all cases of the checkout by pytest: function -> number of cases."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "tests"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if found.returncode:
        raise SystemExit(f"error: {' '.join(command)} failed:\n{found.stdout[-2000:]}")
    names = (line.split("[")[0] for line in found.stdout.splitlines() if "::" in line)
    return collections.Counter(names)


def read(path: pathlib.Path) -> collections.Counter[str]:
    """Reads a list that this tool has printed."""
    cases: collections.Counter[str] = collections.Counter()
    for line in path.read_text(encoding="utf-8").splitlines():
        count, name = line.split(maxsplit=1)
        cases[name] = int(count)
    return cases


def lost(before: collections.Counter[str], now: collections.Counter[str]) -> list[str]:
    """Lines about functions that are missing or have fewer cases than before."""
    return [
        f"{name}: {now[name]} cases, {count} before"
        for name, count in sorted(before.items())
        if now[name] < count
    ]


def main() -> int:
    """Entry point."""
    parser = cli.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compare", type=pathlib.Path, help="list that nothing may be lost of")
    flags = parser.parse_args()
    now = collect()
    if flags.compare is None:
        print("\n".join(f"{count:4} {name}" for name, count in sorted(now.items())))
        return 0
    before = read(flags.compare)
    missing = lost(before, now)
    print("\n".join(missing), end="\n" if missing else "")
    print(
        f"{before.total()} cases of {len(before)} functions before, "
        f"{now.total()} of {len(now)} now, {len(missing)} functions with fewer"
    )
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
