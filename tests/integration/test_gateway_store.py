"""The gateway's store on both databases: what is written is read, noted, kept, restored, erased."""

import json
import stat
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select, text, update

from headrace.gateway.admin.action import AdminError, RefusalReason
from headrace.gateway.admin.service import AdminService
from headrace.gateway.policy import api_keys
from headrace.gateway.policy.records import (
    EVERYONE,
    Limit,
    LimitWindow,
    Metric,
    Source,
    SubjectKind,
)
from headrace.gateway.store import backup, erasure, migrations, queries, schema
from headrace.gateway.store.database import Database, StoreError
from tests.support.stores import ACTOR, SECRET, Postgres

ADA = "ada@example.org"


def revision(database: Database) -> int:
    with database.read() as connection:
        return queries.revision(connection)


def limit(value: int, name: str = ADA) -> Limit:
    return Limit(
        kind=SubjectKind.USER,
        name=name,
        metric=Metric.REQUESTS,
        window=LimitWindow.MINUTE,
        value=value,
    )


def test_migrations_make_what_the_code_expects(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
    assert migrations.migrate(database) == migrations.NEWEST  # again: nothing to do
    assert migrations.steps()[0] == migrations.NEWEST


def test_an_empty_or_newer_store_is_refused(store_url: str) -> None:
    database = Database(store_url)
    with pytest.raises(StoreError, match="is empty"):
        migrations.check(database)
    migrations.migrate(database)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="newer"):
        migrations.migrate(database)
    with pytest.raises(StoreError, match="9999"):
        migrations.check(database)
    database.close()


def test_a_store_that_is_not_there_is_told_without_its_password() -> None:
    database = Database("postgresql+psycopg://me:hunter2@127.0.0.1:1/x")
    with pytest.raises(StoreError) as error, database.read():
        pass
    assert "hunter2" not in str(error.value)
    assert "127.0.0.1" in str(error.value)


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    database = Database(f"sqlite+pysqlite:///{tmp_path}/deep/gateway.db")
    migrations.migrate(database)
    with database.read() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
    assert stat.S_IMODE((tmp_path / "deep/gateway.db").stat().st_mode) == 0o600
    database.close()


def test_a_key_is_found_by_its_digest_and_never_stored(
    office: AdminService, database: Database
) -> None:
    minted = office.keys.create(ADA, make=True, groups=("chemistry",), seconds=60, name="laptop")
    assert api_keys.well_formed(minted.key)
    with database.read() as connection:
        (key,) = queries.keys(connection)
        (user,) = queries.users(connection)
        assert key == minted.record
        assert key.digest == api_keys.digest(SECRET, minted.key)
        assert user.groups == ("chemistry",)
        assert [group.name for group in queries.groups(connection)] == ["chemistry", EVERYONE]
    every = "\n".join(backup.lines(database))
    assert minted.key not in every
    assert minted.record.digest in every


def test_every_act_is_noted_and_counted(office: AdminService, database: Database) -> None:
    before = revision(database)
    office.groups.put("chemistry", models=["*"])
    office.people.put(ADA, organisation="Uni", join=["chemistry"])
    minted = office.keys.create(ADA)
    office.limits.set([limit(3)])
    office.keys.revoke(minted.record.id)
    assert revision(database) == before + 5
    with database.read() as connection:
        rows = connection.execute(select(schema.audit).order_by(schema.audit.c.id)).mappings().all()
    assert [row["action"] for row in rows] == [
        "group.put", "user.put", "key.made", "key.create", "limit.set", "key.revoke",
    ]  # fmt: skip
    assert all(row["who"] == "root" and row["via"] == "cli" and row["at"] > 1e9 for row in rows)
    assert minted.key not in str(rows)


