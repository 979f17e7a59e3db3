"""One model file: what it becomes, and how it is refused."""

import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.catalogue import model, schedule, worker
from headrace.catalogue.scale import Scale
from headrace.protocol.endpoints import Endpoint
from headrace.runtime import lines
from headrace.runtime.nats.bus import BusOptions
from headrace.runtime.problems import FileRefusedError
from headrace.slurm import record
from headrace.worker import options
from tests.support.parts import ROOT
from tests.unit.catalogue.texts import GOOD

CLUSTER = worker.ClusterOptions(
    name="c1", bus=BusOptions("nats://node:4222", "/keys/worker.nk"), configs="/shared/workers"
)
MINIMAL = 'name = "M"\n[engine]\nkind = "llamacpp"\nmodel = "/m.gguf"\n[job]\n'


def refusal(text: str) -> FileRefusedError:
    with pytest.raises(FileRefusedError) as caught:
        model.read(text)
    return caught.value


def test_a_file_becomes_a_model() -> None:
    made = model.read(GOOD)
    assert made.queue == "qwen-qwen3-8b"
    assert made.facts.name == "Qwen/Qwen3-8B"
    assert made.facts.endpoints == (Endpoint.CHAT, Endpoint.COMPLETIONS)
    assert made.scale.schedule[1].min == 2
    assert made.job.time_seconds == 8 * 3600


def test_little_is_enough() -> None:
    made = model.read(MINIMAL)
    assert (made.scale.min, made.scale.max) == (0, 1)
    assert made.slots == 8


@pytest.mark.parametrize(
    ("old", "new", "at", "says"),
    [
        ("max = 3", "maximum = 3", "maximum = 3", "scale: Object contains unknown field `maximum`"),
        ("max = 3", 'max = "3"', 'max = "3"', "scale.max: Expected `int`"),
        ("max = 3", "max = 3\nmin = 4", "min = 4", "min: 4 is more than max = 3"),
        ("max = 3", "max = ", "max = ", "not valid TOML"),
        ("max = 3", "max = 3\nmax = 3", "max = 3", "not valid TOML"),
        ("max = 3", 'max = 3\ntimezone = "Mars"', 'timezone = "Mars"', "timezone: not known here"),
        ("min = 2", "min = 2\nfoo = 2", "foo = 2", "scale.schedule[1]"),
        ("daily 22", "often 22", 'when = "often 22:00-02:00"', "not like 'mon-fri 08:00-18:00'"),
        ("min = 2", "", "[[scale.schedule]]", "missing required field `min`"),
        ('model = "/models/q"', "", "[engine]", "engine.model: missing"),
        ('"vllm"', '"ollama"', 'kind = "ollama"', "Invalid enum value 'ollama'"),
        ('"16384"', "16384", "args = [", "engine.args[1]: Expected `str`"),
        ('C = "y"', "C = 1", 'env = { "A.B" = "x", C = 1 }', "engine.env"),
        ("gpu:1", "gpu:1 --wrap=x", 'gres = "gpu:1 --wrap=x"', "could misread"),
        ("/images/b.sif", "b c", 'image = "b c"', "apptainer.image"),
        ("[job]", "[[job]]", "[[job]]", "job: Expected `object`"),
        ('name = "Qwen', 'nam = "Qwen', 'nam = "Qwen/Qwen3-8B"', "unknown field `nam`"),
        ("Qwen/Qwen3-8B", "!!", 'name = "!!"', "name: not a slug"),
        ("Qwen/Qwen3-8B", "a\\nb", 'name = "a\\nb"', "name: "),
        ("# A comment.", 'slug = "a.>"', 'slug = "a.>"', "slug: not a slug"),
        ("# A comment.", "slots = 0", "slots = 0", "slots: Expected `int` >= 1"),
        ("# A comment.", "endpoints = []", "endpoints = []", "endpoints"),
        ("# A comment.", 'group = "a\\u0007"', 'group = "a\\u0007"', "group: only printable"),
        ("# A comment.", "[lanes]\nlow = 0", "low = 0", "lanes.low"),
        ('image = "/images/b.sif"', 'image = """', 'image = """', "not valid TOML"),
    ],
)
def test_a_refusal_has_line_and_reason(old: str, new: str, at: str, says: str) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new) if "lanes" not in new else GOOD + new
    found = refusal(text)
    assert says in found.reason
    assert text.splitlines()[found.line - 1] == at


