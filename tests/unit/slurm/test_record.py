"""Whose a job is: our own are known again, and nobody else's crash us or pass for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.slurm import record
from headrace.slurm.record import Record

OURS = Record("site-a", "c1", "qwen3-8b", "9644350fe50f", "00112233aabbccdd")
slugs = st.from_regex(r"[a-z0-9][a-z0-9-]{0,63}", fullmatch=True)
records = st.builds(
    Record, slugs, slugs, slugs, st.from_regex(r"[0-9a-f]{1,64}", fullmatch=True), slugs
)


@given(records)
def test_what_is_written_is_read(ours: Record) -> None:
    comment = record.comment(ours)
    assert record.parse(comment) == ours
    assert record.parse(f"site plugin: {comment}; project=7") == ours
    assert len(comment) <= 350


@given(st.text())
def test_any_comment_at_all(text: str) -> None:
    assert record.parse(text) is None or "headrace/1/" in text


@pytest.mark.parametrize(
    "comment",
    [
        "",
        "(null)",
        "headrace",
        "headrace/1/site-a/c1/qwen3-8b/9644350fe50f",
        "headrace/2/site-a/c1/qwen3-8b/9644350fe50f/00112233aabbccdd",
        "headrace/1/site-a/c1/Qwen/9644350fe50f/00112233aabbccdd",
        "headrace/1/site-a/c1/../9644350fe50f/00112233aabbccdd",
        "headrace/1/site-a/c1/qwen3-8b/nothex/00112233aabbccdd",
        "xheadrace/1/site-a/c1/qwen3-8b/9644350fe50f/00112233aabbccdd",
        "headrace/1/site-a/c1/qwen3-8b/9644350fe50f/00112233aabbccdd/more",
        "headrace/1/" + "a" * 65 + "/c1/qwen3-8b/9644350fe50f/00112233aabbccdd",
    ],
)
def test_other_comments(comment: str) -> None:
    assert record.parse(comment) is None


@pytest.mark.parametrize("field", ["installation", "cluster", "model", "spec_hash", "submission"])
@pytest.mark.parametrize("value", ["", "a/b", "a b", "A", "-a", "a\n", "a" * 65])
def test_no_record_of_what_is_no_slug(field: str, value: str) -> None:
    fields = {name: getattr(OURS, name) for name in OURS.__struct_fields__} | {field: value}
    with pytest.raises(ValueError, match="not a"):
        Record(**fields)


def test_names() -> None:
    assert record.job_name("qwen3-8b") == "hr-qwen3-8b"
    assert record.model_of("hr-qwen3-8b") == "qwen3-8b"
    for name in ("qwen3-8b", "hr-", "hr-Q", "hr-a b", "xhr-a", "hr-a\n"):
        assert record.model_of(name) is None
    with pytest.raises(ValueError, match="slug"):
        record.job_name("a b")


def test_submissions_differ() -> None:
    assert len({record.new_submission() for _ in range(1000)}) == 1000
