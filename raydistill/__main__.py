"""The command line: `raydistill VERB overrides...` runs what `python jobs/VERB.py` runs."""

import ast
import runpy
import sys
from pathlib import Path

import raydistill

_HERE = Path(__file__).resolve().parent
# Inside the package when installed from a wheel, beside it in a checkout.
JOBS = next((one for one in (_HERE / "jobs", _HERE.parent / "jobs") if one.is_dir()), _HERE)


def verbs() -> dict[str, str]:
    """What each verb does in one line, by its name: the first line of its job's docstring."""
    found: dict[str, str] = {}
    for file in sorted(JOBS.glob("*.py")):
        first = (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n")[0]
        found[file.stem] = first.removeprefix(f"{file.stem}: ")
    return found


def usage() -> str:
    """The help of the command itself."""
    lines = [f"  {name:<12} {line}" for name, line in verbs().items()]
    return "\n".join(
        [
            f"raydistill {raydistill.__version__}: {raydistill.__doc__}",
            "",
            "raydistill VERB [KEY=VALUE ...]     raydistill VERB --help     raydistill --version",
            "",
            *lines,
        ]
    )


def main() -> None:
    """Runs the verb that the command line names; exits with 2 where there is no such verb."""
    given = sys.argv[1:]
    if not given or given[0] in ("-h", "--help", "help"):
        print(usage())
        raise SystemExit(0 if given else 2)
    if given[0] in ("-V", "--version"):
        print(raydistill.__version__)
        return
    if given[0] not in verbs():
        print(f"raydistill: no verb {given[0]!r}\n\n{usage()}", file=sys.stderr)
        raise SystemExit(2)
    file = JOBS / f"{given[0]}.py"
    sys.argv = [str(file), *given[1:]]
    runpy.run_path(str(file), run_name="__main__")


if __name__ == "__main__":
    main()