def test_what_is_no_model_at_all_is_refused() -> None:
    assert "engine" in refusal('name = "x"').reason
    assert refusal("").line == 0
    assert refusal("a = " + "[" * 5000).reason.startswith("not valid TOML")
    assert refusal("a = 9" + "9" * 5000).reason.startswith("not valid TOML")


@given(st.text(max_size=300))
def test_any_text_is_refused_and_never_crashes(text: str) -> None:
    found = refusal(text)
    assert 0 <= found.line <= text.count("\n") + 1
    assert found.reason.isprintable()


@given(st.integers(0, len(GOOD)), st.integers(0, 12), st.text(max_size=8))
def test_a_good_file_with_a_wound_is_read_or_refused(at: int, cut: int, put: str) -> None:
    text = GOOD[:at] + put + GOOD[at + cut :]
    refused: FileRefusedError | None = None
    try:
        model.read(text)
    except FileRefusedError as error:
        refused = error
    assert refused is None or (refused.reason and refused.line <= text.count("\n") + 1)


def paths(value: object, path: lines.Path = ()) -> list[lines.Path]:
    """The path of every table and every key of what a parser gave."""
    found = []
    items: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list) and all(isinstance(item, dict) for item in value):
        items = list(enumerate(value))
    for key, inner in items:
        found += [(*path, key), *paths(inner, (*path, key))]
    return found


def test_every_key_of_every_example_has_its_line() -> None:
    texts = [file.read_text() for file in (ROOT / "infra/models.d").iterdir()]
    assert len(texts) >= 4
    for text in [
        GOOD,
        *texts,
        'a.b."c d" = 1\n["x\\u0041".y]\nz.w = [1,\n2]\n[x]\n[[x.l]]\n[[x.l]]\nq=1',
    ]:
        known = lines.lines_of(text)
        for path in paths(tomllib.loads(text)):
            line = text.splitlines()[lines.find(known, path) - 1]
            assert path in known or "{" in line or "[" in line
            if isinstance(path[-1], str) and path in known:
                assert path[-1] in line or "\\u0041" in line


MODELS = ROOT / "infra/models.d"
OURS = sorted({*MODELS.iterdir()} - {MODELS / "external.toml.example"})


@pytest.mark.parametrize("file", OURS, ids=lambda f: f.name)
def test_the_examples_are_good_and_their_workers_can_be_started(file: Path, tmp_path: Path) -> None:
    made = model.read(file.read_text())
    config = tmp_path / "worker.toml"
    config.write_text(worker.worker_options(made, CLUSTER))
    chosen = options.load(config, {})
    assert (chosen.model_slug, chosen.model_name) == (made.queue, made.name)
    assert (chosen.slots, chosen.lanes) == (made.slots, made.lanes)
    assert chosen.engine == made.engine
    assert chosen.drain_seconds == made.drain_seconds
    assert chosen.bus == CLUSTER.bus
    script = worker.batch_script(made, CLUSTER, record.new_submission())
    assert worker.config_path(made, CLUSTER) in script
    assert f"/{made.generation}/" in script


@given(st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=4), st.text(max_size=20))
def test_whatever_a_file_says_arrives_at_the_worker(env: dict[str, str], arg: str) -> None:
    engine = msgspec.structs.replace(model.read(GOOD).engine, env=env, args=(arg,))
    made = msgspec.structs.replace(model.read(GOOD), engine=engine)
    table = tomllib.loads(worker.worker_options(made, CLUSTER))
    assert msgspec.convert(table, options.WorkerOptions).engine == engine


def test_the_generation_follows_the_worker_and_not_the_scaling() -> None:
    first = model.read(GOOD).generation
    assert model.read(GOOD.replace("max = 3", "max = 5")).generation == first
    assert model.read(GOOD.replace("gpu:1", "gpu:2")).generation != first
    assert model.read(GOOD.replace("/models/q", "/models/r")).generation != first
    assert model.read("slots = 9\n" + GOOD).generation != first


def test_a_minimum_above_the_maximum_of_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="more than max"):
        Scale(max=1, schedule=(schedule.ScheduleWindow(when="daily 01:00-02:00", min=2),))
