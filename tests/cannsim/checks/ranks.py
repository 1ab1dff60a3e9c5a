"""One rank of a process group 'hccl' on the simulated CANN, in the environment that torchrun sets; imported by each of them.

Every rank knows what all others hold, so each compares what HCCL gives it with what the CPU makes of all.
"""

import os
import time

import torch
import torch.distributed as dist
import torch_npu  # noqa: F401
from torch import nn

RANK, WORLD = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])
DEVICE = torch.device('npu', int(os.environ['LOCAL_RANK']))
REDUCED = [torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.int32, torch.int64]
MOVED = [*REDUCED, torch.uint8, torch.bool, torch.float64, torch.int16]
SIZES = [1, 1000, 300_001]  # the last one does not fit into the simulation's slots


def join():
    torch.npu.set_device(DEVICE)
    dist.init_process_group('hccl')


def held(rank, size, dtype, salt=0):
    """-> what a rank holds, on the CPU"""
    numbers = torch.Generator().manual_seed(1000 * salt + rank)
    return torch.randint(0, 4, (size,), generator=numbers).to(dtype)


def all_held(size, dtype, salt=0):
    return [held(rank, size, dtype, salt) for rank in range(WORLD)]


def mine(size, dtype, salt=0):
    return held(RANK, size, dtype, salt).to(DEVICE)


def same(found, expected, what=''):
    assert torch.equal(found.cpu(), expected), (what, found.cpu()[:8], expected[:8])


def reduced(parts, op):
    whole = torch.stack([part.to(torch.float64) for part in parts])
    return {'SUM': whole.sum(0), 'MAX': whole.amax(0), 'MIN': whole.amin(0), 'PRODUCT': whole.prod(0)}[op]


# ---- collectives


def check_all_reduce():
    for dtype in REDUCED:
        for op in ('SUM', 'MAX', 'MIN'):
            for size in SIZES:
                x = mine(size, dtype)
                dist.all_reduce(x, getattr(dist.ReduceOp, op))
                same(x, reduced(all_held(size, dtype), op).to(dtype), (dtype, op, size))
    x = torch.full((3,), 2.0, device=DEVICE)
    dist.all_reduce(x, dist.ReduceOp.PRODUCT)
    same(x, torch.full((3,), 2.0**WORLD))
    x = torch.full((3,), float(RANK), device=DEVICE)
    dist.all_reduce(x, dist.ReduceOp.AVG)
    same(x, torch.full((3,), (WORLD - 1) / 2))


def check_broadcast():
    for dtype in MOVED:
        for size in SIZES:
            x = mine(size, dtype)
            dist.broadcast(x, WORLD - 1)
            same(x, held(WORLD - 1, size, dtype), (dtype, size))


def check_all_gather():
    for dtype in MOVED:
        for size in SIZES:
            found = [torch.empty(size, dtype=dtype, device=DEVICE) for _ in range(WORLD)]
            dist.all_gather(found, mine(size, dtype))
            same(torch.cat([part.cpu() for part in found]), torch.cat(all_held(size, dtype)), (dtype, size))
    joined = torch.empty(WORLD * 7, device=DEVICE)
    dist.all_gather_into_tensor(joined, mine(7, torch.float32))
    same(joined, torch.cat(all_held(7, torch.float32)))


def check_all_gather_of_different_sizes():
    sizes = [3 + 70_000 * rank for rank in range(WORLD)]
    found = [torch.empty(size, device=DEVICE) for size in sizes]
    dist.all_gather(found, mine(sizes[RANK], torch.float32))
    for rank, part in enumerate(found):
        same(part, held(rank, sizes[rank], torch.float32))


def check_reduce():
    x = mine(1000, torch.float32)
    dist.reduce(x, 1)
    if RANK == 1:
        same(x, reduced(all_held(1000, torch.float32), 'SUM').float())


def check_reduce_scatter():
    for size in (1, 999, 70_001):
        parts = [held(RANK, size, torch.float32, salt).to(DEVICE) for salt in range(WORLD)]
        expected = reduced(all_held(size, torch.float32, RANK), 'SUM').float()
        x = torch.empty(size, device=DEVICE)
        dist.reduce_scatter(x, parts)
        same(x, expected, size)
        dist.reduce_scatter_tensor(x.zero_(), torch.cat(parts))
        same(x, expected, size)


def check_scatter_and_gather():
    x = torch.empty(1000, device=DEVICE)
    parts = [held(rank, 1000, torch.float32, 7).to(DEVICE) for rank in range(WORLD)]
    dist.scatter(x, parts if RANK == 1 else None, src=1)
    same(x, held(RANK, 1000, torch.float32, 7))
    found = [torch.empty(1000, device=DEVICE) for _ in range(WORLD)] if RANK == 0 else None
    dist.gather(x, found)
    if RANK == 0:
        same(torch.cat([part.cpu() for part in found]), torch.cat(all_held(1000, torch.float32, 7)))


