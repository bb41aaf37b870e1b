"""Configuration: YAML and overrides become one typed dataclass a verb. The home of hydra."""

import difflib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

from hydra import main as hydra_main
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from raydistill import logs, metrics, usage
from raydistill.errors import Drained, RaydistillError, SetupError

Config = TypeVar("Config")
Made = TypeVar("Made")
_HERE = Path(__file__).resolve().parent
# Inside the package when installed from a wheel, beside it in a checkout.
CONF = next((one for one in (_HERE / "conf", _HERE.parent / "conf") if one.is_dir()), _HERE)


def load(kind: type[Config], cfg: DictConfig) -> Config:
    """`cfg` as the verb's dataclass; SetupError on an unknown key, wrong type or missing value."""
    try:
        merged = OmegaConf.merge(OmegaConf.structured(kind), _resolved(cfg))
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except OmegaConfBaseException as problem:
        raise _explained(kind, problem) from None


def plain(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """A dataclass of plain values, for example of another tool's configuration file."""
    return load(kind, OmegaConf.create(dict(values)))


def compose(verb: str, kind: type[Config], overrides: list[str]) -> Config:
    """The configuration that `python jobs/VERB.py OVERRIDES` would run with."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    _register(verb, kind)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return load(kind, hydra_compose(verb, freed(kind, bracketed(kind, overrides))))


def _register(verb: str, kind: type[Any]) -> None:
    """Makes the dataclass the schema of conf/VERB.yaml: its keys can be overridden, no others."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name=f"{verb}_schema", node=kind)


def _resolved(cfg: DictConfig) -> DictConfig:
    plain = OmegaConf.to_container(cfg, resolve=True)
    return OmegaConf.create(plain)  # type: ignore[arg-type, return-value]


def _explained(kind: type[Any], problem: OmegaConfBaseException) -> SetupError:
    first = str(problem).splitlines()[0]
    key = getattr(problem, "full_key", None) or getattr(problem, "key", None)
    near = difflib.get_close_matches(str(key), known_keys(kind), n=3, cutoff=0.5)
    return SetupError(
        f"configuration: {first} ({key})" if key else f"configuration: {first}",
        expected=f"did you mean {', '.join(near)}?" if near else "",
        todo=f"correct the override or conf/*.yaml ({key})" if key else "correct the override",
    )


def _defaults(kind: type[Any], prefix: str = "") -> dict[str, Any]:
    """Every dotted key of a config dataclass with its default; `???` where it has none."""
    hints = get_type_hints(kind)
    out: dict[str, Any] = {}
    for field in fields(kind):
        name = prefix + field.name
        if is_dataclass(hints[field.name]):
            out |= _defaults(hints[field.name], f"{name}.")  # type: ignore[arg-type]
        elif field.default is not MISSING:
            out[name] = getattr(field.default, "value", field.default)
        else:
            out[name] = "???" if field.default_factory is MISSING else field.default_factory()
    return {key: "null" if value is None else value for key, value in out.items()}


def known_keys(kind: type[Any], prefix: str = "") -> list[str]:
    """Every dotted key of a config dataclass."""
    return list(_types(kind, prefix))


def _types(kind: type[Any], prefix: str = "") -> dict[str, Any]:
    """Every dotted key of a config dataclass and its type."""
    hints = get_type_hints(kind)
    out: dict[str, Any] = {}
    for field in fields(kind):
        name = prefix + field.name
        out[name] = hints[field.name]
        if is_dataclass(hints[field.name]):
            out |= _types(hints[field.name], f"{name}.")  # type: ignore[arg-type]
    return out


def bracketed(kind: type[Any], overrides: Sequence[str]) -> list[str]:
    """The overrides with lists as Hydra reads them: `rows=1,2` is `rows=[1,2]`, so is `rows=1`.

    Without brackets Hydra takes commas for a sweep over several runs. Values that are lists
    already, null, interpolations or sweeps by name (`range(1,3)`) stay.
    """
    lists = {key for key, type_ in _types(kind).items() if get_origin(type_) is list}
    out: list[str] = []
    for one in overrides:
        key, _, value = one.partition("=")
        plain = key in lists and not re.match(r"\s*($|[\[$]|null$|\w+\()", value)
        out.append(f"{key}=[{value}]" if plain else one)
    return out


def freed(kind: type[Any], overrides: list[str]) -> list[str]:
    """The overrides, with `++` before those that give names to a mapping.

    Hydra takes new keys after a plus only: `scale.labels={part: extract}` would be refused.
    """
    mappings = _mappings(kind)

    def within(key: str) -> bool:
        return any(key == one or key.startswith(f"{one}.") for one in mappings)

    return [f"++{one}" if within(one.partition("=")[0]) else one for one in overrides]


def _mappings(kind: type[Any], prefix: str = "") -> list[str]:
    """The dotted keys of a config dataclass whose values are mappings from names of the user's."""
    out: list[str] = []
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            out += _mappings(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
        elif get_origin(hint) is dict:
            out.append(prefix + name)
    return out


def help_text(verb: str, kind: type[Any], sentence: str) -> str:
    """What `--help` of a verb prints: its YAML with its remarks, groups and remaining settings."""
    _, body = usage.split((CONF / f"{verb}.yaml").read_text())
    plain = OmegaConf.create(body)
    told = {str(key) for key in plain} if isinstance(plain, DictConfig) else set[str]()
    grouped = {"source", "scale"}  # their settings stand in their groups' files
    more = {k: v for k, v in _defaults(kind).items() if k.split(".")[0] not in told | grouped}
    return usage.text(verb, sentence, CONF, more)


def job(
    verb: str,
    kind: type[Config],
    run: Callable[[Config], Made],
    code: Callable[[Made], int] | None = None,
) -> None:
    """Runs a verb from the command line: Hydra overrides in, exit code out.

    0 when it ran, or what `code` makes of its result; 2 with one message for a wrong setup, 130 for
    Ctrl-C; anything else is a bug and shows its traceback.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text(verb, kind, getattr(sys.modules["__main__"], "__doc__", None) or verb))
        return
    if str(Path.cwd()) not in sys.path:  # where a task of the user's own may be: task=module:NAME
        sys.path.append(str(Path.cwd()))
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra would print and exit 1 on its own

    failed: list[RaydistillError] = []

    def entry(cfg: DictConfig) -> None:
        try:
            with metrics.job(verb) as observed:
                made = run(load(kind, cfg))
                observed.told(made)
                if code is not None and (end := code(made)):
                    raise SystemExit(end)
        except RaydistillError as problem:  # Hydra would print every override beside it
            failed.append(problem)

    logs.begin(verb)
    _register(verb, kind)
    given = sys.argv
    try:
        # In one run: argparse takes no options between overrides.
        overrides = [arg for arg in given[1:] if "=" in arg and not arg.startswith("-")]
        options = [arg for arg in given[1:] if arg not in overrides]
        if not {"-m", "--multirun"} & set(options):
            overrides = bracketed(kind, overrides)
        sys.argv = [given[0], *options, *_QUIET, *freed(kind, overrides)]
        hydra_main(version_base="1.3", config_path=str(CONF), config_name=verb)(entry)()
        if failed:
            raise failed[0]
    except (HydraException, OmegaConfBaseException) as problem:
        print(_override_message(kind, problem), file=sys.stderr)
        raise SystemExit(2) from None
    except RaydistillError as problem:
        print(f"raydistill {verb}: {problem}", file=sys.stderr)
        raise SystemExit(2) from None
    except Drained as drained:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(str(drained.code)))
    except KeyboardInterrupt:
        print(f"raydistill {verb}: interrupted; run the same command to go on", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        sys.argv = given


# No folder of Hydra's own a run: it would hold every override, and a job's folder is not ours.
_QUIET = (
    "hydra.run.dir=.",
    "hydra.sweep.dir=multirun",
    "hydra.sweep.subdir=.",
    "hydra.output_subdir=null",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
)


def _override_message(kind: type[Any], problem: Exception) -> str:
    lines = [line for line in str(problem).splitlines() if line.strip()]
    wrong = [arg.split("=")[0].lstrip("+~") for arg in sys.argv[1:] if "=" in arg]
    known = known_keys(kind)
    named = {key.rpartition(".")[0] for key in known}  # below any other key is a name of the user's
    unknown = [
        key
        for key in wrong
        if key not in known
        and key.split(".")[0] != "hydra"
        and (key.rpartition(".")[0] in named or key.rpartition(".")[0] not in known)
    ]
    near = {key: difflib.get_close_matches(key, known, n=3, cutoff=0.5) for key in unknown}
    hints = [f"  {key}: did you mean {', '.join(found)}?" for key, found in near.items() if found]
    told = [lines[0].rstrip(".") if lines else str(problem)]
    if problem.__cause__ is not None:  # what was wrong with the value, where that was it
        told += [str(problem.__cause__).splitlines()[0]]
    return "\n".join([f"configuration: {': '.join(told)}", *hints, *_choices()])


def _choices() -> list[str]:
    """What is wrong with words of the command line: no `=`, or a choice that a group has not."""
    out: list[str] = []
    for arg in sys.argv[1:]:
        group, given, name = arg.partition("=")
        if not given and not arg.startswith("-"):
            out.append(f"  {arg}: an override is KEY=VALUE")
        there = sorted(file.stem for file in (CONF / group).glob("*.yaml")) if given else []
        for one in name.split(",") if there else []:  # a sweep has several
            if one not in there:
                near = difflib.get_close_matches(one, there, n=3, cutoff=0.5)
                asked = f"did you mean {', '.join(near)}? " if near else ""
                out.append(f"  {group}={one}: {asked}there are {', '.join(there)}")
    return out
