"""torch_npu.profiler, by torch.profiler: the host's operators are traced, and a trace file is really written."""

import datetime
import enum
import os
import socket
from typing import Any, Callable, Iterable, Optional

import torch.profiler as _torch

__all__ = [
    'profile',
    'ProfilerActivity',
    'supported_activities',
    'tensorboard_trace_handler',
    'schedule',
    'ProfilerAction',
    '_ExperimentalConfig',
    'supported_profiler_level',
    'supported_ai_core_metrics',
    'supported_export_type',
    'ProfilerLevel',
    'AiCMetrics',
    'ExportType',
]


class ProfilerActivity(enum.Enum):
    CPU = 0
    NPU = 1


class ProfilerAction(enum.Enum):
    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


class ProfilerLevel:
    Level0, Level1, Level2, Level_none = 'Level0', 'Level1', 'Level2', 'Level_none'


class AiCMetrics:
    PipeUtilization, ArithmeticUtilization = 'ACL_AICORE_PIPE_UTILIZATION', 'ACL_AICORE_ARITHMETIC_UTILIZATION'
    Memory, MemoryL0, MemoryUB = 'ACL_AICORE_MEMORY_BANDWIDTH', 'ACL_AICORE_L0B_AND_WIDTH', 'ACL_AICORE_MEMORY_UB'
    ResourceConflictRatio, L2Cache = 'ACL_AICORE_RESOURCE_CONFLICT_RATIO', 'ACL_AICORE_L2_CACHE'
    AiCoreNone = 'ACL_AICORE_NONE'


class ExportType:
    Db, Text = 'db', 'text'


def _values(cls):
    return {value for name, value in vars(cls).items() if not name.startswith('_')}


def supported_activities():
    return set(ProfilerActivity)


def supported_profiler_level():
    return _values(ProfilerLevel)


def supported_ai_core_metrics():
    return _values(AiCMetrics)


def supported_export_type():
    return _values(ExportType)


class _ExperimentalConfig:
    def __init__(
        self,
        profiler_level: int = ProfilerLevel.Level0,
        aic_metrics: int = AiCMetrics.AiCoreNone,
        l2_cache: bool = False,
        msprof_tx: bool = False,
        data_simplification: bool = True,
        record_op_args: bool = False,
        op_attr: bool = False,
        gc_detect_threshold: float = None,
        export_type: str = ExportType.Text,
    ):
        for what, value, known in (
            ('profiler_level', profiler_level, supported_profiler_level()),
            ('aic_metrics', aic_metrics, supported_ai_core_metrics()),
            ('export_type', export_type, supported_export_type()),
        ):
            if value not in known:  # on Ascend a warning, after which the default is taken
                raise ValueError('%s is %r; it must be one of %s' % (what, value, sorted(known)))


class schedule:
    """Which steps are recorded; `active` is the second positional argument, unlike torch.profiler's."""

    def __init__(self, wait: int, active: int, warmup: int = 0, repeat: int = 0, skip_first: int = 0) -> None:
        self._schedule = _torch.schedule(wait=wait, warmup=warmup, active=active, repeat=repeat, skip_first=skip_first)

    def __call__(self, step: int) -> ProfilerAction:
        return ProfilerAction[self._schedule(step).name]


def tensorboard_trace_handler(dir_name: str = None, worker_name: str = None, analyse_flag: bool = True):
    """-> a function for on_trace_ready, which writes <dir>/<worker>_<time>_ascend_pt/ASCEND_PROFILER_OUTPUT/."""

    def write(prof):
        now = datetime.datetime.now(datetime.timezone.utc).strftime('%Y%m%d%H%M%S%f')[:-3]
        worker = worker_name or '%s_%d' % (socket.gethostname(), os.getpid())
        folder = os.path.join(dir_name or os.getcwd(), '%s_%s_ascend_pt' % (worker, now), 'ASCEND_PROFILER_OUTPUT')
        os.makedirs(folder)
        if analyse_flag:
            prof.export_chrome_trace(os.path.join(folder, 'trace_view.json'))

    return write


class profile:
    def __init__(
        self,
        *,
        activities: Optional[Iterable[ProfilerActivity]] = None,
        schedule: Optional[Callable[[int], ProfilerAction]] = None,
        on_trace_ready: Optional[Callable[..., Any]] = None,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_flops: bool = False,
        with_modules: bool = False,
        experimental_config: Optional[_ExperimentalConfig] = None,
        use_cuda: Optional[bool] = None,
    ):
        unknown = set(activities or ()) - supported_activities()
        if unknown:
            raise ValueError('activities must be of torch_npu.profiler.ProfilerActivity, not %s' % unknown)
        if experimental_config is not None and not isinstance(experimental_config, _ExperimentalConfig):
            raise TypeError('experimental_config must be a torch_npu.profiler._ExperimentalConfig')
        self._torch = _torch.profile(
            activities=[_torch.ProfilerActivity.CPU],
            schedule=schedule and (lambda step: _torch.ProfilerAction[schedule(step).name]),
            on_trace_ready=on_trace_ready and (lambda _: on_trace_ready(self)),
            record_shapes=record_shapes,
            profile_memory=profile_memory,
            with_stack=with_stack,
            with_flops=with_flops,
            with_modules=with_modules,
        )

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.stop()

    def start(self):
        self._torch.start()

    def stop(self):
        self._torch.stop()

    def step(self):
        self._torch.step()

    def export_chrome_trace(self, output_path: str):
        if not output_path.endswith('.json'):
            raise RuntimeError('Invalid parameter output_path, which must be a json file.')
        self._torch.export_chrome_trace(output_path)

    def add_metadata(self, key: str, value: str):
        self._torch.add_metadata(key, value)

    def add_metadata_json(self, key: str, value: str):
        self._torch.add_metadata_json(key, value)