def check_send_and_receive():
    for size in SIZES:
        x = torch.empty(size, device=DEVICE)
        right, left = (RANK + 1) % WORLD, (RANK - 1) % WORLD
        if RANK % 2 == 0:
            dist.send(mine(size, torch.float32), right)
            dist.recv(x, left)
        else:
            dist.recv(x, left)
            dist.send(mine(size, torch.float32), right)
        same(x, held(left, size, torch.float32), size)
        y = torch.empty(size, device=DEVICE)
        pairs = [dist.P2POp(dist.isend, mine(size, torch.float32), left), dist.P2POp(dist.irecv, y, right)]
        for work in dist.batch_isend_irecv(pairs):
            work.wait()
        same(y, held(right, size, torch.float32), size)


def check_all_to_all():
    for size in (1, 40_001):
        parts = [held(RANK, size, torch.float32, salt).to(DEVICE) for salt in range(WORLD)]
        expected = torch.cat([held(rank, size, torch.float32, RANK) for rank in range(WORLD)])
        found = [torch.empty(size, device=DEVICE) for _ in range(WORLD)]
        dist.all_to_all(found, parts)
        same(torch.cat([part.cpu() for part in found]), expected, size)
        joined = torch.empty(WORLD * size, device=DEVICE)
        dist.all_to_all_single(joined, torch.cat(parts))
        same(joined, expected, size)
    sent = [rank + 1 for rank in range(WORLD)]  # so many to each
    x = torch.empty(WORLD * (RANK + 1), device=DEVICE)
    dist.all_to_all_single(x, torch.full((sum(sent),), float(RANK), device=DEVICE), [RANK + 1] * WORLD, sent)
    same(x, torch.arange(float(WORLD)).repeat_interleave(RANK + 1))


def check_objects_and_barrier():
    objects = [None] * WORLD
    dist.all_gather_object(objects, {'rank': RANK})
    assert [each['rank'] for each in objects] == list(range(WORLD))
    said = [{'from': RANK}]
    dist.broadcast_object_list(said, 1)
    assert said == [{'from': 1}]
    begun = time.monotonic()
    if RANK == 0:
        time.sleep(0.5)
    dist.barrier()
    assert RANK == 0 or time.monotonic() - begun > 0.4
    assert dist.get_backend() == 'hccl'


def check_groups():
    groups = [dist.new_group([0, WORLD - 1]), dist.new_group(list(range(WORLD)))]
    for group, ranks in zip(groups, ([0, WORLD - 1], range(WORLD))):
        if RANK in ranks:
            x = torch.full((5,), float(RANK + 1), device=DEVICE)
            dist.all_reduce(x, group=group)
            same(x, torch.full((5,), float(sum(rank + 1 for rank in ranks))))


def check_the_collective_waits_for_what_computes():
    """Its stream is not the current one: torch_npu must make each wait for the other."""
    for number in range(10):
        x = torch.ones(100_000, device=DEVICE) * number
        for _ in range(5):
            x = x + 1
        dist.all_reduce(x)
        same(x + 1, torch.full((100_000,), WORLD * (number + 5.0) + 1))


# ---- training


def models():
    def one():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))

    synced = nn.SyncBatchNorm.convert_sync_batchnorm(one()).to(DEVICE)
    return one(), nn.parallel.DistributedDataParallel(synced, device_ids=[DEVICE.index])


def check_ddp_with_syncbn_equals_one_process():
    """The ranks' parts of a batch train as the whole batch does on the CPU."""
    plain, parallel = models()
    x = torch.randn(4 * WORLD, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    part = x[4 * RANK : 4 * RANK + 4].to(DEVICE)
    optimizers = [torch.optim.SGD(m.parameters(), 0.1) for m in (plain, parallel)]
    for _ in range(3):
        for model, optimizer, data in zip((plain, parallel), optimizers, (x, part)):
            optimizer.zero_grad()
            model(data).square().mean().backward()
            optimizer.step()
    for (name, a), b in zip(plain.state_dict().items(), parallel.module.state_dict().values()):
        assert (a.float() - b.cpu().float()).abs().max() < 1e-5, name


# ---- what goes wrong: not checks, as each ends the process group


def message_of(function):
    begun = time.monotonic()
    try:
        function()
        torch.npu.synchronize()
    except RuntimeError as e:
        return str(e), time.monotonic() - begun
    raise AssertionError('nothing was raised')


def dead_rank():
    """With HCCL_EXEC_TIMEOUT=3. -> what the others raise, and after how many seconds"""
    join()
    x = torch.ones(5, device=DEVICE)
    dist.all_reduce(x)
    torch.npu.synchronize()
    if RANK == WORLD - 1:
        return None  # it takes part in nothing more
    return message_of(lambda: dist.all_reduce(x))


def one_card():
    """-> what ranks raise that have all chosen the same card"""
    torch.npu.set_device(0)
    dist.init_process_group('hccl')
    return message_of(lambda: dist.all_reduce(torch.ones(5, device='npu:0')))


def different_calls():
    """-> what a rank raises that calls another collective than the others"""
    join()
    x = torch.ones(5, device=DEVICE)
    dist.all_reduce(x)
    return message_of(lambda: dist.all_reduce(torch.ones(5 + RANK, device=DEVICE)))


def refused_types():
    """-> what HCCL says of a type that its page does not list"""
    join()
    return message_of(lambda: dist.all_reduce(torch.ones(5, dtype=torch.float64, device=DEVICE)))


def check_end():
    dist.destroy_process_group()


if __name__ != '__main__' and os.environ.get('CANNSIM_CHECKS'):
    join()