def test_what_fails_leaves_nothing(office: AdminService, database: Database) -> None:
    before = revision(database)
    for act, why in (
        (lambda: office.keys.create("nobody@example.org"), RefusalReason.MISSING),
        (lambda: office.keys.create("with space", make=True), RefusalReason.INVALID),
        (lambda: office.keys.create(ADA, make=True, models=("",)), RefusalReason.INVALID),
        (lambda: office.people.put(ADA, join=["nothing"]), RefusalReason.MISSING),
        (lambda: office.people.put(ADA, join=[EVERYONE]), RefusalReason.INVALID),
        (lambda: office.groups.put("chemistry", endpoints=["shell"]), RefusalReason.INVALID),
        (lambda: office.groups.delete(EVERYONE), RefusalReason.INVALID),
        (lambda: office.limits.set([limit(3)]), RefusalReason.MISSING),
        (lambda: office.keys.revoke("k0"), RefusalReason.MISSING),
    ):
        with pytest.raises(AdminError) as refused:
            act()
        assert refused.value.why is why
    assert revision(database) == before
    with database.read() as connection:
        assert queries.users(connection) == []
        assert connection.execute(select(schema.audit)).all() == []


def test_a_key_is_rotated_with_two_that_live(database: Database) -> None:
    now = [1000.0]
    office = AdminService(database, SECRET, ACTOR, clock=lambda: now[0])
    old = office.keys.create(ADA, make=True, seconds=500, groups=("g",), wait="fail").record
    on_key = Limit(
        kind=SubjectKind.KEY,
        name=old.id,
        metric=Metric.TOKENS,
        window=LimitWindow.DAY,
        value=9,
        model="m",
    )
    office.limits.set([on_key])
    now[0] = 1100.0
    with pytest.raises(AdminError):
        office.keys.rotate(old.id, owner="bob@example.org")
    new = office.keys.rotate(old.id, overlap=50).record
    assert (new.replaces, new.expires, new.groups, new.wait) == (old.id, 1600.0, ("g",), "fail")
    with pytest.raises(AdminError, match="takes the place"):
        office.keys.rotate(old.id)
    with database.read() as connection:
        (kept,) = queries.keys(connection, id=old.id)
        assert {limit.name for limit in queries.limits(connection)} == {old.id, new.id}
    assert kept.lives(1149.0)
    assert not kept.lives(1150.0)
    assert new.lives(1599.0)
    office.keys.revoke(new.id)
    with pytest.raises(AdminError, match="is over"):
        office.keys.rotate(new.id)


def test_the_number_of_keys_is_bounded_where_asked(office: AdminService) -> None:
    office.people.put(ADA)
    first = office.keys.create(ADA, bound=2).record
    office.keys.create(ADA, bound=2)
    with pytest.raises(AdminError, match="2 keys already"):
        office.keys.create(ADA, bound=2)
    office.keys.revoke(first.id)
    office.keys.create(ADA, bound=2)


def test_groups_of_a_sign_in_follow_the_provider(office: AdminService, database: Database) -> None:
    for group in ("physics", "chemistry", "staff"):
        office.groups.put(group)
    office.people.put(ADA, join=["staff"])
    user = office.people.sign_in(ADA, "Uni", ["physics", "staff", "unknown", EVERYONE])
    assert user.groups == ("physics", "staff")
    before = revision(database)
    assert office.people.sign_in(ADA, "Uni", ["physics"]) == user
    assert revision(database) == before, "nothing has changed, and no edge need load anything"
    user = office.people.sign_in(ADA, "Uni", ["chemistry"])
    assert user.groups == ("chemistry", "staff")  # what a hand has done stays
    with database.read() as connection:
        assert queries.sources(connection, ADA) == {
            "chemistry": Source.SIGN_IN, "staff": Source.HAND,
        }  # fmt: skip
    office.people.put(ADA, disabled=True)
    with pytest.raises(AdminError, match="disabled"):
        office.people.sign_in(ADA, "Uni", ["physics"])


def test_limits_replace_each_other(office: AdminService, database: Database) -> None:
    office.people.put(ADA)
    office.limits.set([limit(3)])
    office.limits.set([limit(5)])
    with database.read() as connection:
        assert queries.limits(connection) == [limit(5)]
    office.limits.clear([limit(0)])
    with database.read() as connection:
        assert queries.limits(connection) == []
    office.limits.set([Limit(kind=SubjectKind.KEY, name="first", metric=Metric.CONCURRENCY,
                             window=LimitWindow.NOW, value=1)], static=["first"])  # fmt: skip


def usage_row(request: str, tenant: str) -> dict[str, object]:
    return {
        "request": request, "at": 0.0, "day": 0, "tenant": tenant, "organisation": "", "group": "",
        "model": "m", "cluster": "c", "endpoint": "chat", "status": 200, "outcome": "ok",
        "prompt_tokens": 1, "completion_tokens": 1, "queue_seconds": 0.0, "first_seconds": 0.0,
        "total_seconds": 0.0, "gpu_seconds": 0.0,
    }  # fmt: skip


