"""Accounts on both databases: summed up, told as CSV and JSON, drawn, pruned, erased."""

import csv
import io
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import func, select

from headrace.cli.main import main
from headrace.gateway.admin.service import AdminService
from headrace.gateway.policy import pseudonyms
from headrace.gateway.store import schema, usage
from headrace.gateway.store.database import Database
from headrace.gateway.store.usage import DAY, UsageRow
from tests.support.stores import SECRET

START = 20_000 * DAY


def row(number: int, day: int, tenant: str, model: str, **fields: Any) -> UsageRow:
    values: dict[str, Any] = {
        "request": f"{number:032x}", "at": START + day * DAY + 10.0, "tenant": tenant,
        "organisation": "Uni", "group": "g", "model": model, "cluster": "c", "endpoint": "chat",
        "status": 200, "outcome": "ok", "prompt_tokens": 3, "completion_tokens": 5,
        "queue_seconds": 1.0, "first_seconds": 1.5, "total_seconds": 4.0, "gpu_seconds": 0.5,
    }  # fmt: skip
    return UsageRow(**(values | fields))


def write(database: Database, *rows: UsageRow) -> None:
    with database.write() as connection:
        usage.write(connection, rows)


THREE_DAYS = (
    row(1, 0, "ada", "big"), row(2, 0, "ada", "small"), row(3, 0, "bob", "big"),
    row(4, 1, "ada", "big", status=502), row(5, 2, "cyd", "small", organisation="=HYPERLINK()"),
)  # fmt: skip


def test_sums_by_day_and_model(database: Database) -> None:
    write(database, *THREE_DAYS)
    write(database, THREE_DAYS[0])  # a batch that was written, though nobody heard of it
    with database.read() as connection:
        by_model = usage.report(connection, ("model",))
        by_day = usage.report(connection, ("day",))
        (total,) = usage.report(connection)
        late = usage.report(connection, ("day",), since=START + DAY, until=START + DAY + 5)
        assert usage.report(connection, ("user",), since=START + 9 * DAY) == []
    assert [(each.by["model"], each.requests, each.users) for each in by_model] == [
        ("big", 3, 2), ("small", 2, 2),
    ]  # fmt: skip
    assert [(each.by["day"], each.requests, each.users) for each in by_day] == [
        ("2024-10-04", 3, 2), ("2024-10-05", 1, 1), ("2024-10-06", 1, 1),
    ]  # fmt: skip
    assert (total.requests, total.prompt_tokens, total.completion_tokens) == (5, 15, 25)
    assert (total.gpu_seconds, total.mean_queue_seconds, total.failed) == (2.5, 1.0, 1)
    assert [each.by["day"] for each in late] == ["2024-10-05"]


def test_sums_are_those_of_the_rows_whatever_they_are(database: Database) -> None:
    dice = random.Random(6)
    rows = [
        row(n, dice.randrange(40), f"t{dice.randrange(20)}", dice.choice("abc"),
            prompt_tokens=dice.randrange(10**6), group=dice.choice(["x", ""]))
        for n in range(500)
    ]  # fmt: skip
    write(database, *rows)
    with database.read() as connection:
        found = usage.report(connection, ("day", "model", "group"))
        assert sorted(usage.first_days(connection)) == sorted(
            min(int(r.at // DAY) for r in rows if r.tenant == tenant)
            for tenant in {r.tenant for r in rows}
        )
    for each in found:
        mine = [
            r for r in rows
            if (usage.date(int(r.at // DAY)), r.model, r.group)
            == (each.by["day"], each.by["model"], each.by["group"])
        ]  # fmt: skip
        assert each.requests == len(mine) > 0
        assert each.users == len({r.tenant for r in mine})
        assert each.prompt_tokens == sum(r.prompt_tokens for r in mine)
    assert sum(each.requests for each in found) == 500


def test_old_days_are_pruned_and_one_persons_rows_erased(office: AdminService) -> None:
    tenant = pseudonyms.of_user(SECRET, "ada@example.org")
    office.people.put("ada@example.org")
    write(office.database, *THREE_DAYS, row(9, 2, tenant, "big"))
    with office.database.write() as connection:
        assert usage.prune(connection, START + 2 * DAY + 77.0) == 4
    assert office.people.erase("ada@example.org")["usage"] == 1
    with office.database.read() as connection:
        left = connection.execute(select(func.count()).select_from(schema.usage)).scalar_one()
    assert left == 1


@pytest.fixture
def site(
    tmp_path: Path, store_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "api.secret").touch(mode=0o600)
    (tmp_path / "api.secret").write_text(SECRET.hex())
    text = f'secret_file = "api.secret"\n[store]\nurl = "{store_url}"\n'
    (tmp_path / "edge.toml").write_text(text)
    write(database, *THREE_DAYS)
    return tmp_path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["usage", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_tells_it_as_json_csv_and_text(site: Path) -> None:
    told = json.loads(run("--by", "model", "--json"))
    assert [(each["model"], each["requests"]) for each in told] == [("big", 3), ("small", 2)]
    read = list(csv.DictReader(io.StringIO(run("--by", "organisation", "--by", "day", "--csv"))))
    assert read[0]["organisation"] == "'=HYPERLINK()", "no spreadsheet runs it"
    assert sum(int(each["requests"]) for each in read) == 5
    assert "2024-10-04" in run()
    assert json.loads(run("--since", "1d", "--json")) == []
    days = (time.time() - START) / DAY
    assert json.loads(run("prune", "--older", f"{int(days) - 1}d", "--json"))["removed"] == 3


def test_the_three_plots_of_the_papers_figures(site: Path) -> None:
    names = json.loads(run("plot", "pictures", "--json"))
    texts = [(site / name).read_text() for name in names]
    assert all("<svg" in text for text in texts)
    assert [
        wanted in text for wanted, text in zip(
            ("Distinct users", "Users per day", "Requests per day and model"), texts, strict=True
        )
    ] == [True] * 3  # fmt: skip
    assert "small" in texts[2]
    assert "big" in texts[2]


def test_what_is_drawn() -> None:
    from headrace.cli.admin import plots

    days, totals = plots.cumulative([3, 1, 3, 9])
    assert [str(day) for day in days] == ["1970-01-02", "1970-01-04", "1970-01-10"]
    assert totals == [1, 3, 4]
