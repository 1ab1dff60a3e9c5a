"""One rank of a process group 'hccl', in the environment that torchrun sets; imported by each of them."""

import os

import torch
import torch.distributed as dist
import torch_npu  # noqa: F401
from device import close, raises
from torch import nn

RANK, WORLD = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])
DEVICE = torch.device('npu', int(os.environ['LOCAL_RANK']))
torch.npu.set_device(DEVICE)
dist.init_process_group('hccl')


def check_collectives():
    x = torch.full((3,), RANK + 1.0, device=DEVICE)
    dist.all_reduce(x)
    assert x.device == DEVICE and x[0].item() == WORLD * (WORLD + 1) / 2
    dist.barrier()
    b = torch.full((2,), float(RANK), device=DEVICE)
    dist.broadcast(b, WORLD - 1)
    assert b[0].item() == WORLD - 1
    gathered = [torch.empty(1, device=DEVICE) for _ in range(WORLD)]
    dist.all_gather(gathered, torch.tensor([float(RANK)], device=DEVICE))
    assert [int(t) for t in gathered] == list(range(WORLD)) and gathered[0].device == DEVICE
    objects = [None] * WORLD
    dist.all_gather_object(objects, {'rank': RANK})
    assert [o['rank'] for o in objects] == list(range(WORLD))
    assert dist.get_backend() == 'hccl' and dist.is_hccl_available()
    raises(RuntimeError, 'cpu', dist.all_reduce, torch.ones(1))


def models():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    torch.manual_seed(0)
    synced = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(synced).to(DEVICE)
    return plain, nn.parallel.DistributedDataParallel(synced, device_ids=[DEVICE.index])


def check_ddp_with_syncbn_equals_one_process():
    """The ranks' halves of a batch train as the whole batch does on the CPU."""
    plain, parallel = models()
    x = torch.randn(4 * WORLD, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    mine = x[4 * RANK : 4 * RANK + 4].to(DEVICE)
    whole, part = (torch.optim.SGD(m.parameters(), 0.1) for m in (plain, parallel))
    for _ in range(3):
        for model, optimizer, data in ((plain, whole, x), (parallel, part, mine)):
            optimizer.zero_grad()
            model(data).square().mean().backward()
            optimizer.step()
    for (name, a), b in zip(plain.state_dict().items(), parallel.module.state_dict().values()):
        assert b.device == DEVICE, name
        close(a, b, 1e-5)