def test_a_person_is_erased_everywhere(office: AdminService, database: Database) -> None:
    from headrace.gateway.policy import pseudonyms

    bob = "bob@example.org"
    key = office.keys.create(ADA, make=True, groups=("chemistry",)).record
    office.keys.create(bob, make=True)
    office.limits.set([limit(3), limit(4, bob)])
    tenant, other = (pseudonyms.of_user(SECRET, name) for name in (ADA, bob))
    counters = [f"user:{tenant}:requests:day", f"key:{key.id}:requests:day",
                f"each:{tenant}:model:m:tokens:day", f"user:{other}:requests:day"]  # fmt: skip
    with database.write() as connection:
        connection.execute(schema.usage.insert(), [usage_row("1", tenant), usage_row("2", other)])
        connection.execute(
            schema.counters.insert(),
            [{"name": name, "window": 0, "ends": 1.0, "value": 1} for name in counters],
        )
        connection.execute(
            schema.sessions.insert(),
            [{"digest": "d", "user": ADA, "expires": 9e9, "id_token": "x"}],
        )
    gone = office.people.erase(ADA)
    assert gone["keys"] == 1
    assert gone["usage"] == 1
    assert gone["counters"] == 3
    every = "\n".join(backup.lines(database))
    for trace in (ADA, tenant, key.id + '"', key.digest):
        assert trace not in every.replace(f'"target": "{key.id}"', ""), trace
    assert bob in every
    assert other in every
    assert erasure.ERASED in every
    with pytest.raises(AdminError):
        office.people.erase(ADA)


def test_a_backup_is_restored_into_either_database(
    office: AdminService, database: Database, tmp_path: Path
) -> None:
    office.keys.create(ADA, make=True, groups=("chemistry",), seconds=60)
    office.limits.set([limit(3)])
    saved = list(backup.lines(database))
    other = Database(f"sqlite+pysqlite:///{tmp_path}/other.db")
    migrations.migrate(other)
    AdminService(other, SECRET, ACTOR).keys.create("old@example.org", make=True)
    seen = revision(other)
    assert backup.restore(other, saved) == len(saved) - 2
    assert list(backup.lines(other)) == saved
    assert revision(other) > seen, "edges must load what was restored"
    assert backup.restore(database, backup.lines(other)) == len(saved) - 2
    assert list(backup.lines(database)) == saved
    office.people.put("new@example.org")  # ids go on where they were
    other.close()


@pytest.mark.parametrize("harm", ["", "{}", "torn", "cut", "count", "table"])
def test_a_broken_backup_changes_nothing(
    office: AdminService, database: Database, harm: str
) -> None:
    office.people.put(ADA)
    saved = list(backup.lines(database))
    broken = {
        "": [""], "{}": ["{}"], "torn": [saved[0], saved[1][:-3]], "cut": saved[:-1],
        "count": [*saved[:-1], json.dumps({"end": 99})],
        "table": [saved[0], json.dumps({"table": "alembic_version", "row": {}})],
    }[harm]  # fmt: skip
    with pytest.raises(StoreError):
        backup.restore(database, broken)
    assert list(backup.lines(database)) == saved


def test_writers_wait_for_each_other(database: Database) -> None:
    """A transaction that reads first and then writes does not fail because another one writes."""
    number = schema.revision.c.number
    before = revision(database)

    def add() -> None:
        for _ in range(20):
            with database.write() as connection:
                if not database.is_sqlite:
                    connection.execute(select(number).with_for_update())
                now = connection.execute(select(number)).scalar_one()
                connection.execute(update(schema.revision).values(number=now + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert revision(database) == before + 80


def test_what_fails_inside_leaves_no_trace_of_values(database: Database) -> None:
    with pytest.raises(StoreError) as error, database.write() as connection:
        connection.execute(schema.users.insert(), [{"name": None}])
    assert "INSERT" not in str(error.value)


@pytest.mark.postgres
def test_every_table_of_a_postgres_is_ours_alone(postgres: Postgres) -> None:
    database = Database(postgres.new())
    migrations.migrate(database)
    assert not database.empty
    database.close()
