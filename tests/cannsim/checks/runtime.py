"""What the simulated runtime does: devices, memory, order of streams, events, counts, faults.

The checks want CANNSIM_DELAY_US=3000, CANNSIM_MEMORY_MB=1024 and ASCEND_RT_VISIBLE_DEVICES=0,1,2,5.
"""

import ctypes
import functools
import json
import os
import tempfile

import torch
import torch_npu  # noqa: F401
from torch import npu


def raises(kind, words, function, *arguments):
    """-> what was raised, which has these words in it"""
    try:
        function(*arguments)
    except kind as e:
        assert all(word in str(e) for word in words.split()), e
        return e
    raise AssertionError(f'nothing was raised; {kind.__name__} was expected')


def close_to(tensor, value):
    return bool((tensor.cpu() == value).all())


@functools.cache
def side():
    """-> a stream beside the current one"""
    return npu.Stream()


def calm():
    """A check must not find what another one left running."""
    npu.synchronize()
    npu.empty_cache()


# ---- devices


def check_devices():
    assert npu.is_available() and npu.device_count() == 4
    for index in range(4):
        x = torch.ones(2, device=f'npu:{index}')
        assert x.device.index == index and x.sum().item() == 2
    npu.set_device(2)
    assert npu.current_device() == 2 and torch.empty(1, device='npu').device.index == 2
    npu.set_device(0)
    raises(RuntimeError, '', lambda: torch.ones(1, device='npu:4'))


def check_chip():
    assert npu.get_device_name(0) == 'Ascend910B3' and npu.is_bf16_supported()
    properties = npu.get_device_properties(0)
    assert properties.total_memory in (1024, 1024 << 20)
    assert npu.utils.is_support_inf_nan()


def check_copies_between_devices():
    x = torch.arange(6.0).reshape(2, 3)
    y = x.to('npu:0').to('npu:3')
    assert y.device.index == 3 and torch.equal(y.cpu(), x)


# ---- memory


def check_memory_that_was_not_written_is_nan():
    calm()
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        assert torch.empty(3 << 20, dtype=dtype, device='npu').cpu().isnan().all()
        calm()


def check_out_of_memory():
    calm()
    before = npu.mem_get_info()[0]
    error = raises(
        torch.OutOfMemoryError, 'out of memory', lambda: torch.empty(2 << 30, dtype=torch.uint8, device='npu')
    )
    assert '2.00 GiB' in str(error), error
    x = torch.empty(512 << 20, dtype=torch.uint8, device='npu')
    used = before - npu.mem_get_info()[0]
    assert 512 << 20 <= used <= 520 << 20 and npu.memory_allocated() >= 512 << 20, used
    raises(torch.OutOfMemoryError, '', lambda: torch.empty(768 << 20, dtype=torch.uint8, device='npu'))
    del x
    calm()
    assert npu.mem_get_info()[0] == before


# ---- order


def copied(number, wait):
    """-> whether what a side stream copied arrived before the current stream read it"""
    host = torch.full((1000,), float(number)).pin_memory()
    with npu.stream(side()):
        x = host.to('npu', non_blocking=True)
    if wait:
        npu.current_stream().wait_stream(side())
    y = x * 2
    x.record_stream(npu.current_stream())
    return close_to(y, 2.0 * number)


def check_forgotten_wait_shows():
    assert all(copied(number, True) for number in range(10))
    assert not all(copied(number, False) for number in range(10, 30))


def kept(number, record):
    """-> whether a tensor of a side stream outlives its last name while the current stream is about to read it"""
    calm()
    main = npu.current_stream()
    with npu.stream(side()):
        x = torch.full((1000,), float(number), device='npu')
    main.wait_stream(side())
    for _ in range(40):
        busy = torch.ones(1000, device='npu') + 1  # keeps the current stream from coming to x soon
    y = x * 2
    if record:
        x.record_stream(main)
    del x
    with npu.stream(side()):
        other = torch.full((1000,), -1.0, device='npu')  # takes the place that was freed
        side().synchronize()
    right = close_to(y, 2.0 * number)
    assert close_to(other, -1.0) and close_to(busy, 2.0)
    return right


def check_record_stream():
    assert all(kept(number, True) for number in range(10))
    assert not all(kept(number, False) for number in range(10, 30))


def check_host_memory_that_is_changed_too_early_shows():
    """Pinned memory is read when the stream comes to it, pageable memory before the call returns."""

    def sent(host):
        with npu.stream(side()):
            x = host.to('npu', non_blocking=True)
        host.fill_(-1)
        side().synchronize()
        return close_to(x, 5.0)

    assert all(sent(torch.full((1000,), 5.0)) for _ in range(5))
    assert not all(sent(torch.full((1000,), 5.0).pin_memory()) for _ in range(20))


def check_results_that_are_read_too_early_show():
    def fetched(wait):
        x = torch.full((1000,), 3.0, device='npu')
        host = torch.zeros(1000).pin_memory()
        side().wait_stream(npu.current_stream())
        with npu.stream(side()):
            host.copy_(x, non_blocking=True)
        if wait:
            side().synchronize()
        right = bool((host == 3).all())
        side().synchronize()
        return right

    assert all(fetched(True) for _ in range(5))
    assert not all(fetched(False) for _ in range(10))


# ---- events


def check_events():
    first, last, untimed = npu.Event(enable_timing=True), npu.Event(enable_timing=True), npu.Event()
    host = torch.ones(1000).pin_memory()
    with npu.stream(side()):
        first.record()
        for _ in range(20):
            host.to('npu', non_blocking=True)
        last.record()
        untimed.record()
    assert not untimed.query()
    last.synchronize()
    assert last.query() and 5 < first.elapsed_time(last) < 2000  # twenty delays of 1.5 ms on average
    untimed.synchronize()
    raises(RuntimeError, '', first.elapsed_time, untimed)


def check_streams_are_queried():
    with npu.stream(side()):
        for _ in range(5):
            torch.ones(1000).pin_memory().to('npu', non_blocking=True)
    assert not side().query()
    side().synchronize()
    assert side().query()


# ---- counts


def counted(function):
    """-> the counts of what a function does"""
    runtime = ctypes.CDLL('libascendcl.so')
    npu.synchronize()
    runtime.cannsim_counts_reset()
    function()
    with tempfile.NamedTemporaryFile(suffix='.json') as file:
        assert runtime.cannsim_counts_write(os.fsencode(file.name)) == 0
        return json.load(open(file.name))


def check_counts():
    x = torch.ones(1000, device='npu')

    def work():
        y = torch.ones(500).to('npu')
        ((x * 2) * 3).add_(1)
        npu.synchronize()
        y.cpu()

    found = counted(work)
    assert found['launches']['aclnnMuls'] == 2 and sum(found['launches'].values()) == 3, found
    assert found['copies']['h2d'] == {'count': 1, 'bytes': 2000} == found['copies']['d2h'], found
    assert found['synchronisations']['device'] == 1 and found['pid'] == os.getpid(), found
    assert found['memory']['peak_bytes'] >= 4000, found


def check_what_is_not_simulated_is_named():
    error = raises(
        RuntimeError, 'aclnnRenorm', lambda: (torch.ones(2, 2, device='npu').renorm(2, 0, 1), npu.synchronize())
    )
    assert 'not simulated' in str(error), error
