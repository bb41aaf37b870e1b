"""Exports are what other trainers load, and the card says what is in them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from raydistill import export
from raydistill.dataset import SPLITS, Dataset
from raydistill.errors import SetupError
from raydistill.lessons import card
from tests.small_dataset import TASK, rows, write


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write(tmp_path_factory.mktemp("dataset") / "dataset")


@pytest.fixture(scope="module")
def out(made: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "export"
    config = export.Config(dataset=str(made.folder), out=str(folder), licence="cc-by-4.0")
    export.run(config)
    return folder


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


@pytest.mark.parametrize("split", SPLITS)
def test_every_row_is_a_line_of_each_format(made: Dataset, out: Path, split: str) -> None:
    table = made.table(split)
    pairs = list(zip(table["text"].to_pylist(), table["answer"].to_pylist(), strict=True))
    alpaca = lines(out / "alpaca" / f"{split}.jsonl")
    assert {tuple(one) for one in alpaca} == {("instruction", "input", "output")}
    assert [(one["input"], one["output"]) for one in alpaca] == pairs
    assert {one["instruction"] for one in alpaca} == {TASK.instruction}
    chat = lines(out / "chat" / f"{split}.jsonl")
    assert [[m["role"] for m in one["messages"]] for one in chat] == [["user", "assistant"]] * len(
        pairs
    )
    assert [(m[0]["content"], m[1]["content"]) for m in (one["messages"] for one in chat)] == [
        (TASK.prompt(text), answer) for text, answer in pairs
    ]
    for text, answer in pairs:
        TASK.parse(answer, text)


def test_llama_factory_finds_every_file_and_its_columns(out: Path) -> None:
    info = json.loads((out / "dataset_info.json").read_text())
    assert set(info) == {f"filing_events_{f}_{s}" for f in ("alpaca", "chat") for s in SPLITS}
    for entry in info.values():
        first = lines(out / entry["file_name"])[0]
        assert set(entry["columns"].values()) <= set(first)
        if entry.get("formatting") == "sharegpt":
            tags = entry["tags"]
            assert {message[tags["role_tag"]] for message in first["messages"]} == {
                tags["user_tag"],
                tags["assistant_tag"],
            }
            assert all(tags["content_tag"] in message for message in first["messages"])


def test_axolotl_gets_one_format_and_the_other_as_a_comment(out: Path) -> None:
    text = (out / "axolotl.yaml").read_text()
    config = yaml.safe_load(text)
    assert config["datasets"] == [
        {"path": "alpaca/train.jsonl", "ds_type": "json", "type": "alpaca"}
    ]
    assert (out / config["test_datasets"][0]["path"]).is_file()
    other = "\n".join(line[2:] for line in text.splitlines()[1:] if line.startswith("# "))
    assert yaml.safe_load(other)["datasets"] == [
        {
            "path": "chat/train.jsonl",
            "ds_type": "json",
            "type": "chat_template",
            "field_messages": "messages",
        }
    ]


def test_the_card_counts_what_is_in_the_dataset(made: Dataset, out: Path) -> None:
    text = (out / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "cc-by-4.0"
    assert front["size_categories"] == ["1K<n<10K" if len(rows()) >= 1000 else "n<1K"]
    for config in front["configs"]:
        for part in config["data_files"]:
            assert (out / part["path"]).is_file()
    assert f"{len(rows()):,} sentences" in text
    assert "| bad_date | 3 |" in text
    assert "| low_confidence | 12 |" in text
    assert "| definitive |" in text
    found = card.survey(made)
    assert found.straddling == 0
    assert "No company is in more than one split" in text
    events = sum(count * times for times, count in found.records.items())
    assert events == found.values["timing"].total()
    assert found.records[0] == sum(not row["keep"] for row in rows())
    assert found.length(1.0) == max(len(row["text"]) for row in rows())
    for name in ("types", "confidence", "lengths", "years"):
        plot = out / "plots" / f"{name}.png"
        assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert f"(plots/{name}.png)" in text


def test_without_a_licence_the_card_says_so(made: Dataset, tmp_path: Path) -> None:
    text = card.write(made, tmp_path, licence="").read_text()
    assert "not stated: ask" in text
    assert "license" not in yaml.safe_load(text.split("---\n")[1])


def test_a_plot_has_a_place_for_what_does_not_occur() -> None:
    assert card._columns(Counter({1990: 2, 1993: 1})) == (
        ["1990", "1991", "1992", "1993"],
        [2, 0, 0, 1],
    )


def test_companies_in_two_splits_are_counted() -> None:
    found = card.Survey(companies={"train": {"a", "b"}, "val": {"b"}, "test": {"a", "c"}})
    assert found.straddling == 2


def test_odd_values_do_not_break_tables_or_plots(tmp_path: Path) -> None:
    card._plot(tmp_path / "x.png", "odd", ["$a$ \\frac{", "日本", "a|b"], [1, 2, 3], flat=True)
    assert (tmp_path / "x.png").stat().st_size > 1000
    assert card._table(["a"], [["x|y\n<script>"]]).splitlines()[2] == "| x\\|y &lt;script> |"


def test_an_export_replaces_its_own_folder_and_no_other(made: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    config = export.Config(
        dataset=str(made.folder), out=str(folder), formats=["chat"], splits=["val"], card=False
    )
    manifest = export.run(config)
    assert manifest == export.run(config)
    assert manifest["files"] == {"chat": {"val": "chat/val.jsonl"}}
    names = sorted(one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file())
    assert names == ["axolotl.yaml", "chat/val.jsonl", "dataset_info.json", "export.json"]
    (folder / "export.json").unlink()
    with pytest.raises(SetupError, match="other files"):
        export.run(config)


def test_an_unknown_format_is_refused_with_the_known_ones(made: Dataset) -> None:
    with pytest.raises(SetupError, match="alpaca, chat"):
        export.Config(dataset=str(made.folder), out="x", formats=["sharegpt"])
