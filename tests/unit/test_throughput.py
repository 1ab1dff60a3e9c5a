"""Throughput on a made-up clock, so that the numbers are exact."""

import pytest

from common import throughput


class Clock:
    """An accelerator whose device takes the time it is told."""

    device = None

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(throughput.time, 'perf_counter', lambda: self.now)

    def mark(self):
        return self.now

    def seconds(self, a, b):
        return b - a

    def synchronize(self):
        pass

    def peak_memory(self):
        return 3 * 2**20


class Ranks:
    """One rank, or two of which the other did the same and was a little slower."""

    def __init__(self, images=1.0, seconds=1.0):
        self.factors = images, seconds

    def sum(self, values, device):
        return [self.factors[0] * v for v in values]

    def max(self, values, device):
        return [self.factors[1] * v for v in values]


def test_fps_is_images_over_seconds_of_the_same_steps(monkeypatch):
    """Two epochs of 4 steps; the first 2 steps are warm-up; what lies between the epochs does not count."""
    device = Clock(monkeypatch)
    clock = throughput.StepClock(device, warmup_steps=2)
    for epoch in range(2):
        clock.begin()
        for seconds in (9.0, 9.0, 1.0, 3.0) if epoch == 0 else (1.0, 1.0, 1.0, 1.0):
            device.now += seconds
            clock.step(10, waited=0.5)
        clock.end()
        device.now += 100.0
    result = clock.result(Ranks())
    assert (result['steps'], result['images'], result['seconds']) == (6, 60, 8.0)
    assert result['fps'] == 60 / 8 and result['step_ms'] == pytest.approx(8000 / 6)
    assert (result['step_ms_p50'], result['step_ms_p95']) == (1000.0, 3000.0)
    assert result['data_wait'] == 6 * 0.5 / 8 and result['fps_run'] == 80 / 226 and result['peak_memory_mb'] == 3
    assert clock.result(Ranks(2, 1.25))['fps'] == 2 * 60 / (8 * 1.25)  # all ranks' images, the slowest rank's seconds


def test_a_lap_is_what_came_since_the_last_one(monkeypatch):
    device = Clock(monkeypatch)
    clock = throughput.StepClock(device, warmup_steps=0)
    clock.begin()
    for expected in (5.0, 20.0):
        for _ in range(2):
            device.now += 10 / expected
            clock.step(10, waited=1 / expected)
        lap = clock.lap()
        assert (lap['fps'], lap['step_ms'], lap['data_wait']) == pytest.approx((expected, 10000 / expected, 0.1))


def test_too_short_a_run_says_why(monkeypatch):
    device = Clock(monkeypatch)
    clock = throughput.StepClock(device, warmup_steps=3)
    clock.begin()
    for _ in range(3):
        device.now += 1.0
        clock.step(10, 0.0)
    clock.end()
    result = clock.result(Ranks())
    assert result['fps_run'] == 10.0
    assert result['fps'] is result['step_ms'] is result['step_ms_p95'] is None
    assert '3 steps' in result['fps_reason'] and 'first 3 are warm-up' in result['fps_reason']


@pytest.mark.parametrize(
    'asked, steps, expected', [(None, 120, 20), (None, 12, 2), (None, 3, 1), (None, 5000, 20), (7, 12, 7), (0, 12, 0)]
)
def test_warmup(asked, steps, expected):
    assert throughput.warmup_steps(asked, steps) == expected
