"""Streams and events. All streams of a device are one, which has always finished; an event is a time."""

import time

import torch

__all__ = ['Stream', 'Event']


class Stream(torch.Stream):
    def __new__(cls, device=None, priority=0, **kwargs):
        if device is None or isinstance(device, int):
            device = torch.device('npu', torch.npu.current_device() if device is None else device)
        return super().__new__(cls, device=device, priority=priority, **kwargs)

    def wait_event(self, event):
        event.wait(self)

    def wait_stream(self, stream):
        self.wait_event(stream.record_event())

    def record_event(self, event=None):
        event = Event() if event is None else event
        event.record(self)
        return event

    def query(self):
        return True

    def synchronize(self):
        pass


class Event:
    def __init__(self, enable_timing=False, blocking=False, interprocess=False):
        self._timing, self._time = enable_timing, None

    def record(self, stream=None):
        self._time = time.perf_counter()

    def wait(self, stream=None):
        pass

    def query(self):
        return True

    def elapsed_time(self, end_event):
        """Milliseconds between the two records."""
        if not (self._timing and end_event._timing):
            raise RuntimeError('both events must be made with enable_timing=True')
        if self._time is None or end_event._time is None:
            raise RuntimeError('both events must be recorded before their elapsed time is asked for')
        return (end_event._time - self._time) * 1000

    def synchronize(self):
        pass
