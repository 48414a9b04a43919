"""`staging/manifests.sh`: see there."""

import sys
import time
from pathlib import Path

import breaks
import check
import overlay


def main():
    started, root = time.monotonic(), Path.cwd()
    if sys.argv[1:] == ["--self-test"]:
        problems, said = breaks.unnoticed(root)
    elif sys.argv[1:]:
        print("usage: staging/manifests.sh [--self-test]", file=sys.stderr)
        return 2
    else:
        command = overlay.kustomize()
        problems = check.problems(root, command) + check.only_once(root)
        said = f"rendered by {' '.join(command)}, as by the stand-in" if command else "rendered by the stand-in alone"
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"manifests: {len(problems)} problems ({said}; {time.monotonic() - started:.0f} s)")
    return 1 if problems else 0


try:
    sys.exit(main())
except ValueError as error:
    sys.exit(str(error))
