"""The share of a worker's GPU time that each request takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.worker.gpu_time import GpuTime, gpus


def test_one_alone_takes_all_and_two_take_half_each() -> None:
    share = GpuTime(4)
    first = share.begin(0.0)
    second = share.begin(10.0)
    assert share.so_far(first, 20.0) == 60.0
    assert share.end(first, 20.0) == 10 * 4 + 10 * 2
    assert share.end(second, 25.0) == 10 * 2 + 5 * 4


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=8))
def test_all_shares_sum_up_to_the_time_in_which_anything_ran(
    spans: list[tuple[float, float]],
) -> None:
    share = GpuTime(2)
    moments = sorted(
        [(min(span), True, n) for n, span in enumerate(spans)]
        + [(max(span), False, n) for n, span in enumerate(spans)],
        key=lambda each: (each[0], not each[1]),
    )
    begun: dict[int, float] = {}
    total = busy = at = 0.0
    for now, begins, number in moments:
        busy += (now - at) * bool(begun)
        at = now
        if begins:
            begun[number] = share.begin(now)
        else:
            total += share.end(begun.pop(number), now)
    assert total == pytest.approx(2 * busy, abs=1e-6)


@pytest.mark.parametrize(
    ("environ", "count"),
    [
        ({}, 0),
        ({"SLURM_GPUS_ON_NODE": "4"}, 4),
        ({"SLURM_GPUS_ON_NODE": "4", "SLURM_JOB_NUM_NODES": "2"}, 8),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, 2),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1a"}, 1),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, 0),
        ({"CUDA_VISIBLE_DEVICES": ""}, 0),
        ({"SLURM_GPUS_ON_NODE": "what", "CUDA_VISIBLE_DEVICES": "3"}, 1),
    ],
)
def test_gpus_of_the_environment(environ: dict[str, str], count: int) -> None:
    assert gpus(environ) == count
