"""llama.cpp's counts, in its own words, taken out of a stream."""

from headrace.protocol.frames import Usage
from headrace.worker.stream.llamacpp_timings import TimingsExtractor

TIMINGS = (
    b',"timings":{"cache_n":24,"prompt_n":20,"prompt_ms":246.191,"prompt_per_second":81.2,'
    b'"predicted_n":%d,"predicted_ms":35.827,"predicted_per_second":55.8}'
)
TEXT = b'data: {"choices":[{"finish_reason":null,"index":%d,"delta":{"content":"x"}}],"id":"c"'
LAST = b'data: {"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"id":"c"'
END = b"}\n\n"


def test_counts_are_taken_out() -> None:
    timer = TimingsExtractor()
    events = b"".join((TEXT % 0) + (TIMINGS % number) + END for number in (3, 6))
    assert timer.take(events) == 2 * ((TEXT % 0) + END)
    assert timer.usage == Usage(44, 6)


def test_the_last_event_keeps_what_nobody_asked_for() -> None:
    last = LAST + (TIMINGS % 9) + END
    timer = TimingsExtractor()
    assert timer.take(last + b"data: [DONE]\n\n") == last + b"data: [DONE]\n\n"
    assert timer.usage == Usage(44, 9)


def test_choices_add_up() -> None:
    timer = TimingsExtractor()
    for index, number in ((0, 3), (1, 2), (0, 4)):
        timer.take((TEXT % index) + (TIMINGS % number) + END)
    assert timer.usage == Usage(44, 6)


def test_a_text_that_speaks_of_timings_is_a_text() -> None:
    event = (TEXT % 0).replace(b"x", rb",\"timings\":{\"cache_n\":1") + END
    timer = TimingsExtractor()
    assert timer.take(event) == event
    assert timer.usage == Usage()
