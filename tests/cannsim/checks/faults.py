"""What goes wrong in the simulated runtime: functions, not checks, as each wants a process of its own."""

import torch
from runtime import close_to, copied, raises
from torch import npu


def device_count():
    return npu.device_count()


def forgotten_waits():
    """-> how often what was not waited for was not there"""
    return sum(not copied(number, False) for number in range(1, 30))


def failing_operator():
    """With CANNSIM_FAULT=op:aclnnMuls:3. -> what the synchronisation raised"""
    x = torch.ones(10).to('npu')
    y = x * 2 * 2
    assert close_to(y, 4)
    z = x * 2
    error = raises(RuntimeError, '507015 aclnnMuls', npu.synchronize)
    raises(RuntimeError, '', lambda: z.cpu())  # the stream stays as it is
    return str(error)


def lost_device():
    """With CANNSIM_FAULT=lost:20. -> how many steps there were, and what was raised"""
    x = torch.ones(10).to('npu')
    for step in range(100):
        try:
            x = x + 1
            x.cpu()
        except RuntimeError as e:
            raises(RuntimeError, '', lambda: torch.ones(1 << 20).to('npu').cpu())
            return step, str(e)
    raise AssertionError('the device was not lost')


def busy_card():
    """With CANNSIM_FAULT=busy:1. -> what was raised"""
    npu.set_device(0)
    assert torch.ones(1).to('npu').item() == 1
    return str(raises(RuntimeError, '507033', lambda: (npu.set_device(1), torch.ones(1).to('npu'))))


def no_memory_left():
    """With CANNSIM_FAULT=oom:2. -> what was raised"""
    x = torch.ones(1 << 20).to('npu')
    error = raises(torch.OutOfMemoryError, 'out of memory', lambda: torch.empty(64 << 20, device='npu'))
    assert close_to(x, 1)
    return str(error)


def first_use():
    """-> what the first use of the device raises"""
    return str(raises(RuntimeError, '', lambda: torch.ones(1).to('npu')))


def failing_call():
    """With CANNSIM_FAULT=op:aclnnMuls:1. -> what the call itself raised"""
    x = torch.ones(10).to('npu')
    return str(raises(RuntimeError, '', lambda: x * 2))


def steps():
    """-> how many steps of fifty there were before the device was lost"""
    x = torch.ones(10).to('npu')
    for step in range(50):
        try:
            x = x + 1
            x.cpu()
        except RuntimeError:
            return step
    return 50
